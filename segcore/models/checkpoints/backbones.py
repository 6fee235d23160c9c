"""Pretrained backbones, from which a training starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from segcore.checkpoint import load
from segcore.errors import CheckpointError
from segcore.models.checkpoints import coincheung, scene, stdc
from segcore.models.checkpoints.state import LoadReport, load_state, unwrap


def load_backbone(model: nn.Module, path: str | Path) -> LoadReport:
    """Fills the modules that `model.backbone` names from a nested file {module: its state dict}, each strictly.

    That is the form of CoinCheung's `backbone_v2.pth`; modules the model does not have as backbone (classifier
    left-overs) are left out and reported. The ImageNet files of STDC-Seg, torchvision's `resnet18-5c106cde.pth` and the
    files of scene parsing's encoders are brought into this form.

    Raises:
        CheckpointError: the file lacks a module or does not fit.
    """
    content = _nested(load(Path(path)), model, path)
    children = {name: content[name] for name in model.backbone if isinstance(content, dict) and name in content}
    if set(children) != set(model.backbone):
        missing = sorted(set(model.backbone) - set(children))
        raise CheckpointError(f"{path}: not a backbone file, it lacks {', '.join(missing)}")
    loaded, dropped = 0, sorted(set(content) - set(children))
    for name, state in children.items():
        report = load_state(model.get_submodule(name), state, f"{path} ({name})")
        loaded += report.loaded
        dropped += [f"{name}.{entry}" for entry in report.dropped]
    return LoadReport(loaded, tuple(dropped))


def _nested(content: Any, model: nn.Module, path: str | Path) -> Any:
    """A file of another form as {module: its state dict}; what it holds beside gets None. Other content as it is."""
    flat = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    if "encoder" in model.backbone and isinstance(content, Mapping) and "encoder" not in content:
        return scene.nest(unwrap(content, path))
    if stdc.KEY in flat:
        state, unused = stdc.translate(unwrap(content, path), prefix="")
        return {stdc.BACKBONE.rstrip("."): state, **dict.fromkeys(unused)}
    if coincheung.RESNET_KEY in flat:
        return coincheung.nest(unwrap(content, path))
    return content
