"""Weights files -> our networks. Nothing is ever half-loaded silently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore.checkpoint import load
from segcore.errors import CheckpointError

# Under these keys a file may keep its state dict.
WRAPPERS = ("state_dict", "model")
# By this entry (after a prefix) a file of the STDC family is known.
STDC_KEY = "features.0.conv.weight"
STDC_BACKBONE = "cp.backbone."


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did: how many tensors were loaded, and which training-only ones were left out."""

    loaded: int
    dropped: tuple[str, ...]


def load_weights(model: nn.Module, path: str | Path) -> LoadReport:
    """Fills `model` from a file: our `model.pt`, a plain state dict, one under `state_dict`/`model`, or with `module.`.

    Auxiliary heads in the file are left out (and reported) for a model built without them; so are the parts of a
    released file that its authors never trained for the task.

    Raises:
        CheckpointError: no such file, damaged, with code in it, or any other missing, surplus or misshapen key.
    """
    state, unused = unwrap(load(Path(path)), path), ()
    if STDC_BACKBONE + STDC_KEY in state:
        state, unused = from_stdc_release(state)
    report = load_state(model, state, path)
    return LoadReport(report.loaded, unused + report.dropped)


def load_backbone(model: nn.Module, path: str | Path) -> LoadReport:
    """Fills the modules that `model.backbone` names from a nested file {module: its state dict}, each strictly.

    That is the form of CoinCheung's `backbone_v2.pth`; modules the model does not have as backbone (classifier
    left-overs) are left out and reported. The ImageNet files of STDC-Seg are brought into this form.

    Raises:
        CheckpointError: the file lacks a module or does not fit.
    """
    content = load(Path(path))
    if isinstance(content, Mapping) and STDC_KEY in content.get("state_dict", content):
        state, unused = from_stdc_release(unwrap(content, path), prefix="")
        content = {STDC_BACKBONE.rstrip("."): state, **dict.fromkeys(unused)}
    children = {name: content[name] for name in model.backbone if isinstance(content, dict) and name in content}
    if set(children) != set(model.backbone):
        missing = sorted(set(model.backbone) - set(children))
        raise CheckpointError(f"{path}: not a backbone file, it lacks {', '.join(missing)}")
    for name, state in children.items():
        load_state(model.get_submodule(name), state, f"{path} ({name})")
    return LoadReport(sum(map(len, children.values())), tuple(sorted(set(content) - set(children))))


def unwrap(content: Any, where: str | Path) -> dict[str, Tensor]:
    """Finds the state dict in a file's content and strips `module.`.

    Raises:
        CheckpointError: there is none.
    """
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{where}: holds no state dict (name -> tensor)")
    if content and all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def from_stdc_release(
    state: Mapping[str, Tensor], prefix: str = STDC_BACKBONE
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A file of MichaelFan01/STDC-Seg -> our names and norms; leaves a state dict that has them already as it is.

    - Every backbone tensor stands there twice; as in the reference the copy under x2 … x32 wins.
    - The classifier and the edge heads that the published setting does not train are left out.
    - Norms outside the backbone are in-place ones without a counter, which scale by abs(weight) + 1e-5, not by weight.
      A file that has their counters was trained with ordinary norms.

    Args:
        state: name -> tensor.
        prefix: where the backbone is: "" in its ImageNet files.

    Returns:
        The converted state dict, and the names left out.
    """
    copy = re.compile(rf"{re.escape(prefix)}x\d+\.0\.")
    ours = {name: value for name, value in state.items() if not copy.match(name)}
    ours |= {copy.sub(f"{prefix}features.", name): value for name, value in state.items() if copy.match(name)}

    untrained = re.compile(rf"{re.escape(prefix)}(conv_last|fc|bn|linear)\.|conv_out_sp(2|4|16)\.")
    unused = tuple(name for name in ours if untrained.match(name))
    ours = {name: value for name, value in ours.items() if name not in unused}

    for name in [name for name in ours if name.endswith("running_var")]:
        norm = name.removesuffix("running_var")
        if f"{norm}num_batches_tracked" not in ours:
            ours[f"{norm}num_batches_tracked"] = torch.tensor(0)
            if not norm.startswith(f"{prefix}features.") and f"{norm}weight" in ours:
                ours[f"{norm}weight"] = ours[f"{norm}weight"].abs() + 1e-5
    return ours, unused


def load_state(model: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> LoadReport:
    """Fills `model` from a state dict in its own names.

    Raises:
        CheckpointError: names the first missing, surplus or misshapen keys.
    """
    own = model.state_dict()
    heads = set(getattr(model, "heads", ())) - {name.split(".")[0] for name in own}
    dropped = tuple(name for name in state if name.split(".")[0] in heads)
    state = {name: value for name, value in state.items() if name not in dropped}
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"surplus {name}" for name in state if name not in own]
    faults += [
        f"{name} is {tuple(state[name].shape)}, the model wants {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{where}: does not fit the model: {'; '.join(faults[:3])}{more}")
    model.load_state_dict(state)
    return LoadReport(len(state), dropped)
