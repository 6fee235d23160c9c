"""Findings about a data set, and the report that carries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from segcore.data.inspect.survey import Survey
from segcore.data.statistics import Statistics
from segcore.errors import DataError

FILES_KEPT = 100  # of one finding, in the report


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (`error`) or that a person should look at (`doubt`).

    Attributes:
        what: continues the name of the file or list it is about: "is grey", "no such file".
        remedy: what to do.
        files: which ones, the first ones by name.
        count: how many there are in all.
    """

    level: Literal["error", "doubt"]
    what: str
    remedy: str
    files: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"

    @property
    def where(self) -> str:
        """The first file, and how many more."""
        return self.files[0] + (f" and {self.count - 1} more" if self.count > 1 else "")


def error(what: str, remedy: str, files: Sequence[str]) -> Finding:
    """What training must not start with."""
    return Finding("error", what, remedy, tuple(files[:FILES_KEPT]), len(files))


def doubt(what: str, remedy: str, files: Sequence[str]) -> Finding:
    """What may be meant so."""
    return Finding("doubt", what, remedy, tuple(files[:FILES_KEPT]), len(files))


@dataclass(frozen=True)
class Report:
    """What a look at a data set gave.

    Attributes:
        survey: the facts.
        expected: the mean and deviation that photographs will be normalised with, if known.
        findings: errors first.
    """

    survey: Survey
    expected: Statistics | None
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop a training."""
        return [finding for finding in self.findings if finding.level == "error"]

    def refuse_errors(self, remedy: str) -> None:
        """Raises DataError with the first error, if there is one; `remedy` says how to see the others."""
        if self.errors:
            rest = f" ({len(self.errors) - 1} more findings of this kind; {remedy})" if len(self.errors) > 1 else ""
            raise DataError(f"{self.errors[0]}{rest}")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, equal for equal data: no time, no place, no machine."""
        labels = self.survey.labels
        return {
            "errors": len(self.errors),
            "doubts": len(self.findings) - len(self.errors),
            "findings": [_plain(finding) for finding in self.findings],
            "labels": {"classes": list(labels.names), "digest": labels.digest},
            "expected": self.expected and self.expected._asdict(),
            "splits": {name: self._split(name) for name in self.survey.splits},
        }

    def _split(self, name: str) -> Mapping[str, Any]:
        split = self.survey.splits[name]
        measured = split.statistics
        return {
            **split.census.summary(self.survey.labels),
            "pairs": len(split.pairs),
            "decoded": len(split.looks),
            "statistics": measured and measured._asdict(),
        }


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level,
        "what": finding.what,
        "remedy": finding.remedy,
        "files": list(finding.files),
        "count": finding.count,
    }
