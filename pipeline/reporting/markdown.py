"""The page of page.py as Markdown."""

from __future__ import annotations

from pipeline.reporting.page import PICTURES, Block, Gallery, KeyFigures, Notice, Page, Picture, Table, Text, as_cell


def to_markdown(page: Page) -> str:
    """The page as Markdown; pictures are the files of `Page.files` beside it."""
    parts = [f"# {page.title}", page.subtitle]
    for section in page.sections:
        command = [f"`{section.command}`"] if section.command else []
        parts += [f"## {section.title}", *command, *(_block_markdown(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


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
        cells = [text for cell in map(as_cell, row) for text in (cell.text, *[""] * (cell.span - 1))]
        lines.append([text.replace("|", "\\|") for text in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
