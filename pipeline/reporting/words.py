"""How values are written in the report: percentages, sizes, durations, nested settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

NONE = "–"
SIZES = ("crop", "stride", "size")


def percent(fraction: float | None) -> str:
    """0.34567 -> `34.57`; nothing -> a dash."""
    return NONE if fraction is None else f"{100 * fraction:.2f}"


def digits(value: float | None, count: int = 3) -> str:
    """`count` significant digits, never with an exponent: 1234.5 -> `1230`, 0.9 -> `0.900`; nothing -> a dash."""
    if value is None:
        return NONE
    rounded = float(f"{value:.{count}g}")
    whole = math.floor(math.log10(abs(rounded))) + 1 if rounded else 1
    return f"{rounded:.{max(count - whole, 0)}f}"


def size(value: Any) -> str:
    """[512, 1024] -> `512×1024`, H before W; a single number stands for both sides; nothing -> a dash."""
    if value is None:
        return NONE
    return "×".join(map(str, value if isinstance(value, list | tuple) else (value, value)))


def duration(seconds: float) -> str:
    """Seconds as `1 h 02 min`, `7 min 12 s` or `9.5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def plain(value: Any) -> str:
    """A setting's value as a person writes it."""
    if value is None or value == [] or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (`a.b`, value) pairs."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def setting(key: str, value: Any) -> str:
    """The value of a named setting: sizes as H×W, everything else plainly."""
    return size(value) if key.rsplit(".", 1)[-1] in SIZES else plain(value)
