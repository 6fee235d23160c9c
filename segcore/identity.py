"""What a training is of, and in what two of them differ: a saved state goes on only in the training that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segcore.checkpoint import plain
from segcore.distributed import Process
from segcore.errors import CheckpointError
from segcore.files import digest
from segcore.prepare import Job

# What is compared by its digest, which says nothing to a person.
CHANGED = {
    "code": "the training code changed",
    "data": "the images changed",
    "list": "the list of training images changed",
    "label_digest": "the label table changed",
    "weights": "the pretrained weights changed",
}
# Characters of a value in a sentence.
LONGEST = 40


def made_by(job: Job, process: Process) -> dict[str, Any]:
    """What the state of a run depends on, as plain containers; the number of processes where numbers depend on it."""
    recipe = job.recipe
    counts = recipe.world_size is not None or "local" in (recipe.norm, recipe.ohem_scope)
    return {
        "recipe": plain(recipe),
        "seed": job.seed,
        "list": digest(job.samples.pairs),
        "label_digest": job.samples.labels.digest,
        "mean": list(job.mean),
        "std": list(job.std),
        "processes": process.world_size if counts else None,
    }


def refuse_other(saved: dict[str, Any] | None, here: dict[str, Any], folder: Path) -> None:
    """Makes sure that a state, if there is one, was made by the training described by `here`.

    Raises:
        CheckpointError: by another one; names all that differs.
    """
    differs = differences(saved.get("made_by", {}), here) if saved else []
    if differs:
        raise CheckpointError(
            f"{folder}: the state in it was made by another training: {'; '.join(differs)}. Put this back to go on "
            f"with it, or `rm -r {folder}` to start afresh"
        )


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Each thing in which two descriptions differ, with both values shortened; sections within them are looked into."""
    there, here = _flat(there), _flat(here)
    names = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    return [
        CHANGED.get(name) or f"{name} {_short(there.get(name))} there, {_short(here.get(name))} here" for name in names
    ]


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    parts = [_flat(value) if isinstance(value, dict) else {key: value} for key, value in content.items()]
    return {key: value for part in parts for key, value in part.items()}


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
