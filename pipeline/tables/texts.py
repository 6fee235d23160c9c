"""The tables as Markdown, CSV and on a terminal. A mean stands with its deviation and the number of its seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from rich.table import Table

from pipeline.reporting.words import NONE, digits
from pipeline.tables.published import MODES, UNITS, Claim
from pipeline.tables.runs import Run
from pipeline.tables.summary import ENGINE, GROUP, setting
from pipeline.tables.verdicts import ABOVE, BELOW, REPRODUCED, WORDS, Verdict, count

STYLES = {REPRODUCED: "green", BELOW: "bold red", ABOVE: "bold cyan"}
Rows = list[list[str]]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table; `align` has l or r for each column."""
    rules = [{"l": "---", "r": "--:"}[side] for side in align]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(header), rules, *escaped])


def terminal(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> Table:
    """A table for a terminal."""
    table = Table(title=title, title_justify="left")
    for name, side in zip(header, align, strict=True):
        table.add_column(name, justify="right" if side == "r" else "left")
    for row in rows:
        table.add_row(*row, style=next((STYLES[cell] for cell in row if cell in STYLES), None))
    return table


def spread(mean: float, std: float | None, n: int) -> str:
    """`26.49 ± 0.31`; one run has no deviation."""
    return f"{mean:.2f}" if n < 2 or std is None or pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def scored_modes(means: pd.DataFrame) -> list[str]:
    """The modes that anything was scored in, in the order people list them."""
    there = set(means[means.metric == "miou"].key)
    return [mode for mode in MODES if mode in there] + sorted(there - set(MODES))


def brief_rows(runs: Sequence[Run], means: pd.DataFrame) -> tuple[list[str], Rows, str]:
    """Header, rows and alignment of the table of all networks: one row each, mIoU by mode over its seeds."""
    modes = scored_modes(means)
    rows = []
    for group, members in _groups(runs):
        own, train = _own(means, group), members[0].train
        network = f"{group[1]} ({group[2]})" if group[2] else group[1]
        trained = f"{train['iterations']} × {train['batch_size']}"
        scores = [_score(own, mode) for mode in modes]
        rows.append([group[0], network, trained, str(len(members)), *scores, _blind(members[0])])
    return ["data set", "network", "trained", "n", *modes, "image-blind"], rows, "lllr" + "r" * (len(modes) + 1)


def results_rows(runs: Sequence[Run], means: pd.DataFrame, link: str) -> tuple[list[str], Rows, str]:
    """The same with start, speed, and seeds that lead to their reports.

    `link` is the path of docs/results/ from where the table stands.
    """
    modes = scored_modes(means)
    header = ["data set", "network", "trained", "n", "seeds", *modes, "image-blind", "fps"]
    rows = []
    for group, members in _groups(runs):
        own = _own(means, group)
        seeds = ", ".join(_seed_link(run, link) for run in members)
        start = [group[0], f"`{group[1]}`", _trained(members[0], group[2]), str(len(members)), seeds]
        rows.append([*start, *(_score(own, mode) for mode in modes), _blind(members[0]), fastest(own)])
    return header, rows, "lllrl" + "r" * (len(modes) + 2)


def _groups(runs: Sequence[Run]) -> list[tuple[tuple[str, str, str], list[Run]]]:
    """Runs of one network and setting together, by seed; the shortest name where a training was scored twice."""
    found: dict[tuple[str, str, str], dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (len(run.name), run.name)):
        params = run.params
        group = found.setdefault((params["dataset"], params["model"], setting(params["override"])), {})
        group.setdefault(params["seed"], run)
    return [
        (group, [by_seed[seed] for seed in sorted(by_seed)]) for group, by_seed in sorted(found.items(), key=_natural)
    ]


def _natural(item: tuple[tuple[str, ...], object]) -> list[list[str]]:
    """Sorts `iterations 720` before `iterations 2600`."""
    return [[part.zfill(12) if part.isdigit() else part for part in re.findall(r"\d+|\D+", name)] for name in item[0]]


def _own(means: pd.DataFrame, group: Sequence[str]) -> pd.DataFrame:
    return means[(means[GROUP] == list(group)).all(axis=1)]


def _seed_link(run: Run, link: str) -> str:
    seed = str(run.params["seed"])
    return f"[{seed}]({link}{run.name}/report.md)" if run.has_page else seed


def _blind(run: Run) -> str:
    score = run.train["majority_miou"]
    return "" if score is None else f"{100 * score:.2f}"


def runs_rows(runs: Sequence[Run]) -> tuple[list[str], Rows, str]:
    """Header, rows and alignment of the table of all runs: one row each, as it was scored."""
    modes = list(dict.fromkeys(mode for run in runs for mode in run.scores["miou"]))
    modes.sort(key=lambda mode: MODES.index(mode) if mode in MODES else len(MODES))
    rows = []
    for run in runs:
        miou = run.scores["miou"]
        cells = [f"{100 * miou[mode]:.2f}" if mode in miou else "" for mode in modes]
        name = f"[{run.name}]({run.name}/report.md)" if run.has_page else run.name
        rows.append([name, *cells, f"`{run.provenance['digests']['checkpoint'][:12]}`"])
    return ["run", *modes, "model file"], rows, "l" + "r" * len(modes) + "l"


def _trained(run: Run, changed: str) -> str:
    train = run.train
    start = "from scratch" if train["pretrained"] == "none" else f"from {train['pretrained']}"
    text = f"{start}, {train['iterations']} × {train['batch_size']} images"
    return f"{text} (not the recipe's: {changed})" if changed else text


def _score(own: pd.DataFrame, mode: str) -> str:
    found = own[(own.metric == "miou") & (own.key == mode)]
    if found.empty:
        return ""
    row = found.iloc[0]
    text = spread(row["mean"], row["std"], row["n"])
    return f"{text} †" if row["mixed"] else text


def fastest(own: pd.DataFrame) -> str:
    """The highest mean rate with how and where it was reached; `≥` where other programs ran or nobody knows.

    With the mIoU of the engine, where that was scored: a lower precision has another than the network's.
    """
    speeds = own[own.metric == "fps"]
    if speeds.empty:
        return "not measured"
    row = speeds.loc[speeds["mean"].idxmax()]
    backend, precision, size, _ = row["key"].rsplit("_", 3)
    how = f"{backend} {precision}, {size}, {row['device']}"
    scored = own[(own.metric == ENGINE) & (own.key == row["key"]) & (own.device == row["device"])]
    how += f", {scored['mean'].iloc[0]:.2f} mIoU" if len(scored) else ""
    return f"{'≥ ' if row['busy'] else ''}{digits(row['mean'])} ({how})"


def results_csv(means: pd.DataFrame) -> tuple[list[str], Rows]:
    """Header and rows of table.csv: every number with each seed's value."""
    header = [*GROUP, "metric", "key", "device", "mean", "std", "n", "seeds", "values", "lower_bound", "mixed"]
    rows = []
    for _, row in means.iterrows():
        std = "" if pd.isna(row["std"]) else f"{row['std']:.4f}"
        values = " ".join(f"{value:.4f}" for value in row["values"])
        seeds = " ".join(map(str, row["seeds"]))
        start = [row[name] for name in (*GROUP, "metric", "key", "device")]
        rows.append(
            [*start, f"{row['mean']:.4f}", std, str(row["n"]), seeds, values, _yes(row["busy"]), _yes(row["mixed"])]
        )
    return header, rows


def _yes(value: bool) -> str:
    return "yes" if value else "no"


CLAIM_HEADER = ("network", "data set", "of", "how", "published", "here", "seeds", "verdict", "because", "by", "date")
CLAIM_ALIGN = "llllrrrllll"


def claim_row(verdict: Verdict) -> list[str]:
    """One row of the table of claims."""
    claim, what = verdict.claim, verdict.claim.what
    split = " ".join(filter(None, (what.dataset, what.split)))
    mean = spread(verdict.mean, verdict.std, len(verdict.seeds)) if verdict.mean is not None else NONE
    because = "; ".join(filter(None, (verdict.why, claim.note)))
    seeds = ", ".join(map(str, verdict.seeds)) or NONE
    numbers = [number(claim), mean, seeds]
    return [
        claim.model,
        split,
        what.metric,
        conditions(claim),
        *numbers,
        verdict.word,
        because,
        claim.source.title,
        claim.date,
    ]


def count_rows(verdicts: Sequence[Verdict]) -> tuple[list[str], Rows, str]:
    """Header, rows and alignment of how many claims of each source have which verdict; the last row is the sum."""
    counts = count(verdicts)
    rows = [[source, *map(str, row)] for source, row in zip(counts.index, counts.to_numpy(), strict=True)]
    total = ["all", *map(str, counts.sum())]
    return ["who printed it", *WORDS], [*rows, total], "l" + "r" * len(WORDS)


def number(claim: Claim) -> str:
    """The published number with its unit."""
    upto = f" to {claim.upto:g}" if claim.upto is not None else ""
    return f"{claim.value:g}{upto} {UNITS[claim.what.metric]}"


def conditions(claim: Claim) -> str:
    """Mode, or hardware with everything that a rate needs."""
    what = claim.what
    parts = (what.mode, what.run, what.precision, what.size, what.hardware, what.runtime)
    return ", ".join(part.replace("-", " ") if part in (what.run, what.hardware) else part for part in parts if part)


def claims_csv(verdicts: Sequence[Verdict]) -> tuple[list[str], Rows]:
    """Header and rows of claims.csv: every claim with what came of it."""
    rows = []
    for verdict in verdicts:
        claim = verdict.claim
        low, high = claim.accepted or ("", "")
        bounds = ["" if claim.upto is None else claim.upto, low, high]
        here = ["" if value is None else f"{value:.4f}" for value in (verdict.mean, verdict.std)]
        said = [claim.source.title, claim.source.by, claim.date]
        seeds = " ".join(map(str, verdict.seeds))
        rows.append(
            [
                claim.model,
                *asdict(claim.what).values(),
                claim.value,
                *bounds,
                *here,
                seeds,
                verdict.word,
                verdict.why,
                claim.note,
                *said,
            ]
        )
    what = list(asdict(verdicts[0].claim.what)) if verdicts else []
    numbers = ["published", "upto", "accepted_from", "accepted_to", "mean", "std", "seeds"]
    return ["model", *what, *numbers, "verdict", "because", "note", "source", "by", "date"], rows
