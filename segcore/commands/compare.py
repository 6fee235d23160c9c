"""`segcore compare`: two evaluations of the same images, with a verdict.

    segcore compare evaluation deployed                      # folders that `segcore evaluate` wrote, B less A
    segcore compare evaluation deployed --modes ss --json

Both are resampled alike, so that images that are hard for both do not hide a difference.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from segcore.evaluate.comparison import Difference, Evaluation, common_modes, compare
from segcore.evaluate.uncertainty import LEVEL, RESAMPLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("a", type=Path, metavar="A", help="folder of an evaluation, or its images.npz")
    parser.add_argument("b", type=Path, metavar="B", help="another one, of the same images")
    parser.add_argument("--modes", nargs="+", metavar="MODE", help="default: all that both have")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Prints, for each mode, B less A in mIoU and in every class.

    Raises:
        DataError: an evaluation is missing or damaged, or the two are of different images or labels.
    """
    a, b = Evaluation.read(arguments.a), Evaluation.read(arguments.b)
    found = {mode: compare(a, b, mode) for mode in arguments.modes or common_modes(a, b)}
    if arguments.json:
        content = {mode: [asdict(row) | {"verdict": row.verdict} for row in rows] for mode, rows in found.items()}
        about = {"images": len(a.images), "resamples": RESAMPLES, "level": LEVEL}
        print(json.dumps({"a": str(a.folder), "b": str(b.folder), **about, "modes": content}, indent=2))
        return
    console = Console()
    for mode, rows in found.items():
        console.print(_table(mode, rows))
        console.print(_sentence(mode, rows[0], len(a.images)), end="\n\n")
    console.print(
        f"A: {a.folder}, B: {b.folder}. Among many classes about one in twenty seems distinguishable by chance; what "
        "another seed would give is not in the intervals.",
        highlight=False,
    )


def _table(mode: str, rows: list[Difference]) -> Table:
    table = Table(title=f"mode {mode}, B less A", title_justify="left", box=None)
    for name in ("", "A %", "B %", "difference", "95 % interval", "verdict"):
        table.add_column(name, justify="left" if name in ("", "verdict") else "right")
    for row in rows:
        sides = ("–" if side is None else f"{100 * side:.2f}" for side in (row.a, row.b))
        if row.difference is None:
            table.add_row(row.name, *sides, "–", "–", "absent")
        else:
            table.add_row(row.name, *sides, _points(row.difference), _range(row), row.verdict)
    return table


def _range(row: Difference) -> str:
    return " … ".join(map(_points, row.interval))


def _points(difference: float) -> str:
    return f"{round(100 * difference, 2) + 0.0:+.2f}"  # never -0.00


def _sentence(mode: str, row: Difference, images: int) -> str:
    points = f"B less A is {_points(row.difference)} points of mIoU, {_range(row)} in 95 % of {RESAMPLES} resamples"
    return f"{mode}: {row.verdict} on these {images} images. {points}."
