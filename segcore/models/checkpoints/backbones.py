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
    if missing := _missing(content, model):
        raise CheckpointError(f"{path}: not a backbone file, it lacks {', '.join(missing)}")
    loaded, dropped = 0, sorted(set(content) - set(model.backbone))
    for name in model.backbone:
        report = load_state(model.get_submodule(name), content[name], f"{path} ({name})")
        loaded += report.loaded
        dropped += [f"{name}.{entry}" for entry in report.dropped]
    inside = tuple(f"{name}." for name in model.backbone)
    return LoadReport(loaded, tuple(dropped), tuple(name for name in model.state_dict() if not name.startswith(inside)))


def is_backbone(content: Any, model: nn.Module, path: str | Path) -> bool:
    """Whether a file's content is a backbone of the model and nothing more."""
    return not _missing(_nested(content, model, path), model)


def _missing(nested: Any, model: nn.Module) -> list[str]:
    parts = nested if isinstance(nested, Mapping) else {}
    return sorted(name for name in model.backbone if not isinstance(parts.get(name), Mapping))


def _nested(content: Any, model: nn.Module, path: str | Path) -> Any:
    """A file of another form as {module: its state dict}; what it holds beside gets None. Other content as it is."""
    if not isinstance(content, Mapping):
        return content
    flat = content["state_dict"] if isinstance(content.get("state_dict"), Mapping) else content
    if "encoder" in model.backbone and "encoder" not in content:
        return scene.nest(unwrap(content, path))
    if stdc.KEY in flat:
        state, unused = stdc.translate(unwrap(content, path), prefix="")
        return {stdc.BACKBONE.rstrip("."): state, **dict.fromkeys(unused)}
    if coincheung.RESNET_KEY in flat:
        return coincheung.nest(unwrap(content, path))
    return content
