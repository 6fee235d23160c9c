"""State dicts in a network's own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore.errors import CheckpointError

# Under these keys a file may keep its state dict.
WRAPPERS = ("state_dict", "model")
# A norm's count of batches. Nothing depends on it, as momentum is fixed; whether a file has it depends on its PyTorch.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did: how many tensors were loaded, and which training-only ones were left out."""

    loaded: int
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """A file of another code base, understood.

    Attributes:
        networks: those of ours whose weights it can be; more than one where the keys do not tell.
        state: name -> tensor, in our names.
        dropped: entries that none of them has a place for, by their names in the file.
    """

    networks: tuple[str, ...]
    state: dict[str, Tensor]
    dropped: tuple[str, ...] = ()


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


def load_state(model: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> LoadReport:
    """Fills `model` from a state dict in its own names.

    Parts of heads that the model was built without are dropped. A norm's counter of batches may be missing, then it
    is 0, or be there for a norm that has none, then it is dropped.

    Raises:
        CheckpointError: names the first missing, surplus or misshapen keys.
    """
    own = model.state_dict()
    heads = tuple(f"{head}." for head in getattr(model, "heads", ()))
    absent = tuple(head for head in heads if not any(name.startswith(head) for name in own))
    dropped = tuple(name for name in state if name.startswith(absent) or (_counts(name, own) and name not in own))
    state = {name: value for name, value in state.items() if name not in dropped}
    loaded = len(state)
    state |= {name: torch.zeros_like(own[name]) for name in own if name not in state and _counts(name, state)}
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
    return LoadReport(loaded, dropped)


def _counts(name: str, norms: Mapping[str, Tensor]) -> bool:
    """Whether an entry is the counter of a norm that stands in `norms`."""
    return name.endswith(COUNTER) and name.removesuffix(COUNTER) + "running_var" in norms
