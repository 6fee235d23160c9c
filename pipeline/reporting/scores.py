"""The sections about accuracy: headline, modes, classes, confusion."""

from __future__ import annotations

import numpy as np

from pipeline.reporting.inputs import Run
from pipeline.reporting.page import Cell, KeyFigure, KeyFigures, Notice, Picture, Section, Table, Text
from pipeline.reporting.words import NONE, digits, percent, setting, size
from segcore.evaluate.uncertainty import Counts, miou_interval
from segcore.visualize import confusion_figure, figure_png, figure_svg

COMMAND = "dvc repro evaluate"


def image_miou(run: Run) -> np.ndarray:
    """mIoU of each image in the first mode, float64 N: mean over the classes in its label or its prediction."""
    return _counts(run, run.mode).image_miou()


def interval(run: Run, mode: str) -> tuple[float, float] | None:
    """95 % bootstrap interval of a mode's mIoU over the validation images; None without counts per image.

    It shows how much the figure hangs on these images; how much it hangs on the seed, only other seeds can tell.
    """
    return miou_interval(_counts(run, mode)) if f"{mode}_tp" in run.counts else None


def _counts(run: Run, mode: str) -> Counts:
    return Counts(*(run.counts[f"{mode}_{name}"] for name in ("tp", "fp", "fn")))


def result_section(run: Run, speed: KeyFigure | None) -> Section:
    """The headline with its protocol, the image-blind baseline, and every mode."""
    if not run.mode:
        return Section("Result", [Notice("No mode was scored: a run that trains on the validation images has none.")])
    score = run.scores[run.mode]
    figures = [KeyFigure(f"mIoU, mode {run.mode}", f"{percent(score['miou'])} %", _headline_note(run))]
    if run.baseline:
        margin = 100 * (score["miou"] - run.baseline["miou"])
        note = f"points above {percent(run.baseline['miou'])} %, the score of the majority map, which sees no image"
        figures.append(KeyFigure("Margin over the baseline", f"{margin:+.2f}", note))
    accuracy = KeyFigure("Pixel accuracy", f"{percent(score['pixel_accuracy'])} %", f"{score['images']} images")
    figures += [accuracy, speed] if speed else [accuracy]
    return Section("Result", [KeyFigures(tuple(figures)), modes_table(run), protocol_table(run)], COMMAND)


def _headline_note(run: Run) -> str:
    score = run.scores[run.mode]
    bounds = interval(run, run.mode)
    spread = f"{_range(bounds)} in 95 % of resamples of the images; " if bounds else ""
    return f"{spread}mean of {score['classes_averaged']} classes, {score['images']} images"


def _range(bounds: tuple[float, float] | None) -> str:
    return " – ".join(map(percent, bounds)) if bounds else NONE


def modes_table(run: Run) -> Table:
    """One row a mode and the baseline, each with what one must know to compare it."""
    accuracies = ("pixel accuracy %", "mean accuracy %", "boundary mIoU %")
    header = ("mode", "mIoU %", "95 % interval", "classes", *accuracies, "images are scored")
    scores = [*run.scores.values(), *([run.baseline] if run.baseline else [])]
    rows = [_mode_row(run, score) for score in scores]
    caption = (
        "mIoU is the mean over the classes that occur in a label or a prediction, from one confusion matrix of all "
        "images at the labels' own size, ignored pixels left out. `majority` predicts, whatever the image, the most "
        "frequent training label at each pixel: what a method is worth begins above it. The interval, the thin line on "
        "the bar, is the bootstrap over images. Sizes are H×W."
    )
    return Table(header, rows, "llrrrrrl", caption)


def _mode_row(run: Run, score: dict) -> list[Cell | str]:
    bounds = interval(run, score["mode"])
    miou = Cell(percent(score["miou"]), bar=score["miou"], whisker=bounds)
    accuracies = [percent(score.get(name)) for name in ("pixel_accuracy", "mean_accuracy", "boundary_miou")]
    how = _in_words(score.get("protocol") or {})
    return [f"`{score['mode']}`", miou, _range(bounds), str(score["classes_averaged"]), *accuracies, how]


def _in_words(protocol: dict) -> str:
    """How a mode looks at an image, as `6 scales from 0.5 to 1.75, mirrored too, in windows of 192×384`."""
    if not protocol:
        return NONE
    scales = protocol.get("scales") or [1.0]
    parts = [f"{len(scales)} scales from {min(scales):g} to {max(scales):g}" if len(scales) > 1 else ""]
    parts += [f"scale {scales[0]:g}" if len(scales) == 1 else "", "mirrored too" if protocol.get("flip") else ""]
    parts += [f"in windows of {size(protocol['crop'])}" if protocol.get("crop") else "whole"]
    return ", ".join(filter(None, parts))


def protocol_table(run: Run) -> Table:
    """Every setting of every mode, as the evaluation recorded it."""
    protocols = {mode: score["protocol"] for mode, score in run.scores.items()}
    keys = list(dict.fromkeys(key for protocol in protocols.values() for key in protocol))
    rows = [[key, *(setting(key, protocol.get(key)) for protocol in protocols.values())] for key in keys]
    header = ("setting", *(f"`{mode}`" for mode in protocols))
    return Table(header, rows, "l" * len(header), folded="Complete protocol of every mode")


def classes_section(run: Run) -> Section:
    """IoU of every class in every mode, with its share of the label pixels and the baseline's IoU."""
    pixels = run.confusion.sum(axis=1)
    header = ["class", f"IoU %, {run.mode}", *list(run.scores)[1:], "majority", "label pixels %"]
    rows = [_class_row(run, index, pixels / max(pixels.sum(), 1)) for index in range(run.labels.num_classes)]
    absent = [name for name, iou in run.scores[run.mode]["iou"].items() if iou is None]
    blocks = [Table(header, rows, "l" * 2 + "r" * (len(header) - 2))]
    if absent:
        blocks.insert(0, Notice(f"Not among the validation labels nor predicted, so in no mean: {', '.join(absent)}."))
    return Section("Classes", blocks, COMMAND)


def _class_row(run: Run, index: int, shares: np.ndarray) -> list[Cell | str]:
    name, color = run.labels.names[index], tuple(int(value) for value in run.labels.palette[index])
    ious = [score["iou"].get(name) for score in run.scores.values()]
    baseline = run.baseline["iou"].get(name) if run.baseline else None
    first = Cell("absent") if ious[0] is None else Cell(percent(ious[0]), color, bar=ious[0])
    pixels = f"{100 * shares[index]:.2f}" if shares[index] >= 1e-4 or shares[index] == 0 else "< 0.01"
    return [Cell(name, color), first, *map(percent, ious[1:]), percent(baseline), pixels]


def confusion_section(run: Run) -> Section:
    """The first mode's confusion matrix and the largest confusions in words."""
    figure = confusion_figure(run.confusion, run.labels.names)
    caption = (
        f"Mode `{run.mode}`. Each row is a class of the label; its cells say, in per cent of that class's pixels, what "
        "they were taken for. A row without colour is a class that no label contains."
    )
    alt = f"Confusion matrix of {len(run.labels.names)} classes"
    picture = Picture("confusion.png", figure_svg(figure), figure_png(figure), alt, caption)
    return Section("Confusion", [Text(_largest_confusions(run)), picture], COMMAND)


def _largest_confusions(run: Run, count: int = 3) -> str:
    matrix = run.confusion.copy()
    total = max(int(matrix.sum()), 1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(matrix, axis=None)[::-1][:count]
    pairs = [np.unravel_index(index, matrix.shape) for index in order if matrix.flat[index]]
    names = run.labels.names
    parts = [f"{names[a]} taken for {names[b]} ({digits(100 * matrix[a, b] / total, 2)} %)" for a, b in pairs]
    return f"The largest confusions, in per cent of all scored pixels: {'; '.join(parts) or NONE}."
