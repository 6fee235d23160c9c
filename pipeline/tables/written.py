"""The files that the tables are written into, which follow from the kept runs and claims.yaml alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from pipeline.tables.pictures import seeds_figure
from pipeline.tables.published import Claim, newest, read_claims
from pipeline.tables.runs import RESULTS, Run, kept_runs
from pipeline.tables.summary import means, measurements
from pipeline.tables.texts import (
    CLAIM_ALIGN,
    CLAIM_HEADER,
    claim_row,
    claims_csv,
    count_rows,
    markdown,
    results_csv,
    results_rows,
    runs_rows,
)
from pipeline.tables.verdicts import Verdict, judge
from segcore.commands import models
from segcore.errors import RecipeError
from segcore.files import atomic_write, write_csv
from segcore.models.catalogue import CARDS
from segcore.visualize import figure_png

README, NETWORKS = Path("README.md"), Path("docs/networks.md")
COMMAND = "python -m pipeline.table"
# Name of a table -> the lines it stands between.
MARKS = {
    name: (f"<!-- {name}: written by `{COMMAND}` -->", f"<!-- end of {name} -->")
    for name in ("results", "claims", "networks")
}
NOTE = (
    "mIoU in % on the validation split: the mean over n seeds with their standard deviation, never the best of them. "
    "*image-blind* is the score of a map that sees no image. † the runs do not share images, labels and code, so that "
    "their mean is of different things."
)
SPEED_NOTE = (
    "*fps* is of the fastest engine, with its own mIoU at that size where it was scored; with ≥ it was measured while "
    "other programs ran."
)
CLAIMS_NOTE = (
    "*here* is the mean over our seeds. *reproduced*: it lies in the range that the column *because* names with its "
    "origin. A speed is judged on the published hardware alone. *not measured* can be had: the recipe of that name "
    "trains it."
)


@dataclass(frozen=True)
class Results:
    """Everything that is shown: kept runs, their means, the claims and their verdicts."""

    runs: Sequence[Run]
    claims: Sequence[Claim]

    @classmethod
    def read(cls, folder: Path = RESULTS) -> Results:
        """From docs/results/ and claims.yaml."""
        return cls(kept_runs(folder), read_claims())

    @cached_property
    def means(self) -> pd.DataFrame:
        """One row a number of a network."""
        return means(measurements(self.runs))

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One for each claim."""
        return judge(self.claims, self.means)

    @cached_property
    def published(self) -> dict[tuple[str, str, str], float]:
        """The newest mIoU of the authors by data set, network and mode, where one was trained here."""
        pairs = {(run.params["dataset"], run.params["model"]) for run in self.runs}
        return {
            (dataset, model, mode): value
            for dataset, model in pairs
            for mode, value in newest(self.claims, model, dataset).items()
        }


def text_files(results: Results) -> dict[str, str]:
    """Markdown files of docs/results/ by name."""
    table = markdown(*results_rows(results.runs, results.means, ""))
    every = markdown(*runs_rows(results.runs))
    claims = markdown(CLAIM_HEADER, [claim_row(verdict) for verdict in results.verdicts], CLAIM_ALIGN)
    counts = markdown(*count_rows(results.verdicts))
    head = f"<!-- written by `{COMMAND}` -->"
    shown = f"![Every seed's mIoU](table.png)\n\n## Every run\n\n{every}"
    return {
        "table.md": f"{head}\n# Results\n\n{NOTE} {SPEED_NOTE}\n\n{table}\n\n{shown}\n",
        "claims.md": f"{head}\n# Claims\n\n{CLAIMS_NOTE}\n\n{counts}\n\n## Every claim\n\n{claims}\n",
    }


def write_texts(results: Results, folder: Path = RESULTS) -> None:
    """Writes table.md, table.csv, claims.md and claims.csv."""
    for name, text in text_files(results).items():
        _write(folder / name, text)
    write_csv(folder / "table.csv", *results_csv(results.means))
    write_csv(folder / "claims.csv", *claims_csv(results.verdicts))


def write_picture(results: Results, folder: Path = RESULTS) -> None:
    """Writes table.png, if anything was scored."""
    scores = results.means[results.means.metric == "miou"]
    if len(scores):
        with atomic_write(folder / "table.png") as temporary:
            temporary.write_bytes(figure_png(seeds_figure(scores, results.published)))


def write_pages(results: Results) -> None:
    """Rewrites the tables of README and of docs/networks.md."""
    for path, tables in ((README, readme_tables(results)), (NETWORKS, network_tables())):
        text = path.read_text(encoding="utf-8")
        for name, content in tables.items():
            text = with_table(text, name, content)
        _write(path, text)


def readme_tables(results: Results) -> dict[str, str]:
    """What stands in README, by name."""
    return {
        "results": markdown(*results_rows(results.runs, results.means, f"{RESULTS.as_posix()}/")),
        "claims": markdown(*count_rows(results.verdicts)),
    }


def network_tables() -> dict[str, str]:
    """What stands in docs/networks.md, by name. Counting the cost of every network takes seconds."""
    return {"networks": models.markdown([models.row(name) for name in CARDS])}


def with_table(text: str, name: str, content: str) -> str:
    """`text` with the table called `name` replaced by `content`.

    Raises:
        RecipeError: its marks are gone.
    """
    start, end = MARKS[name]
    if start not in text or end not in text:
        raise RecipeError(f"{README} or {NETWORKS}: the marks {start!r} and {end!r} are gone; put them back")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
