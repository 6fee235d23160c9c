"""Compares what came out here with what is committed: number, difference, tolerance, verdict.

`make repro` ends with it. On a machine of the same type the scores are bit-equal; elsewhere rounding differs between
processors and grows over a training, so that the data set states a tolerance (`miou_tolerance`). Exits with 1 if a
mIoU lies outside. Frames per second are shown beside each other only for the same device, and never fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.settings import METRICS, REPORT, About, section, stage
from segcore.errors import DataError

EVALUATE, BENCHMARK, PROVENANCE = (f"{METRICS}/{name}.json" for name in ("evaluate", "benchmark", "provenance"))
EXACTLY = "comes out again, to the last digit"
Nested = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One number, None on the side that lacks it; without a tolerance it is shown and not judged."""

    name: str
    committed: float | None
    here: float | None
    tolerance: float | None = None

    @property
    def verdict(self) -> str:
        """One or two words."""
        if self.committed is None or self.here is None:
            return "new" if self.committed is None else "missing here"
        if self.committed == self.here:
            return "equal"
        if self.tolerance is None:
            return "differs"
        return "within" if abs(self.here - self.committed) <= self.tolerance else "OUTSIDE"

    @property
    def failed(self) -> bool:
        """Whether a judged number did not come out again."""
        return self.tolerance is not None and self.verdict in ("OUTSIDE", "missing here")


@stage
def main() -> None:
    """Prints the comparison and where the report lies."""
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    here = {path: _read(Path(path)) for path in (EVALUATE, BENCHMARK, PROVENANCE)}
    there = {path: committed(path) for path in here}
    try:
        compare(here, there, section("about", About).miou_tolerance, console)
    finally:
        console.print(f"Report: {REPORT / 'report.html'}")


def compare(here: dict[str, Nested], there: dict[str, Nested | None], allowed: float, console: Console) -> None:
    """Prints what can be compared of the metrics `here` and the committed ones `there`, both by path.

    Raises:
        DataError: a committed mIoU lies outside the tolerance or did not come out at all.
    """
    if there[EVALUATE] is None:
        console.print("No metrics are committed yet, so there is nothing to compare with; commit metrics/ to have it.")
        return
    if another := other_run(here[PROVENANCE], there[PROVENANCE]):
        console.print(f"The committed metrics belong to another run ({another}); nothing is compared.")
        return
    rows = score_rows(there[EVALUATE], here[EVALUATE], allowed)
    console.print(_table("Scores against the committed ones", rows))
    if there[EVALUATE] == here[EVALUATE]:
        console.print(f"{EVALUATE} {EXACTLY}.")
    else:
        console.print(
            f"Tolerance of mIoU ± {allowed:g}: bit-equal is promised on the same machine type and versions; on others "
            "rounding differs and grows over the training."
        )
    _print_speed(there[BENCHMARK] or {}, here[BENCHMARK], console)
    if failed := [row.name for row in rows if row.failed]:
        causes = "; ".join(differences(there[PROVENANCE] or {}, here[PROVENANCE])) or "nothing that is recorded"
        raise DataError(
            f"{', '.join(failed)}: not within {allowed:g} of the committed value. What differs: {causes}. Go back to "
            "the committed state and run `make repro` again, or commit metrics/ if the change is meant"
        )


def committed(path: str) -> Nested | None:
    """A JSON file as it stands in the last commit; None if it is in none, or this is no git repository."""
    command = ["git", "show", f"HEAD:./{path}"]
    try:
        shown = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:
        return None
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def other_run(here: Nested, there: Nested | None) -> str:
    """Which parameters differ, in words; empty if the runs are meant to be equal."""
    before, now = ({**(run or here)["params"]} for run in (there, here))
    names = [name for name in now if before.get(name) != now[name]]
    return ", ".join(f"{name} {before.get(name)!r}, here {now[name]!r}" for name in names)


def score_rows(before: Nested, now: Nested, allowed: float) -> list[Row]:
    """mIoU of every mode with its tolerance, then what is only shown."""
    modes = list(dict.fromkeys([*before["miou"], *now["miou"]]))
    rows = [Row(f"mIoU {mode}", before["miou"].get(mode), now["miou"].get(mode), allowed) for mode in modes]
    accuracies = before.get("pixel_accuracy", {}), now.get("pixel_accuracy", {})
    rows += [Row(f"pixel accuracy {mode}", *(values.get(mode) for values in accuracies)) for mode in modes]
    return [*rows, Row("classes averaged", before.get("classes_averaged"), now.get("classes_averaged"))]


def speed_rows(before: Nested, now: Nested) -> list[Row]:
    """Frames per second on the devices that both sides have."""
    devices = [slug for slug in now["fps"] if slug in before.get("fps", {})]
    pairs = [(before["fps"][slug], now["fps"][slug]) for slug in devices]
    return [Row(key, old.get(key), new.get(key)) for old, new in pairs for key in dict.fromkeys([*old, *new])]


def differences(before: Nested, now: Nested, most: int = 6) -> list[str]:
    """What the two provenances disagree on, in words; results are no cause and left out."""
    kinds = ("digests", "versions", "training_device")
    causes = [dict(_leaves({kind: side.get(kind) for kind in kinds})) for side in (before, now)]
    names = [name for name in dict.fromkeys([*causes[0], *causes[1]]) if name != "digests.checkpoint"]
    changed = [name for name in names if causes[0].get(name) != causes[1].get(name)]
    words = [f"{name} {_short(causes[0].get(name))} → {_short(causes[1].get(name))}" for name in changed[:most]]
    return words + [f"{len(changed) - most} more"] * (len(changed) > most)


def _print_speed(before: Nested, now: Nested, console: Console) -> None:
    rows = speed_rows(before, now)
    if rows:
        console.print(_table(f"Frames per second on {', '.join(now['fps'])}, for information", rows))
    elif before.get("fps"):
        there, here = (", ".join(side["fps"]) for side in (before, now))
        console.print(
            f"Frames per second are not compared: {there} is committed, {here} was measured on another machine."
        )


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("number")
    for name in ("committed", "here", "difference", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        both = row.committed is not None and row.here is not None
        gap = f"{row.here - row.committed:+.6g}" if both else "–"
        values = [_number(value) for value in (row.committed, row.here)]
        style = "bold red" if row.failed else None
        table.add_row(row.name, *values, gap, _number(row.tolerance), row.verdict, style=style)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.10g}"


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield prefix.rstrip("."), tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{prefix}{key}.")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text[:8] if len(text) == 64 else text


def _read(path: Path) -> Nested:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"{path} is not there; `dvc repro report` makes it") from None


if __name__ == "__main__":
    main()
