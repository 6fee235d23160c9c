"""Digests of code: what a stage's result depends on, and nothing else.

DVC would compare files as they are, so that a reworded comment trains every model again. The digest covers the sources
that a stage runs, without comments, docstrings and blank lines: its own script and the project's modules it imports,
followed by reading import statements. What is looked up by name at run time (a network's file) is handed in.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("segcore", "pipeline")


def code_digest(modules: Iterable[str], root: Path = Path()) -> str:
    """16 hex digits over the stripped sources of `modules` (dotted names) and of all of this project they import."""
    seen: set[Path] = set()
    todo = [path for module in modules for path in _files(module, root)]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            package = path.relative_to(root).parent.parts
            todo += [
                file for name in _imported(path.read_text(encoding="utf-8"), package) for file in _files(name, root)
            ]
    total = hashlib.sha256()
    for path in sorted(seen):
        total.update(f"{path.relative_to(root).as_posix()}\n{strip(path.read_text(encoding='utf-8'))}\n".encode())
    return total.hexdigest()[:16]  # short enough to be read in a diff


@functools.cache  # one recipe has five digests, of much the same files
def strip(source: str) -> str:
    """The source without comments, docstrings, blank lines and trailing spaces.

    Cut out by position, which gives the same text on every Python version; a dump of the syntax tree does not.
    """
    text = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start[0] - 1, token.start[1]
            text[row] = text[row][:column]
    lines = [line.encode() for line in text]  # positions in the syntax tree count bytes
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if _is_docstring(statement):
                _cut(lines, (statement.lineno, statement.col_offset), (statement.end_lineno, statement.end_col_offset))
    return "\n".join(line for line in (line.decode().rstrip() for line in lines) if line)


def _is_docstring(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str)


def _cut(lines: list[bytes], start: tuple[int, int], end: tuple[int, int]) -> None:
    (first, left), (last, right) = (start[0] - 1, start[1]), (end[0] - 1, end[1])
    head, tail = lines[first][:left], lines[last][right:]
    lines[first : last + 1] = [head, *[b""] * (last - first)]
    lines[last] = lines[last] + tail if last > first else head + tail


@functools.cache
def _imported(source: str, package: tuple[str, ...]) -> tuple[str, ...]:
    """Dotted names that a module of `package` imports; of `from a import b` both a and a.b, whatever b is."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = (base + (node.module or "")).strip(".")
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _files(module: str, root: Path) -> list[Path]:
    """The file of a module of this project, with the `__init__` of every package above it; [] for anything else."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return []
    above = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    own = root.joinpath(*parts).with_suffix(".py")
    return [path for path in (*above, own) if path.is_file()]
