"""Whole networks from files of any origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from segcore.checkpoint import load
from segcore.errors import CheckpointError
from segcore.models.checkpoints import coincheung, scene, stdc
from segcore.models.checkpoints.state import LoadReport, Release, load_state, unwrap

READERS = (coincheung.read, scene.read, stdc.read)


def load_weights(model: nn.Module, path: str | Path | Sequence[str | Path]) -> LoadReport:
    """Fills `model` from a file: our `model.pt`, a plain state dict, one under `state_dict`/`model`, or with `module.`.

    A scene-parsing network is released in two files: give both paths, encoder's and decoder's, in either order.
    Auxiliary heads in the file are left out (and reported) for a model built without them; so are the parts of a
    released file that its authors never trained for the task.

    Raises:
        CheckpointError: no such file, damaged, with code in it, another network's, half of one, or any other missing,
            surplus or misshapen key.
    """
    paths = [path] if isinstance(path, str | Path) else path
    state = scene.combine({each: unwrap(load(Path(each)), each) for each in paths})
    where = ", ".join(map(str, paths))
    release = identify(state)
    if release is None:
        return load_state(model, state, where)
    if model.arch not in release.networks:
        raise CheckpointError(f"{where}: holds weights of {' or '.join(release.networks)}, not of {model.arch}")
    report = load_state(model, release.state, where)
    return LoadReport(report.loaded, release.dropped + report.dropped)


def identify(state: Mapping[str, Tensor]) -> Release | None:
    """Tells by its keys which code base a state dict comes from and puts it into our names; None if from none known."""
    return next((release for read in READERS if (release := read(state))), None)
