"""Whole networks from files of any origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from segcore.checkpoint import load
from segcore.errors import CheckpointError
from segcore.models.checkpoints import stdc
from segcore.models.checkpoints.state import LoadReport, Release, load_state, unwrap

READERS = (stdc.read,)


def load_weights(model: nn.Module, path: str | Path) -> LoadReport:
    """Fills `model` from a file: our `model.pt`, a plain state dict, one under `state_dict`/`model`, or with `module.`.

    Auxiliary heads in the file are left out (and reported) for a model built without them; so are the parts of a
    released file that its authors never trained for the task.

    Raises:
        CheckpointError: no such file, damaged, with code in it, another network's, or any other missing, surplus or
            misshapen key.
    """
    state = unwrap(load(Path(path)), path)
    release = identify(state)
    if release is None:
        return load_state(model, state, path)
    if model.arch not in release.networks:
        raise CheckpointError(f"{path}: holds weights of {' or '.join(release.networks)}, not of {model.arch}")
    report = load_state(model, release.state, path)
    return LoadReport(report.loaded, release.dropped + report.dropped)


def identify(state: Mapping[str, Tensor]) -> Release | None:
    """Tells by its keys which code base a state dict comes from and puts it into our names; None if from none known."""
    return next((release for read in READERS if (release := read(state))), None)
