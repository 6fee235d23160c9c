"""A page is a list of sections of blocks; here it becomes HTML, in markdown.py Markdown, with the same tables.

The HTML is self-contained: style, figures and pictures are inside it, and it needs no network. A few lines of script
turn the pictures of an example into one with a slider; without script they stand side by side. In any text `code`
between backticks is set as code, and *words* between asterisks are stressed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

STYLE, SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))
# A folder of nothing but pictures, for DVC shows it as plots.
PICTURES = "pictures"
LONG = 40  # characters; a longer text is broken into lines on a phone


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A paragraph nobody should miss."""

    text: str


@dataclass(frozen=True)
class KeyFigure:
    """One number large: what it is, its value with unit, and what makes it believable."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class KeyFigures:
    """Numbers in a row."""

    items: tuple[KeyFigure, ...]


@dataclass(frozen=True)
class Cell:
    """A table cell; `swatch` is an RGB colour before the text, `bar` a fraction drawn before it in `swatch`'s place.

    `whisker` are two fractions with a line between them on the bar. `heat` is a fraction that tints the whole cell;
    `link` is a relative address that the text leads to.
    """

    text: str
    swatch: tuple[int, int, int] | None = None
    bar: float | None = None
    whisker: tuple[float, float] | None = None
    span: int = 1
    heat: float | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells or plain strings; `align` has one of l, r, c for each column; folded tables open on a click."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    align: str
    caption: str = ""
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: `svg` goes into the HTML page, `png` into the file `name` that the Markdown page shows."""

    name: str
    svg: str
    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One image's pictures by column, each a data URI or the reason why there is none."""

    caption: str
    pictures: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Examples under common headings; Markdown shows them as one contact sheet, `png` in the file `name`.

    `shown` is the place of the picture that the slider starts at.
    """

    name: str
    headings: Sequence[str]
    examples: Sequence[Example]
    png: bytes
    caption: str
    legend: Sequence[Cell] = ()
    shown: int = 2


Block = Text | Notice | KeyFigures | Table | Picture | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `command` makes its numbers again."""

    title: str
    blocks: Sequence[Block]
    command: str = ""

    @property
    def anchor(self) -> str:
        """What a link to it is called."""
        return re.sub(r"\W+", "-", self.title.lower())


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section] = field(default_factory=tuple)

    @property
    def files(self) -> dict[str, bytes]:
        """The pictures the Markdown form refers to, by their path beside it."""
        blocks = (block for section in self.sections for block in section.blocks)
        return {f"{PICTURES}/{block.name}": block.png for block in blocks if isinstance(block, Picture | Gallery)}


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of an image file as text that an `<img>` can hold; `kind` is png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def to_html(page: Page) -> str:
    """The page as one self-contained HTML document."""
    sections = "\n".join(_section_html(section) for section in page.sections)
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in page.sections)
    script = f"<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>\n" if 'class="slides"' in sections else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(page.title)}</h1>\n<p>{_inline(page.subtitle)}</p>\n</header>\n"
        f'<nav aria-label="Sections">{links}</nav>\n<main>\n{sections}\n</main>\n{script}</body>\n</html>\n'
    )


def _section_html(section: Section) -> str:
    blocks = "\n".join(_block_html(block) for block in section.blocks)
    command = f'<p class="command"><code>{escape(section.command)}</code></p>\n' if section.command else ""
    return f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n{command}{blocks}\n</section>'


def _block_html(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Notice(text):
            return f'<p class="notice" role="note">{_inline(text)}</p>'
        case KeyFigures(items):
            return '<dl class="figures">' + "".join(_key_figure_html(item) for item in items) + "</dl>"
        case Table():
            return _table_html(block)
        case Picture():
            caption = f"<figcaption>{_inline(block.caption)}</figcaption>"
            drawing = f'<div class="drawing" role="img" aria-label="{escape(block.alt)}">{block.svg}</div>'
            return f"<figure>{drawing}{caption}</figure>"
        case Gallery():
            return _gallery_html(block)


def _key_figure_html(item: KeyFigure) -> str:
    return f"<div><dt>{_inline(item.label)}</dt><dd><b>{escape(item.value)}</b>{_inline(item.note)}</dd></div>"


def _table_html(table: Table) -> str:
    names = zip(table.header, table.align, strict=True)
    head = "<tr>" + "".join(f'<th class="{side}">{_inline(name)}</th>' for name, side in names) + "</tr>"
    kind = "" if any(table.header) else ' class="pairs"'
    rows = "\n".join(f"<tr>{_row_html(row, table.align)}</tr>" for row in table.rows)
    caption = f'<p class="caption">{_inline(table.caption)}</p>' if table.caption else ""
    html = f'<div class="scroll"><table{kind}>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
    if table.folded:
        return f"<details><summary>{escape(table.folded)}</summary>{html}{caption}</details>"
    return html + caption


def _row_html(row: Sequence[Cell | str], align: str) -> str:
    parts, column = [], 0
    for cell in map(as_cell, row):
        kind = f'class="l" colspan="{cell.span}"' if cell.span > 1 else f'class="{align[column]}"'
        if cell.heat is not None:
            # At its strongest the text still stands out on a light and on a dark page.
            kind = f'class="c heat" style="--share:{0.6 * cell.heat:.3f}"'
        elif len(cell.text) > LONG:
            kind = f'class="{align[column]} long"'
        parts.append(f"<td {kind}>{_cell_html(cell)}</td>")
        column += cell.span
    return "".join(parts)


def _cell_html(cell: Cell) -> str:
    color = f"background:rgb{cell.swatch}" if cell.swatch else ""
    text = f'<a href="{escape(cell.link)}">{_inline(cell.text)}</a>' if cell.link else _inline(cell.text)
    if cell.bar is not None:
        low, high = cell.whisker or (0, 0)
        whisker = f'<b style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></b>' if cell.whisker else ""
        return (
            f'<span class="bar"><i style="width:{100 * cell.bar:.1f}%;{color}"></i>{whisker}</span><span>{text}</span>'
        )
    return f'<span class="swatch" style="{color}"></span>{text}' if cell.swatch else text


def _gallery_html(gallery: Gallery) -> str:
    legend = "".join(f"<span>{_cell_html(cell)}</span>" for cell in gallery.legend)
    examples = "\n".join(_example_html(example, gallery) for example in gallery.examples)
    head = f"<p>{_inline(gallery.caption)}</p>" + (f'<p class="legend">{legend}</p>' if legend else "")
    return f'{head}<div class="gallery">\n{examples}\n</div>'


def _example_html(example: Example, gallery: Gallery) -> str:
    layers = []
    for place, (heading, picture) in enumerate(zip(gallery.headings, example.pictures, strict=True)):
        shown = f'<div class="missing">{escape(picture)}</div>'
        if picture.startswith("data:"):
            shown = f'<img src="{picture}" alt="{escape(heading)}">'
        layers.append(f'<figure style="--place:{place}">{shown}<figcaption>{escape(heading)}</figcaption></figure>')
    # One picture alone has nothing to be compared with.
    several = sum(picture.startswith("data:") for picture in example.pictures) > 1
    kind = f' class="slides" data-shown="{gallery.shown}"' if several else ""
    caption = f'<p class="caption">{_inline(example.caption)}</p>'
    return f'<div{kind}><div class="layers">{"".join(layers)}</div>{caption}</div>'


def as_cell(cell: Cell | str) -> Cell:
    """A plain string as a cell."""
    return Cell(cell) if isinstance(cell, str) else cell


def _inline(text: str) -> str:
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*([a-z][a-z -]*)\*", r"<em>\1</em>", coded)
