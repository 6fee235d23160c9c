"""`segcore models`: every network with its size, cost and published numbers.

    segcore models
    segcore models bisenetv2 stdc1 --json
    segcore models --all                                     # also pairs of encoder and decoder that nobody published

Networks that nobody published are named by encoder and decoder, such as `resnet18_c1`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from segcore.models import model_names
from segcore.models.catalogue import CARDS, card, cost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these networks")
    parser.add_argument("--all", action="store_true", help="also pairs of encoder and decoder that nobody published")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="machine-readable")
    shape.add_argument("--markdown", action="store_true", help="as in README")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table.

    Raises:
        RecipeError: an unknown name.
    """
    others = [name for name in model_names() if name not in CARDS] if arguments.all else []
    names = arguments.names or [*CARDS, *others]
    found = [row(name) for name in names]
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif arguments.markdown:
        print(markdown(found))
    else:
        Console().print(_table(found))


def row(name: str) -> dict[str, Any]:
    """What is said of one network."""
    about = card(name)
    counted = asdict(cost(name, about.num_classes, about.size))
    return {
        "name": name,
        **counted,
        "size": list(about.size),
        "num_classes": about.num_classes,
        "published": about.published,
        "source": about.source,
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of README."""
    head = ["| network | parameters (training) | GMAC | at | classes | published mIoU % | by |"]
    head += ["| --- | --: | --: | --: | --: | --- | --- |"]
    return "\n".join(head + [f"| `{cells[0]}` | {' | '.join(cells[1:])} |" for cells in map(_cells, rows)])


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for title in ("network", "parameters (training)", "GMAC", "at", "classes", "published mIoU %", "by"):
        table.add_column(title, justify="right" if title in ("GMAC", "classes") else "left", no_wrap=title == "network")
    for cells in map(_cells, rows):
        table.add_row(*cells)
    return table


def _cells(found: dict[str, Any]) -> list[str]:
    height, width = found["size"]
    return [
        found["name"],
        f"{found['parameters']:,} ({found['training_parameters']:,})",
        f"{found['gmac']:.1f}",
        f"{height}x{width}",
        str(found["num_classes"]),
        found["published"],
        found["source"],
    ]
