"""Looks at a data set before anyone trains on it.

Most of what goes wrong in training is wrong in the data: a label value that no class has, labels mapped twice, a
photograph cut off on the way, an image of the validation list in the training list. All of it can be seen in minutes.
An error is what training must not start with; a doubt is what a person should look at. Each says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping

from segcore.data.datasets import Samples
from segcore.data.inspect.findings import Finding, Report
from segcore.data.inspect.maps import check_maps
from segcore.data.inspect.photographs import check_photographs
from segcore.data.inspect.survey import look_at
from segcore.data.statistics import Statistics

__all__ = ["Finding", "Report", "inspect"]


def inspect(
    lists: Mapping[str, Samples], expected: Statistics | None = None, thorough: bool = False, workers: int = 2
) -> Report:
    """Looks at every label, every file's head and 300 photographs.

    Args:
        lists: by split, `train` and `val` among them; all with one label table.
        expected: mean and deviation that photographs will be normalised with; None leaves them unjudged.
        thorough: decode all photographs.
        workers: threads that read.
    """
    found = look_at(lists, thorough, workers)
    findings = [*check_photographs(found, expected), *check_maps(found)]
    return Report(found, expected, tuple(sorted(findings, key=lambda finding: finding.level != "error")))
