"""Validation images beside their truth: evenly spaced from the best down, and then the worst.

Photographs are shown only where the data set's licence lets them be passed on, or in the page that stays on this
machine; label maps are looked up in the data store as well, and a machine without it shows predictions alone.
"""

from __future__ import annotations

import numpy as np

from pipeline.reporting.inputs import Run
from pipeline.reporting.page import Cell, Example, Gallery, Notice, Section, Text, data_uri
from pipeline.reporting.scores import COMMAND, image_miou
from pipeline.reporting.words import percent
from segcore.data.datasets import read_label_ids
from segcore.visualize import IGNORED, RIGHT, WRONG, colorize, contact_sheet, difference, encode, fit_width, overlay

SHOWN, WORST = 6, 4  # of each at most
WIDTH = 512
HEADINGS = ("photograph", "truth", "prediction", "difference")
SUFFIX = {"jpeg": ".jpg", "png": ".png"}
Picture = np.ndarray | str  # a str says why there is no picture


def examples_section(run: Run, photographs: bool) -> Section:
    """Photograph, truth, prediction and difference of images chosen by rank: across the set, and the worst ones."""
    if f"{run.mode}_tp" not in run.counts:
        return Section("Examples", [Text("No predictions were kept.")])
    ranked = _ranking(image_miou(run))
    last = len(ranked) - min(WORST, len(ranked) // 2)
    spread = np.unique(np.linspace(0, last - 1, min(SHOWN, last)).round().astype(int))
    about = (
        f"Mode `{run.mode}`, chosen by rank and not by eye: evenly spaced from the best image down, by the mIoU of the "
        "single image (mean over the classes in its label or its prediction)."
    )
    galleries = [_gallery(run, "examples.png", spread, ranked, photographs, about)]
    if last < len(ranked):
        worst = np.arange(last, len(ranked))[::-1]
        galleries += [_gallery(run, "worst.png", worst, ranked, photographs, "The worst of all, the very worst first.")]
    notices = [Notice(text) for text in _licence_notices(run, photographs)]
    return Section("Examples", [*notices, *galleries], COMMAND)


def _gallery(run: Run, file: str, places: np.ndarray, ranked: np.ndarray, photographs: bool, about: str) -> Gallery:
    """The images at `places` of the ranking `ranked`."""
    names = [str(run.counts["names"][ranked[place]]) for place in places]
    rows = [_pictures(run, name, photographs) for name in names]
    captions = [_caption(run, name, place, ranked) for name, place in zip(names, places, strict=True)]
    sheet = encode(contact_sheet(rows, HEADINGS, [caption.replace("`", "") for caption in captions]))
    shown = [Example(caption, _embedded(row)) for caption, row in zip(captions, rows, strict=True)]
    return Gallery(file, HEADINGS, shown, sheet, about, _legend(run) if places[0] == 0 else ())


def photographs_here(run: Run) -> bool:
    """Whether any photograph of the validation list lies in this machine's data store."""
    return any(run.validation.image_path(index).exists() for index in range(len(run.validation)))


def _licence_notices(run: Run, photographs: bool) -> list[str]:
    if run.about.redistributable:
        return []
    if photographs:
        return [f"{run.about.title}'s licence does not let these photographs be passed on: keep this page to yourself."]
    return [
        f"Photographs are left out, for {run.about.title}'s licence does not let them be passed on. A machine that has "
        "them also writes `work/report-with-photographs.html`."
    ]


def _ranking(scores: np.ndarray) -> np.ndarray:
    """Indices from the best to the worst; images without a scored pixel (nan) are left out."""
    order = np.argsort(-scores, kind="stable")
    return order[~np.isnan(scores[order])]


def _caption(run: Run, name: str, place: int, ranked: np.ndarray) -> str:
    rank = {0: "best", len(ranked) - 1: "worst"}.get(int(place), f"rank {place + 1}")
    return f"{rank} of {len(ranked)}: mIoU {percent(image_miou(run)[ranked[place]])} %, `{name}`"


def _pictures(run: Run, name: str, photographs: bool) -> list[Picture]:
    """The four pictures of one image, each uint8 H×W×3 or the reason why it is missing."""
    index, palette = run.validation.names.index(name), run.labels.palette
    prediction = read_label_ids(run.prediction_path(name))
    coloured = colorize(fit_width(prediction, WIDTH), palette)
    photograph = _photograph(run, index, photographs)
    if not photographs:  # labels are under the same licence
        missing = f"label not included: {run.about.title}'s licence"
    elif not run.validation.label_path(index).exists():
        missing = "label not on this machine"
    else:
        truth = run.validation.label(index)
        wrong = fit_width(difference(truth, prediction), WIDTH)
        maps = [fit_width(labels, WIDTH) for labels in (truth, prediction)]
        if isinstance(photograph, str):
            return [photograph, *(colorize(labels, palette) for labels in maps), wrong]
        return [photograph, *(overlay(photograph, labels, palette, 0.65) for labels in maps), wrong]
    return [photograph, missing, coloured, missing]


def _photograph(run: Run, index: int, photographs: bool) -> Picture:
    if not photographs:
        return f"photograph not included: {run.about.title}'s licence"
    if not run.validation.image_path(index).exists():
        return "photograph not on this machine"
    return fit_width(run.validation.image(index), WIDTH)


def _embedded(row: list[Picture]) -> list[str]:
    """What shows a photograph as JPEG, plain maps as PNG."""
    seen = not isinstance(row[0], str)
    kinds = ("jpeg", "jpeg" if seen else "png", "jpeg" if seen else "png", "png")
    return [
        picture if isinstance(picture, str) else data_uri(encode(picture, SUFFIX[kind]), kind)
        for picture, kind in zip(row, kinds, strict=True)
    ]


def _legend(run: Run) -> list[Cell]:
    classes = zip(run.labels.names, run.labels.palette.tolist(), strict=True)
    marks = (("right", RIGHT), ("wrong", WRONG), ("ignored", IGNORED))
    return [Cell(name, tuple(color)) for name, color in (*classes, *marks)]
