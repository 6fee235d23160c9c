"""`segcore inspect`: looks at a data set before anyone trains on it.

    segcore inspect minicity                                 # a data set of the data store
    segcore inspect work/annotations/train.csv --thorough    # a list, every photograph decoded
    segcore inspect cityscapes --augment --crop 512x1024     # also what the net will see

Writes a picture of samples (`samples.png`) and everything it found (`inspection.json`). Ends with 1 if training must
not start; doubts do not count for that.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from segcore.commands.arguments import positive, size
from segcore.data.inspect import Report, inspect
from segcore.data.inspect.places import find_lists, find_table
from segcore.data.inspect.sheet import Augmentation, augmented_sheet, sample_sheet
from segcore.data.inspect.survey import DECODED, Split, Survey
from segcore.data.statistics import DATASETS, Statistics
from segcore.data.transforms import Published
from segcore.errors import DataError
from segcore.files import atomic_write, write_json

MOST_ROWS = 40  # classes shown; of more, the most and the least frequent
LARGEST_CROP = (512, 1024)
COLORS = {"error": "bold red", "doubt": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add(
        "data",
        nargs="+",
        metavar="DATASET_OR_LIST",
        help="a data set of the data store, a folder, or lists (.csv, .odgt)",
    )
    add(
        "--labels",
        metavar="F",
        help="label table, a file or a known name; default: labels.csv beside, or the set's own",
    )
    add("--root", type=Path, metavar="DIR", help="where the lists' paths start; default: what `root` beside them says")
    numbers = {"nargs": 3, "type": float, "metavar": ("R", "G", "B")}
    add(
        "--mean",
        **numbers,
        help="of RGB in 0 … 1, that images are to be normalised with; default: the table's, if known",
    )
    add("--std", **numbers, help="and the deviation")
    add("--thorough", action="store_true", help=f"decode all photographs; default: {DECODED} of them")
    add("--out", type=Path, default=Path("inspection"), metavar="DIR", help="folder for the pictures and the findings")
    add("--json", action="store_true", help="machine-readable")
    augmented = parser.add_argument_group("what the net will see")
    add = augmented.add_argument
    add("--augment", action="store_true", help="also a picture of augmented samples, augmented.png")
    add("--crop", type=size, metavar="HxW", help="default: the commonest size, at most 512x1024")
    add("--scales", nargs=2, type=_factor, default=(0.5, 2.0), metavar=("MIN", "MAX"), help="default: 0.5 2.0")
    add("--jitter", type=float, default=0.4, metavar="F", help="of brightness, contrast, saturation; default: 0.4")
    add("--transform", choices=get_args(Published), default="bisenet", help="whose; default: bisenet")
    add("--scale-steps", type=positive(int), metavar="N", help="so many factors, evenly spaced; default: any between")
    add("--seed", type=int, default=1, metavar="N", help="another one draws other crops")


def run(arguments: argparse.Namespace) -> None:
    """Looks, writes and prints.

    Raises:
        DataError: nothing there to look at, or training must not start with what was found.
    """
    table = find_table(arguments.labels) if arguments.labels else None
    lists = find_lists(arguments.data, table, arguments.root)
    expected = _expected(arguments, next(iter(lists.values())).labels.name)
    _make_folder(arguments.out)
    report = inspect(lists, expected, arguments.thorough, _workers())
    written = [arguments.out / "samples.png", arguments.out / "inspection.json"]
    _write_picture(written[0], sample_sheet(report))
    write_json(written[1], report.to_dict())
    if arguments.augment:
        written.append(arguments.out / "augmented.png")
        _write_picture(written[2], augmented_sheet(report.survey, _augmentation(arguments, report.survey)))
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        Console().print(_page(report))
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    if report.errors:
        count = len(report.errors)
        raise DataError(f"{count} error{'s' * (count > 1)} in the data; mend {'them' if count > 1 else 'it'} first")


def _workers() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _make_folder(folder: Path) -> None:
    """Before anything is looked at, which may take minutes."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _expected(arguments: argparse.Namespace, table: str) -> Statistics | None:
    if bool(arguments.mean) != bool(arguments.std):
        raise DataError("--mean and --std belong together; give both or neither")
    if arguments.std and min(arguments.std) <= 0:
        raise DataError(f"--std {min(arguments.std)}: a deviation must be above 0")
    return Statistics(tuple(arguments.mean), tuple(arguments.std)) if arguments.mean else DATASETS.get(table)


def _augmentation(arguments: argparse.Namespace, survey: Survey) -> Augmentation:
    sizes = sum((split.census.sizes for split in survey.splits.values()), Counter())
    common = map(int, sizes.most_common(1)[0][0].split("×")) if sizes else LARGEST_CROP
    crop = arguments.crop or tuple(min(pair) for pair in zip(common, LARGEST_CROP, strict=True))
    how = (arguments.jitter, arguments.seed, arguments.transform, arguments.scale_steps)
    return Augmentation(crop, tuple(sorted(arguments.scales)), *how)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    # Photographs hardly shrink with more effort than this, and a sheet of them would take seconds.
    content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.tobytes())


def _page(report: Report) -> RenderableType:
    return Group(_lists(report.survey), "", _classes(report.survey), "", _findings(report))


def _lists(survey: Survey) -> Table:
    table = Table(box=None, pad_edge=False)  # as narrow as it can be: 79 columns with pictures of 1024×2048
    for title in ("list", "pairs", "sizes", "ignored", "decoded", "mean R G B", "deviation R G B"):
        right = title in ("pairs", "ignored", "decoded")
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "sizes")
    for name, split in survey.splits.items():
        numbers = split.census.summary(survey.labels)
        statistics = [" ".join(f"{x:.3f}" for x in part) for part in split.statistics or ()] or ["–", "–"]
        ignored = f"{100 * numbers['ignored']:.1f} %"
        table.add_row(name, str(len(split.pairs)), _sizes(split), ignored, str(len(split.looks)), *statistics)
    return table


def _sizes(split: Split) -> str:
    found = split.census.sizes.most_common(2)
    more = len(split.census.sizes) - len(found)
    return ", ".join(size for size, _ in found) + (f", {more} more" if more else "")


def _classes(survey: Survey) -> Table:
    """Share of the counted pixels and of the images, by class; train ids count from 0."""
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("class")
    for name in survey.splits:
        table.add_column(f"{name}: pixels %", justify="right")
        table.add_column("images %", justify="right")
    for k in _shown(survey):
        if isinstance(k, str):
            table.add_row("", k)
        else:
            cells = (cell for split in survey.splits.values() for cell in _shares(split, k))
            table.add_row(str(k), Text(survey.labels.names[k]), *cells)
    return table


def _shown(survey: Survey) -> Iterator[int | str]:
    """Train ids to show, and a word on those that are not."""
    number, splits = survey.labels.num_classes, survey.splits.values()
    if number <= MOST_ROWS:
        yield from range(number)
        return
    occur = np.any([split.census.present > 0 for split in splits], axis=0)
    order = np.argsort(-next(iter(splits)).census.pixels, kind="stable")
    order = order[occur[order]].tolist()
    if len(order) > MOST_ROWS:
        order[MOST_ROWS // 2 : -MOST_ROWS // 2] = [f"… {len(order) - MOST_ROWS} more …"]
    yield from order
    if not occur.all():
        yield f"… {number - np.count_nonzero(occur)} absent …"


def _shares(split: Split, k: int) -> Sequence[str]:
    census = split.census
    if not census.present[k]:
        return "[yellow]–[/]", "[yellow]–[/]"
    return f"{100 * census.pixels[k] / census.pixels.sum():.2f}", f"{100 * census.present[k] / census.images:.0f}"


def _findings(report: Report) -> RenderableType:
    if not report.findings:
        return Text("Nothing to find fault with.", "green")
    table = Table.grid("level", Column("finding", overflow="fold"), padding=(0, 2))  # names are not cut short
    for finding in report.findings:
        table.add_row(Text(finding.level, COLORS[finding.level]), Text(f"{finding.where}: {finding.what}"))
        for name in finding.files[1:4]:
            table.add_row("", Text(name, "dim"))
        if finding.count > 4:
            table.add_row("", Text(f"and {finding.count - 4} more, see inspection.json", "dim"))
        table.add_row("", Text(f"→ {finding.remedy}"))
    return table


def _factor(text: str) -> float:
    value = float(text)
    if not 0 < value <= 8:
        raise ValueError
    return value


_factor.__name__ = "factor of 0 … 8"  # as argparse's message has it
