"""Pictures of labels and results: colour maps, overlays, contact sheets, confusion matrices and training curves.

Images are uint8 H×W×3 RGB, labels uint8 H×W of train ids with 255 = ignored, palettes uint8 C×3 RGB by train id.
Matplotlib is loaded only by the functions that draw a figure, so that prediction does not pay for it.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segcore.data.labels import IGNORE, LabelTable
from segcore.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[int, int, int] | str

RIGHT, WRONG, IGNORED = (222, 226, 230), (200, 40, 48), (96, 100, 106)
INK = "#1f2328"  # text and axes; `figure_svg` turns it into the colour of the text around the figure
MUTED = "#8b949e"
BLUE, ORANGE, GREEN = "#2f7fd0", "#d9822b", "#3f9e5f"  # readable on white and on near-black alike
MOST_CLASSES_NAMED = 24  # in the legend below a picture
GAP = 4  # pixels between pictures that stand side by side
MOST_CLASSES_WITH_TEXT = 40  # beyond that the cells of a confusion matrix are smaller than a digit


def colorize(labels: np.ndarray, palette: np.ndarray, ignored: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Labels H×W -> colours H×W×3. DataError if a label is neither a class of the palette nor 255."""
    table = np.empty((256, 3), np.uint8)
    table[:] = ignored
    table[: len(palette)] = palette
    beyond = (labels >= len(palette)) & (labels != IGNORE)
    if beyond.any():
        raise DataError(
            f"label {int(labels[beyond][0])} has no colour: the palette has {len(palette)} classes; "
            "use the label table the labels were made with"
        )
    return table[labels]


def overlay(image: np.ndarray, labels: np.ndarray, palette: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """The class colours laid over the photograph H×W×3 with `opacity` in 0..1; ignored pixels stay photograph."""
    if image.shape[:2] != labels.shape:
        raise DataError(
            f"image of {_size(image)} and labels of {_size(labels)} do not lie on each other; resize the labels first"
        )
    mixed = cv2.addWeighted(image, 1 - opacity, colorize(labels, palette), opacity, 0)
    return np.where((labels == IGNORE)[..., None], image, mixed)


def legend(
    entries: Sequence[tuple[str, Sequence[Color]]], width: int, *, places: int = 0, longest: str = ""
) -> np.ndarray:
    """Names beside their colours in rows and columns on white: uint8 h×`width`×3.

    The letters grow with the width, for wide pictures are looked at from further away. Colours of one entry share its
    box. `places` and `longest` leave room for that many entries and such a name, so that h does not depend on which
    are shown.
    """
    font = ImageFont.load_default(max(12, width // 80))
    size, gap = round(font.size), round(font.size / 2)
    letters = max(font.getlength(name) for name in (longest, *(name for name, _ in entries)))
    column = round(size + letters) + 4 * gap
    columns = max(1, width // column)
    rows = -(-max(len(entries), places) // columns)
    strip = Image.new("RGB", (width, rows * 3 * gap + gap), "white")
    draw = ImageDraw.Draw(strip)
    for number, (name, colors) in enumerate(entries):
        left, top = gap + number % columns * column, gap + number // columns * 3 * gap
        for part, color in enumerate(colors):
            ends = (left + size * part // len(colors), left + size * (part + 1) // len(colors))
            draw.rectangle((ends[0], top, ends[1], top + size), fill=color)
        draw.rectangle((left, top, left + size, top + size), outline=INK)
        draw.text((left + size + gap, top + size // 2), name, INK, font=font, anchor="lm")
    return np.asarray(strip)


def with_legend(picture: np.ndarray, labels: np.ndarray, table: LabelTable) -> np.ndarray:
    """A picture H×W×3 in the colours of a label table above its legend.

    Of a table with many classes the commonest in `labels` H×W are named; pictures of one size stay of one size.
    """
    places, shown = min(table.num_classes, MOST_CLASSES_NAMED), range(table.num_classes)
    if places < table.num_classes:
        count = np.bincount(labels.ravel(), minlength=table.num_classes)[: table.num_classes]
        shown = [k for k in np.argsort(-count, kind="stable")[:places].tolist() if count[k]]
    entries = [(table.names[k], [table.classes[k].color]) for k in shown]
    longest = max(table.names, key=len)
    return np.vstack([picture, legend(entries, picture.shape[1], places=places, longest=longest)])


def difference(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Where labels H×W agree (pale), differ (red) and where the truth is ignored (dark grey): H×W×3."""
    if truth.shape != prediction.shape:
        raise DataError(
            f"truth of {_size(truth)} and prediction of {_size(prediction)} cannot be compared; "
            "predictions are scored at the label's size"
        )
    picture = np.where((truth == prediction)[..., None], np.uint8(RIGHT), np.uint8(WRONG))
    picture[truth == IGNORE] = IGNORED
    return picture


def side_by_side(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Photograph H×W×3 | label H×W | prediction H×W in one picture, white between them; ignored pixels are black."""
    gap = np.full((len(image), GAP, 3), 255, np.uint8)
    return np.hstack([image, gap, colorize(truth, palette), gap, colorize(prediction, palette)])


def fit_width(image: np.ndarray, width: int) -> np.ndarray:
    """Scaled down to `width` pixels; never up. H×W labels stay labels (nearest), photographs H×W×3 are averaged."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    method = cv2.INTER_NEAREST if image.ndim == 2 else cv2.INTER_AREA
    return cv2.resize(image, (width, height), interpolation=method)


def encode(image: np.ndarray, suffix: str = ".png", compression: int = 9) -> bytes:
    """The image file for H×W×3 RGB: `.png` for maps, `.jpg` for photographs.

    A photograph as PNG takes a tenth of the time with `compression` 3, and an eighth more bytes.
    """
    options = [cv2.IMWRITE_PNG_COMPRESSION, compression] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 85]
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | str]], headings: Sequence[str], captions: Sequence[str], width: int = 320
) -> np.ndarray:
    """Pictures H×W×3 in rows under column headings, a caption over each row; every picture `width` wide.

    A text in place of a picture says why there is none. DataError if a row does not fit the headings.
    """
    if any(len(row) != len(headings) for row in rows) or len(rows) != len(captions):
        raise DataError(f"a contact sheet needs {len(headings)} pictures a row and one caption for each of its rows")
    gap, line = 8, 24
    cells = [[cell if isinstance(cell, str) else _exactly(cell, width) for cell in row] for row in rows]
    heights = [max([40] + [cell.shape[0] for cell in row if not isinstance(cell, str)]) for row in cells]
    sheet_size = (gap + len(headings) * (width + gap), line + sum(line + height + gap for height in heights))
    sheet = Image.new("RGB", sheet_size, "white")
    draw, small = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    lefts = [gap + column * (width + gap) for column in range(len(headings))]
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, 5), heading, INK, font=ImageFont.load_default(14))
    top = line
    for row, height, caption in zip(cells, heights, captions, strict=True):
        draw.text((gap, top + 5), caption, INK, font=small)
        for left, cell in zip(lefts, row, strict=True):
            if isinstance(cell, str):
                draw.text((left, top + line + 8), textwrap.fill(cell, width // 7), MUTED, font=small)
            else:
                sheet.paste(Image.fromarray(cell), (left, top + line))
        top += line + height + gap
    return np.asarray(sheet)


def confusion_figure(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Each row of the confusion matrix (int C×C, rows label, columns prediction) as shares of its label's pixels.

    A cell's colour is transparent at 0 and opaque at 1, so that the figure stands on light and dark pages; with up to
    40 classes a cell of at least 1 % carries its percentage. A class without label pixels has an empty row.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure

    shares = row_shares(matrix)
    count = len(names)
    readable = count <= MOST_CLASSES_WITH_TEXT
    side = 1.9 + (0.34 * count if readable else 7.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    cells = np.empty((count, count, 4))
    cells[..., :3] = to_rgb(BLUE)
    cells[..., 3] = np.sqrt(np.nan_to_num(shares))  # the root keeps confusions of a few per cent visible
    axes.imshow(cells, interpolation="none")
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("label", color=INK)
    axes.set_xticks(range(count), names if readable else [""] * count, rotation=90)
    axes.set_yticks(range(count), names if readable else [""] * count)
    _plain(axes)
    axes.tick_params(length=0)
    if readable:
        for row, column in np.argwhere(np.nan_to_num(shares) >= 0.005):
            share = shares[row, column]
            color = "white" if share > 0.45 else INK
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=color)
    return figure


def row_shares(matrix: np.ndarray) -> np.ndarray:
    """Confusion matrix C×C divided by its row sums, float64; rows without a pixel are nan."""
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)


def curve_figure(iterations: np.ndarray, losses: Mapping[str, np.ndarray], lr: np.ndarray) -> Figure:
    """Training curves over the iterations: every named loss in one panel (the first is drawn strong), lr below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for index, (name, values) in enumerate(losses.items()):
        color = (BLUE, ORANGE, GREEN)[index % 3]
        upper.plot(iterations, values, color=color, label=name, linewidth=1.8 if index == 0 else 1.0)
    upper.legend(frameon=False, labelcolor=INK, ncols=len(losses))
    upper.set_ylabel("loss", color=INK)
    upper.set_ylim(bottom=0)
    lower.plot(iterations, lr, color=MUTED, linewidth=1.4)
    lower.set_ylabel("lr", color=INK)
    lower.set_ylim(bottom=0)
    lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    lower.set_xlabel("iteration", color=INK)
    for axes in (upper, lower):
        _plain(axes)
        axes.grid(color=MUTED, alpha=0.25, linewidth=0.6)
        axes.margins(x=0.01)
    return figure


def bars_figure(names: Sequence[str], values: Sequence[float], label: str) -> Figure:
    """One horizontal bar for each name, from the top down, with its value written at its end to two decimals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.7 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), values, color=BLUE, height=0.7)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(label, color=INK)
    axes.margins(x=0.12)
    _plain(axes)
    return figure


def histogram_figure(values: np.ndarray, label: str, bins: int = 20) -> Figure:
    """How many of the values, which lie in 0..100, fall into each of equally wide bins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(values, bins=bins, range=(0, 100), color=BLUE, rwidth=0.9)
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel("images", color=INK)
    axes.yaxis.get_major_locator().set_params(integer=True)
    _plain(axes)
    return figure


def figure_png(figure: Figure, dpi: int = 130) -> bytes:
    """The figure on white as PNG bytes; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def figure_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element for an HTML page: transparent, inked in the page's text colour, no links."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "segcore"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)  # HTML needs no name spaces


def _plain(axes: Axes) -> None:
    """No box, no upper and right spine, everything else in ink."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=8, which="both")


def _exactly(picture: np.ndarray, width: int) -> np.ndarray:
    small = fit_width(picture, width)
    if small.shape[1] == width:
        return small
    height = max(1, round(small.shape[0] * width / small.shape[1]))
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}×{image.shape[1]}"
