"""Argument types that commands share."""

from __future__ import annotations

from typing import Any


def positive(kind: type) -> Any:
    """An argparse type: numbers of a kind above 0."""

    def read(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    read.__name__ = f"positive {kind.__name__}"  # stands in argparse's message
    return read


def size(text: str) -> tuple[int, int]:
    """`512x1024` -> (512, 1024), H before W."""
    height, width = map(positive(int), text.split("x"))
    return height, width


size.__name__ = "HxW"
