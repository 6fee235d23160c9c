"""docs/results/index.html: all experiments side by side, self-contained, made with what the reports are made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting.page import (
    Block,
    Cell,
    KeyFigure,
    KeyFigures,
    Notice,
    Page,
    Picture,
    Section,
    Table,
    Text,
    to_html,
)
from pipeline.reporting.words import NONE, digits, percent
from pipeline.tables.pictures import label, pareto_figure, pareto_rows, seeds_figure
from pipeline.tables.published import MODES
from pipeline.tables.runs import RESULTS
from pipeline.tables.summary import GROUP, setting
from pipeline.tables.texts import CLAIM_ALIGN, CLAIM_HEADER, brief_rows, claim_row, count_rows
from pipeline.tables.verdicts import ABOVE, BELOW, NOT_HERE, NOT_MEASURED, REPRODUCED, WORDS, Verdict, count
from pipeline.tables.written import CLAIMS_NOTE, NOTE, Results
from segcore.files import atomic_write
from segcore.visualize import figure_svg

INDEX = "index.html"
PARETO_NOTE = (
    "Batch 1; score and rate are of images of the same size, and the score is that of the very engine, or, where none "
    "was scored, that of the network, for fp32 alone. Colour is the network, shape the backend; hollow: other "
    "programs ran, so it is a lower bound. The line joins what nothing else beats in both; bars are deviations over "
    "seeds."
)
VERDICT_COLORS = {REPRODUCED: (63, 158, 95), BELOW: (200, 40, 48), ABOVE: (47, 127, 208)}


def write_page(results: Results, folder: Path = RESULTS) -> None:
    """Writes index.html."""
    with atomic_write(folder / INDEX) as temporary:
        temporary.write_text(to_html(build_page(results)), encoding="utf-8")


def build_page(results: Results) -> Page:
    """The whole page."""
    if not results.runs:
        return Page("Results", "Nothing is kept yet.", [claims_section(results)])
    sections = [networks_section(results), *class_sections(results), *speed_sections(results)]
    sections += [claims_section(results), runs_section(results)]
    return Page("Results", _subtitle(results), sections)


def _subtitle(results: Results) -> str:
    networks = {(run.params["model"], setting(run.params["override"])) for run in results.runs}
    datasets = {run.params["dataset"] for run in results.runs}
    runs = f"{len(results.runs)} runs of {len(networks)} trainings on {', '.join(sorted(datasets))}"
    return f"{runs}; {len(results.claims)} published numbers."


def networks_section(results: Results) -> Section:
    """One row a network, and every seed as a dot."""
    blocks: list[Block] = [Table(*brief_rows(results.runs, results.means), NOTE)]
    scores = results.means[results.means.metric == "miou"]
    if len(scores):
        caption = (
            "Each dot is a seed, the tick their mean, the bar the standard deviation. An orange line is the published "
            "number, where data set and mode are those it was published for."
        )
        blocks.append(_picture("table.png", seeds_figure(scores, results.published), "mIoU of every seed", caption))
    return Section("Networks", blocks)


def class_sections(results: Results) -> Iterator[Section]:
    """A table of IoU by class and network for each data set, tinted by the value; the mean over the seeds."""
    rows = [
        (
            run.params["dataset"],
            run.params["model"],
            setting(run.params["override"]),
            run.params["seed"],
            mode,
            name,
            iou,
        )
        for run in results.runs
        for mode, classes in run.classes.items()
        for name, iou in classes.items()
    ]
    frame = pd.DataFrame(rows, columns=[*GROUP, "seed", "mode", "class", "iou"])
    frame = frame.drop_duplicates([*GROUP, "seed", "mode", "class"])
    for dataset, part in frame.groupby("dataset", sort=True):
        # The mode that most networks were scored in, so that columns can be compared.
        mode = part.groupby("mode", sort=False)[GROUP].apply(lambda group: len(group.drop_duplicates())).idxmax()
        yield Section(f"Classes of {dataset}", [_heat_table(part[part["mode"] == mode], str(mode))])


def _heat_table(part: pd.DataFrame, mode: str) -> Table:
    part = part.assign(network=[label(row) for _, row in part.iterrows()])
    ious = part.pivot_table(index="class", columns="network", values="iou", aggfunc="mean", sort=False)
    ious = ious.loc[ious.mean(axis=1).sort_values(ascending=False).index]
    rows = [
        [str(name), *(_heat(value) for value in values)]
        for name, values in zip(ious.index, ious.to_numpy(), strict=True)
    ]
    caption = f"IoU in %, mode `{mode}`, mean over the seeds. {NONE}: in no label and no prediction."
    return Table(["class", *ious.columns], rows, "l" + "c" * len(ious.columns), caption)


def _heat(value: float) -> Cell:
    return Cell(NONE) if pd.isna(value) else Cell(percent(value), heat=float(value))


def speed_sections(results: Results) -> Iterator[Section]:
    """For each device all rates, and for each data set on it score against speed: devices never share a picture."""
    speeds = results.means[results.means.metric == "fps"]
    for device, part in speeds.groupby("device", sort=True):
        blocks: list[Block] = []
        for dataset in sorted(set(part.dataset)):
            points = pareto_rows(results.means, dataset, str(device))
            if len(points):
                caption = f"{dataset} on {device}. {PARETO_NOTE}"
                name = f"pareto-{device}-{dataset}.png"
                blocks.append(_picture(name, pareto_figure(points), "mIoU against frames per second", caption))
        yield Section(f"Speed on {device}", [*blocks, _speed_table(part)])


def _speed_table(part: pd.DataFrame) -> Table:
    rows = []
    for _, row in part.sort_values(["dataset", "mean"], ascending=[True, False]).iterrows():
        backend, precision, size, batch = row["key"].rsplit("_", 3)
        spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.2g}"
        rate = f"{'≥ ' if row['busy'] else ''}{digits(row['mean'])}{spread}"
        rows.append([row["dataset"], label(row), backend, precision, size, batch[1:], rate, str(row["n"])])
    header = ("data set", "network", "backend", "precision", "H×W", "batch", "fps", "n")
    return Table(header, rows, "lllllrrr", folded="Every rate")


def claims_section(results: Results) -> Section:
    """Verdicts in numbers, what was judged, and the whole table folded."""
    totals = count(results.verdicts).sum()
    figures = tuple(KeyFigure(word, str(totals[word])) for word in WORDS)
    blocks: list[Block] = [KeyFigures(figures), Text(CLAIMS_NOTE)]
    blocks += [glance_table(results)]
    judged = [verdict for verdict in results.verdicts if verdict.word not in (NOT_MEASURED, NOT_HERE)]
    if judged:
        blocks.append(Table(CLAIM_HEADER, [_claim_cells(verdict) for verdict in judged], CLAIM_ALIGN))
    else:
        blocks.append(
            Notice("No published number was measured here yet; what was trained is for comparing with each other.")
        )
    blocks.append(Table(*count_rows(results.verdicts)))
    every = [claim_row(verdict) for verdict in results.verdicts]
    blocks.append(Table(CLAIM_HEADER, every, CLAIM_ALIGN, folded="Every claim"))
    return Section("Claims", blocks)


def glance_table(results: Results) -> Table:
    """The authors' newest mIoU of every network: one row for each data set, with a colour for what came of it."""
    newest: dict[tuple[str, str], dict[str, Verdict]] = {}
    for verdict in sorted(results.verdicts, key=lambda verdict: verdict.claim.date):
        claim, what = verdict.claim, verdict.claim.what
        if claim.source.by == "authors" and (what.metric, what.split, what.run) == ("miou", "val", "") and what.mode:
            newest.setdefault((what.dataset, claim.model), {})[what.mode] = verdict
    modes = [mode for mode in MODES if any(mode in row for row in newest.values())]
    rows = [
        [model, dataset, *(_glance(row[mode]) if mode in row else "" for mode in modes)]
        for (dataset, model), row in sorted(newest.items(), key=lambda item: (_unseen(item[1]), item[0]))
    ]
    caption = (
        "What the authors printed last of each network, mIoU in % on the validation split. With a coloured mark and "
        "our mean behind it: green reproduced, red below, blue above. Without: not measured."
    )
    return Table(["network", "data set", *modes], rows, "ll" + "r" * len(modes), caption)


def _unseen(row: Mapping[str, Verdict]) -> bool:
    """Whether nothing of it was measured here."""
    return all(verdict.mean is None for verdict in row.values())


def _glance(verdict: Verdict) -> Cell:
    published = f"{verdict.claim.value:.2f}"
    if verdict.mean is None:
        return Cell(published)
    return Cell(f"{published} → {verdict.mean:.2f}", VERDICT_COLORS[verdict.word])


def _claim_cells(verdict: Verdict) -> list[Cell | str]:
    cells: list[Cell | str] = list(claim_row(verdict))
    cells[CLAIM_HEADER.index("verdict")] = Cell(verdict.word, VERDICT_COLORS[verdict.word])
    return cells


def runs_section(results: Results) -> Section:
    """Every run, with its scores and what identifies it."""
    rows = []
    for run in results.runs:
        provenance = run.provenance
        digests = [f"`{provenance['digests'][name][:8]}`" for name in ("checkpoint", "data")]
        name = Cell(run.name, link=f"{run.name}/report.md" if run.has_page else "")
        scores = ", ".join(f"{mode} {percent(value)}" for mode, value in run.scores["miou"].items())
        device = provenance.get("training_device") or NONE
        rows.append([name, scores or NONE, device, *digests])
    note = "Model file and images by the start of their digests. Each run's report has the command that gives it again."
    return Section("Every run", [Table(("run", "mIoU %", "trained on", "model file", "images"), rows, "lllll", note)])


def _picture(name: str, figure: Figure, alt: str, caption: str) -> Picture:
    """For the HTML page alone, which needs no PNG."""
    return Picture(name, figure_svg(figure), b"", alt, caption)
