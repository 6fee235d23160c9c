"""Trainings that stopped before their end: what each was of, and that none is silently begun anew beside it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from segcore.checkpoint import ResumeState
from segcore.errors import RecipeError
from segcore.files import held
from segcore.identity import differences

# In a run's folder, from its begin: what it is of.
NOTE = "training.json"
LOCK = "lock"
FINISHED = "finished"


def refuse_beside(folder: Path, here: dict[str, Any], root: Path) -> None:
    """Makes sure that a training does not start afresh because of a changed setting while its state waits beside.

    A training goes on from its own state whatever lies beside. Another network, data set or seed is another training.
    A state is not in the way if its run is going on, has finished, or ended because its numbers were not finite: there
    other settings are the remedy.

    Args:
        folder: of the state that is to be begun.
        here: what it is of.
        root: of the project, for the command in the message.

    Raises:
        RecipeError: such a state waits; names it, all that differs, and what to do.
    """
    if _paths(folder):
        return
    for other in sorted(folder.parent.glob(f"*/{NOTE}"), key=_time, reverse=True):
        there = _read(other)
        if other.parent == folder or _kind(there) != _kind(here) or not _waits(other.parent):
            continue
        if state := ResumeState(other.parent).load():
            where, (arch, dataset, seed) = other.parent.relative_to(root), _kind(here)
            raise RecipeError(
                f"{where}: a training of {arch} on {dataset} with seed {seed} stopped there after {state['iteration']} "
                f"of {there['recipe']['iterations']} iterations, and differs: {'; '.join(differences(there, here))}. "
                f"Put this back to go on with it, or `rm -r {where}` to start afresh"
            )


def _waits(folder: Path) -> bool:
    over = (folder / FINISHED).exists() or any(folder.glob("not-finite-*.json"))
    return bool(_paths(folder)) and not over and not held(folder / LOCK)


def _paths(folder: Path) -> list[Path]:
    state = ResumeState(folder)
    return [path for path in (state.newest, state.previous) if path.exists()]


def _kind(of: dict[str, Any]) -> tuple[object, ...]:
    """What makes two trainings different ones."""
    try:
        return of["recipe"]["arch"], of["dataset"]["name"], of["seed"]
    except (KeyError, TypeError):
        return ()


def _read(path: Path) -> dict[str, Any]:
    # Another run may clear the folder away meanwhile.
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _time(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
