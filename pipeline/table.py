"""All experiments in one table: keeps them in docs/results/, and writes its page and all tables, README's too.

    python -m pipeline.table               # keeps what is new in the workspace and in this repository's experiments
    python -m pipeline.table --keep        # the run of the workspace takes the place of the kept one of its name
    python -m pipeline.table --keep NAME   # the same with an experiment
    python -m pipeline.table --offline     # keeps nothing: only writes the tables anew

What is kept is in git's hands from then on: delete a folder of docs/results/ to leave its run out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from pipeline.settings import stage
from pipeline.tables.page import write_page
from pipeline.tables.runs import RESULTS, Found, Run, experiments, workspace
from pipeline.tables.texts import brief_rows, terminal
from pipeline.tables.written import NETWORKS, README, Results, write_pages, write_picture, write_texts
from segcore.errors import RecipeError


@stage
def main() -> None:
    """Keeps, writes and prints."""
    arguments = _arguments()
    if not arguments.offline:
        found = list(_found())
        for line in [item for item in found if isinstance(item, str)]:
            print(line)
        for line in keep([item for item in found if isinstance(item, Found)], arguments.keep):
            print(line)
    results = Results.read()
    write_texts(results)
    write_picture(results)
    write_page(results)
    write_pages(results)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(terminal("mIoU %, mean ± deviation over n seeds", *brief_rows(results.runs, results.means)))
    console.print(f"Written: {RESULTS}/table.md, .csv, .png, claims.md, .csv, index.html; {README}, {NETWORKS}")


def keep(found: Iterable[Found], replace: list[str] | None = None, results: Path = RESULTS) -> list[str]:
    """Keeps what has no folder yet, and what `replace` names; says what was done and what was left as it is.

    `replace`: None for nothing, empty for the workspace, else names of experiments.

    Raises:
        RecipeError: a name to replace is not among them.
    """
    found = list(found)
    wanted = {"the workspace"} if replace == [] else {f"experiment {name}" for name in replace or ()}
    if missing := wanted - {item.where for item in found}:
        raise RecipeError(
            f"--keep: {', '.join(sorted(missing))} has no results; `dvc exp list -A` names the experiments"
        )
    lines: dict[str, str] = {}
    # What is asked for first, so that no other run of the same name comes before it.
    for item in sorted(found, key=lambda item: item.where not in wanted):
        folder = results / item.name
        if item.name in lines:
            continue
        if item.where in wanted or not folder.exists():
            lines[item.name] = f"kept {item.where} in {item.keep(results)}"
        elif not item.is_kept_as(Run(folder)):
            lines[item.name] = f"{folder} stays: {item.where} is another run of that name (--keep takes it instead)"
    return list(lines.values())


def _found() -> Iterable[Found | str]:
    if here := workspace():
        yield here
    yield from experiments()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.table", description=__doc__.splitlines()[0])
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--keep", nargs="*", metavar="NAME", help="replace what is kept: the workspace's run, or these")
    chosen.add_argument("--offline", action="store_true", help="look for no experiments, only write the tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
