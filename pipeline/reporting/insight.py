"""The section about where the score was lost; it shows what the evaluation left under work/evaluate/insight/."""

from __future__ import annotations

import csv

from matplotlib.figure import Figure

from pipeline.reporting.inputs import Run
from pipeline.reporting.page import Picture, Section, Table, Text
from pipeline.reporting.scores import COMMAND, image_miou
from pipeline.reporting.words import percent
from pipeline.settings import EVALUATE
from segcore.visualize import bars_figure, figure_png, figure_svg, histogram_figure

Rows = list[dict[str, str]]
SHOWN = 10
NUMBERS = "The same in numbers"
MEAN = "(mean)"  # what the evaluation calls the row over all classes


def insight_sections(run: Run) -> list[Section]:
    """One section about the first mode; none where the evaluation left no such tables."""
    if not (EVALUATE / "insight").is_dir():
        return []
    blocks = [*_confusions(run), *_sizes(run), *_distances(run), *_images(run)]
    about = f"Mode `{run.mode}`; all modes, classes and rows stand in `work/evaluate/insight/`."
    return [Section("Where it goes wrong", [Text(about), *blocks], COMMAND)]


def _rows(run: Run, name: str) -> Rows:
    with open(EVALUATE / "insight" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["mode"] == run.mode]


def _picture(name: str, figure: Figure, alt: str, caption: str) -> Picture:
    return Picture(f"insight-{name}.png", figure_svg(figure), figure_png(figure), alt, caption)


def _percent(text: str) -> str:
    return percent(float(text) if text not in ("", "nan") else None)


def _confusions(run: Run) -> tuple[Picture, Table]:
    rows = _rows(run, "confusions")[:SHOWN]
    pairs = [f"{row['label']} → {row['predicted']}" for row in rows]
    figure = bars_figure(pairs, [100 * float(row["miou_gain"]) for row in rows], "points of mIoU lost")
    caption = "The costliest confusions (label → prediction): what mIoU would gain if these pixels alone were right."
    cells = [(r["label"], r["predicted"], _percent(r["share"]), _percent(r["miou_gain"])) for r in rows]
    table = Table(("label", "taken for", "all pixels %", "mIoU lost, points"), cells, "llrr", folded=NUMBERS)
    return _picture("confusions", figure, "Costliest confusions", caption), table


def _sizes(run: Run) -> tuple[Picture, Table]:
    rows = [row for row in _rows(run, "object_size") if row["class"] == MEAN]
    classes = [sum(r["size"] == row["size"] for r in _rows(run, "object_size")) - 1 for row in rows]
    figure = bars_figure([row["size"] for row in rows], [100 * float(row["iou"]) for row in rows], "IoU %")
    caption = (
        "IoU by object size, mean over the classes that have such objects. An object is a connected part of a class in "
        "the label: small up to 0.1 % of the image, medium up to 1 %. False positives are shared among an image's "
        "objects of the class by area."
    )
    cells = [
        (row["size"], row["objects"], str(count), _percent(row["recall"]), _percent(row["iou"]))
        for row, count in zip(rows, classes, strict=True)
    ]
    table = Table(("objects", "number", "classes", "recall %", "IoU %"), cells, "lrrrr", folded=NUMBERS)
    return _picture("sizes", figure, "IoU by object size", caption), table


def _distances(run: Run) -> tuple[Picture, Table]:
    rows = _rows(run, "boundary_distance")
    names = [_band(row["from_px"], row["to_px"]) for row in rows]
    figure = bars_figure(names, [100 * float(row["miou"]) for row in rows], "mIoU %")
    caption = "mIoU of the pixels at each distance from the nearest place where two classes of the label touch."
    pixels = sum(int(row["pixels"]) for row in rows)
    cells = [
        (name, percent(int(r["pixels"]) / pixels), _percent(r["accuracy"]), _percent(r["miou"]), r["classes_averaged"])
        for name, r in zip(names, rows, strict=True)
    ]
    header = ("distance, pixels", "all pixels %", "pixel accuracy %", "mIoU %", "classes averaged")
    table = Table(header, cells, "lrrrr", folded=NUMBERS)
    return _picture("distances", figure, "mIoU by distance from the boundary", caption), table


def _band(first: str, last: str) -> str:
    if not last:
        return f"{first} and more"
    return first if first == last else f"{first} – {last}"


def _images(run: Run) -> tuple[Picture, Table]:
    figure = histogram_figure(100 * image_miou(run), "mIoU of the single image, %")
    caption = "How the images spread; each one's mIoU is over the classes in its own label or prediction."
    rows = _rows(run, "worst_images")[:SHOWN]
    cells = [(r["rank"], f"`{r['image']}`", _percent(r["miou"]), _percent(r["pixel_accuracy"])) for r in rows]
    table = Table(("worst", "image", "mIoU %", "pixel accuracy %"), cells, "rlrr", folded="The worst images")
    return _picture("images", figure, "Histogram of the images' mIoU", caption), table
