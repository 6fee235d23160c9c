"""Whole networks from files of any origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segcore.checkpoint import load
from segcore.errors import CheckpointError
from segcore.models.checkpoints import coincheung, scene, stdc
from segcore.models.checkpoints.backbones import is_backbone, load_backbone
from segcore.models.checkpoints.state import LoadReport, Release, load_state, unwrap

READERS = (coincheung.read, scene.read, stdc.read)
Paths = str | Path | Sequence[str | Path]


def load_weights(model: nn.Module, path: Paths, *, finetune: bool = False) -> LoadReport:
    """Fills `model` from a file: our `model.pt`, a plain state dict, one under `state_dict`/`model`, or with `module.`.

    A scene-parsing network is released in two files: give both paths, encoder's and decoder's, in either order.
    Auxiliary heads in the file are left out (and reported) for a model built without them; so are the parts of a
    released file that its authors never trained for the task.

    Args:
        model: from `build_model`; unchanged if anything is wrong.
        path: the file, or the two.
        finetune: for another class count than the file's, and for files of a backbone alone: classifiers that do not
            fit, and what the file lacks as a whole, keep their fresh weights, and `LoadReport.fresh` names them.

    Raises:
        CheckpointError: no such file, damaged, with code in it, another network's, half of one, or any other missing,
            surplus or misshapen key.
    """
    paths = [path] if isinstance(path, str | Path) else path
    contents = {each: load(Path(each)) for each in paths}
    if len(contents) == 1 and is_backbone(contents[paths[0]], model, paths[0]):
        if finetune:
            return load_backbone(model, paths[0])
        raise CheckpointError(
            f"{paths[0]}: holds a backbone only; give the whole network's file (scene parsing: both files), or "
            "finetune=True to start from it"
        )
    release, where = understand(contents, model.arch)
    report = load_state(model, release.state, where, finetune=finetune)
    return replace(report, dropped=release.dropped + report.dropped)


def understand(contents: Mapping[str | Path, Any], network: str) -> tuple[Release, str]:
    """What a file (or an encoder's and a decoder's) holds, in our names, and how to call it in a message.

    Args:
        contents: path -> what `load` read there.
        network: whose weights they are to be.

    Returns:
        `Release.networks` is empty where the keys are of no code base known.

    Raises:
        CheckpointError: half of a network, another network's, or no state dict.
    """
    state = scene.combine({path: unwrap(content, path) for path, content in contents.items()})
    release, where = identify(state) or Release((), state), ", ".join(map(str, contents))
    if release.networks and network not in release.networks:
        raise CheckpointError(f"{where}: holds weights of {' or '.join(release.networks)}, not of {network}")
    return release, where


def identify(state: Mapping[str, Tensor]) -> Release | None:
    """Tells by its keys which code base a state dict comes from and puts it into our names; None if from none known."""
    return next((release for read in READERS if (release := read(state))), None)
