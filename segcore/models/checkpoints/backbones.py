"""Pretrained backbones, from which a training starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from segcore.checkpoint import load
from segcore.errors import CheckpointError
from segcore.models.checkpoints import scene, stdc
from segcore.models.checkpoints.state import LoadReport, load_state, unwrap


def load_backbone(model: nn.Module, path: str | Path) -> LoadReport:
    """Fills the modules that `model.backbone` names from a nested file {module: its state dict}, each strictly.

    That is the form of CoinCheung's `backbone_v2.pth`; modules the model does not have as backbone (classifier
    left-overs) are left out and reported. The ImageNet files of STDC-Seg and of scene parsing's encoders are brought
    into this form.

    Raises:
        CheckpointError: the file lacks a module or does not fit.
    """
    content = load(Path(path))
    if isinstance(content, Mapping) and stdc.KEY in content.get("state_dict", content):
        state, unused = stdc.translate(unwrap(content, path), prefix="")
        content = {stdc.BACKBONE.rstrip("."): state, **dict.fromkeys(unused)}
    elif isinstance(content, Mapping) and "encoder" in model.backbone and "encoder" not in content:
        content = scene.nest(unwrap(content, path))
    children = {name: content[name] for name in model.backbone if isinstance(content, dict) and name in content}
    if set(children) != set(model.backbone):
        missing = sorted(set(model.backbone) - set(children))
        raise CheckpointError(f"{path}: not a backbone file, it lacks {', '.join(missing)}")
    for name, state in children.items():
        load_state(model.get_submodule(name), state, f"{path} ({name})")
    return LoadReport(sum(map(len, children.values())), tuple(sorted(set(content) - set(children))))
