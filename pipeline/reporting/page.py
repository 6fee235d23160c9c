"""One content structure, two forms: a page is a list of sections of blocks, rendered as HTML and as Markdown.

Both forms carry the same tables. The HTML is self-contained: style, figures and pictures are inside it, it needs
neither network nor script. In any text `code` between backticks is set as code.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("page.css")
# A folder of nothing but pictures, for DVC shows it as plots.
PICTURES = "pictures"


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
    """A table cell; `swatch` is an RGB colour before the text, `bar` a fraction drawn behind it in `swatch`'s place.

    `heat` is a fraction that tints the whole cell; `link` is a relative address that the text leads to.
    """

    text: str
    swatch: tuple[int, int, int] | None = None
    bar: float | None = None
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
    """Examples under common headings; Markdown shows them as one contact sheet, `png` in the file `name`."""

    name: str
    headings: Sequence[str]
    examples: Sequence[Example]
    png: bytes
    caption: str
    legend: Sequence[Cell] = ()


Block = Text | Notice | KeyFigures | Table | Picture | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


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
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(page.title)}</h1>\n<p>{_inline(page.subtitle)}</p>\n</header>\n"
        f"<main>\n{sections}\n</main>\n</body>\n</html>\n"
    )


def to_markdown(page: Page) -> str:
    """The page as Markdown; pictures are the files of `Page.files` beside it."""
    parts = [f"# {page.title}", page.subtitle]
    for section in page.sections:
        parts += [f"## {section.title}", *(_block_markdown(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _section_html(section: Section) -> str:
    blocks = "\n".join(_block_html(block) for block in section.blocks)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>"


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
    for cell in map(_as_cell, row):
        kind = f'class="l" colspan="{cell.span}"' if cell.span > 1 else f'class="{align[column]}"'
        # A tint of the accent colour; at its strongest the text still stands out on a light and on a dark page.
        tint = f"background:rgba(47,127,208,{0.6 * (cell.heat or 0):.3f});padding-right:.5rem"
        heat = "" if cell.heat is None else f' style="{tint}"'
        parts.append(f"<td {kind}{heat}>{_cell_html(cell)}</td>")
        column += cell.span
    return "".join(parts)


def _cell_html(cell: Cell) -> str:
    color = f"background:rgb{cell.swatch}" if cell.swatch else ""
    text = f'<a href="{escape(cell.link)}">{_inline(cell.text)}</a>' if cell.link else _inline(cell.text)
    if cell.bar is not None:
        return f'<span class="bar"><i style="width:{100 * cell.bar:.1f}%;{color}"></i></span>{text}'
    return f'<span class="swatch" style="{color}"></span>{text}' if cell.swatch else text


def _gallery_html(gallery: Gallery) -> str:
    parts = []
    for example in gallery.examples:
        cells = []
        for heading, picture in zip(gallery.headings, example.pictures, strict=True):
            shown = (
                f'<img src="{picture}" alt="{escape(heading)}">'
                if picture.startswith("data:")
                else f'<div class="missing">{escape(picture)}</div>'
            )
            cells.append(f"<figure>{shown}<figcaption>{escape(heading)}</figcaption></figure>")
        parts.append(f'<p class="caption">{_inline(example.caption)}</p><div class="gallery">{"".join(cells)}</div>')
    legend = "".join(f"<span>{_cell_html(cell)}</span>" for cell in gallery.legend)
    return f'<p>{_inline(gallery.caption)}</p><p class="legend">{legend}</p>' + "\n".join(parts)


def _block_markdown(block: Block) -> str:
    match block:
        case Text(text):
            return text
        case Notice(text):
            return f"> **Note.** {text}"
        case KeyFigures(items):
            rows = [(item.label, item.value, item.note) for item in items]
            return _table_markdown(Table(("", "", ""), rows, "lrl"))
        case Table():
            title = f"**{block.folded}**" if block.folded else ""
            return "\n\n".join(part for part in (title, _table_markdown(block), block.caption) if part)
        case Picture():
            return f"![{block.alt}]({PICTURES}/{block.name})\n\n{block.caption}"
        case Gallery():
            captions = "\n".join(f"- {example.caption}" for example in block.examples)
            return f"{block.caption}\n\n![{' | '.join(block.headings)}]({PICTURES}/{block.name})\n\n{captions}"


def _table_markdown(table: Table) -> str:
    rules = {"l": ":--", "r": "--:", "c": ":-:"}
    lines = [table.header, [rules[side] for side in table.align]]
    for row in table.rows:
        cells = [text for cell in map(_as_cell, row) for text in (cell.text, *[""] * (cell.span - 1))]
        lines.append([text.replace("|", "\\|") for text in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _as_cell(cell: Cell | str) -> Cell:
    return Cell(cell) if isinstance(cell, str) else cell


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
