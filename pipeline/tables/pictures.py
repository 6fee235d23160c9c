"""Two pictures: every seed's score as a dot with the mean over the seeds, and score against speed on one device."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.tables.summary import ENGINE, GROUP
from segcore.visualize import BLUE, GREEN, INK, MUTED, ORANGE

COLORS = (BLUE, ORANGE, GREEN, "#9467bd", "#c2487f", "#8c6d4f", "#17a2b8")
MARKERS = ("o", "s", "^", "D", "v", "P")
Published = Mapping[tuple[str, str, str], float]


def label(row: pd.Series) -> str:
    """The network, and in what its training differed from the recipe."""
    return f"{row['model']} ({row['setting']})" if row["setting"] else row["model"]


def seeds_figure(scores: pd.DataFrame, published: Published) -> Figure:
    """One panel a data set, one line a network and mode: each seed's mIoU as a dot, mean and deviation as a bar.

    `scores` are the rows of `means` about mIoU. Where `published` has a number by (data set, network, mode), a vertical
    orange line stands at it; it is for the recipe as it stands and as published alone.
    """
    datasets = list(dict.fromkeys(scores.dataset))
    heights = [1 + (scores.dataset == name).sum() for name in datasets]
    figure = Figure(figsize=(8, 0.9 + 0.27 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(datasets), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(panels, datasets, strict=True):
        rows = scores[scores.dataset == name].reset_index(drop=True)
        names = [f"{label(row)} · {row['key']} · n = {row['n']}" for _, row in rows.iterrows()]
        for height, row in rows.iterrows():
            _seeds(axes, height, row, published.get((row["dataset"], row["model"], row["key"])))
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        axes.margins(x=0.08)
        _style(axes)
    panels[-1].set_xlabel("mIoU %", color=INK)
    return figure


def _seeds(axes: Axes, height: int, row: pd.Series, published: float | None) -> None:
    if row["n"] > 1:
        axes.errorbar(row["mean"], height, xerr=row["std"], color=MUTED, capsize=3, linewidth=1.2, zorder=1)
        axes.plot(row["mean"], height, "|", color=INK, markersize=11, zorder=2)
    axes.plot(row["values"], [height] * row["n"], "o", color=BLUE, alpha=0.9, markersize=5, zorder=3, linewidth=0)
    if published is not None and row["setting"] in ("", "as_published"):
        axes.plot([published] * 2, [height - 0.42, height + 0.42], color=ORANGE, linewidth=2, zorder=2)


def pareto_rows(means: pd.DataFrame, dataset: str, device: str) -> pd.DataFrame:
    """Score and speed of the networks on one data set and device, where both are of images of the same size.

    The score is the engine's own where it was scored; else that of the network, which an fp32 engine alone shares. The
    full size is the largest that was measured: `ss` belongs to it, `seg50` to half of it, and so on. Other modes see an
    image more than once and have no frame rate.

    Returns:
        Columns model, setting, mode, backend, precision, miou, std, fps, busy; the fastest first.
    """
    here = means[means.dataset == dataset]
    on_device = here[here.device == device]
    speeds = on_device[on_device.metric == "fps"]
    parts = speeds.key.str.extract(r"(?P<backend>[^_]+)_(?P<precision>[^_]+)_(?P<height>\d+)x\d+_b1$")
    speeds = speeds.assign(**parts).dropna(subset="height").astype({"height": int})
    scores = pd.concat([here[here.metric == "miou"], on_device[on_device.metric == ENGINE]])
    scored = {(*row[GROUP[1:]], row["key"]): (row["mean"], row["std"]) for _, row in scores.iterrows()}
    rows = []
    for _, row in speeds.iterrows():
        share, group = row["height"] / speeds.height.max(), tuple(row[GROUP[1:]])
        mode = "ss" if share == 1 else f"seg{100 * share:.0f}"
        found = scored.get((*group, row["key"])) or (scored.get((*group, mode)) if row["precision"] == "fp32" else None)
        if found:
            rows.append([*group, mode, row["backend"], row["precision"], *found, row["mean"], row["busy"]])
    columns = ["model", "setting", "mode", "backend", "precision", "miou", "std", "fps", "busy"]
    return pd.DataFrame(rows, columns=columns).sort_values("fps", ascending=False, ignore_index=True)


def frontier(points: pd.DataFrame) -> pd.DataFrame:
    """The points to which no other is superior in both score and speed, from the fastest to the best."""
    ordered = points.sort_values(["fps", "miou"], ascending=False)
    before = ordered.miou.cummax().shift(fill_value=float("-inf"))
    return ordered[ordered.miou > before]


def pareto_figure(points: pd.DataFrame) -> Figure:
    """mIoU against frames per second: colour is the network, shape the backend, the line the frontier.

    Bars are the deviation over the seeds; a hollow mark was measured while other programs ran.
    """
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    networks = list(dict.fromkeys(label(row) for _, row in points.iterrows()))
    backends = sorted(set(points.backend))
    best = frontier(points)
    axes.plot(best.fps, best.miou, color=MUTED, linewidth=1, drawstyle="steps-post", zorder=1)
    for _, row in points.iterrows():
        color = COLORS[networks.index(label(row)) % len(COLORS)]
        marker = MARKERS[backends.index(row["backend"]) % len(MARKERS)]
        face = "none" if row["busy"] else color
        axes.errorbar(
            row["fps"],
            row["miou"],
            yerr=row["std"],
            fmt=marker,
            color=color,
            mfc=face,
            markersize=7,
            capsize=2,
            zorder=2,
        )
    for _, row in best.iterrows():
        text = f"{row['mode']}, {row['precision']}"
        axes.annotate(text, (row["fps"], row["miou"]), (6, 5), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xlabel("frames per second", color=INK)
    axes.set_ylabel("mIoU %", color=INK)
    axes.set_xlim(left=0)
    axes.margins(x=0.15, y=0.15)
    _style(axes)
    handles = [Line2D([], [], marker="o", color=COLORS[k % len(COLORS)], linewidth=0) for k in range(len(networks))]
    handles += [
        Line2D([], [], marker=MARKERS[k % len(MARKERS)], color=MUTED, linewidth=0) for k in range(len(backends))
    ]
    figure.legend(
        handles, networks + backends, loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=8
    )
    return figure


def _style(axes: Axes) -> None:
    """As in the reports: no box, a light grid, everything else in ink."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=MUTED, alpha=0.25, linewidth=0.6, axis="both")
    axes.set_axisbelow(True)
