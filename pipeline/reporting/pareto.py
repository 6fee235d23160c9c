"""The picture of speed against score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segcore.visualize import BLUE, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of those points that no other one beats in one number without losing in the other, by the first."""
    order = sorted(range(len(points)), key=lambda place: points[place], reverse=True)
    best, front = float("-inf"), []
    for place in order:
        if points[place][1] > best:
            best = points[place][1]
            front.append(place)
    return front[::-1]


def pareto_figure(names: Sequence[str], points: Sequence[tuple[float, float]], across: str, up: str) -> Figure:
    """Named points; those of the front are joined and strong."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes, front = figure.subplots(), pareto_front(points)
    axes.plot(*zip(*(points[place] for place in front), strict=True), color=BLUE, linewidth=1.2, alpha=0.6)
    for place, (name, point) in enumerate(zip(names, points, strict=True)):
        color = BLUE if place in front else MUTED
        axes.plot(*point, "o", color=color, markersize=6)
        axes.annotate(name, point, (6, 5), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.margins(x=0.22, y=0.2)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=MUTED, alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    return figure
