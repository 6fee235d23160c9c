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
    """What `load_weights` did.

    Attributes:
        loaded: how many tensors were taken from the file.
        dropped: entries of the file that were left out, for the model has no place for them.
        fresh: entries of the model that the file did not fill; only a fine-tuning has any.
    """

    loaded: int
    dropped: tuple[str, ...]
    fresh: tuple[str, ...] = ()


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


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], where: str | Path, *, finetune: bool = False
) -> LoadReport:
    """Fills `model` from a state dict in its own names.

    Parts of heads that the model was built without are dropped. A norm's counter of batches may be missing, then it
    is 0, or be there for a norm that has none, then it is dropped.

    Args:
        model: to be filled; unchanged if anything is wrong.
        state: name -> tensor.
        where: the file, for messages.
        finetune: leave classifiers of another class count, and heads that the file lacks altogether, as they are.

    Raises:
        CheckpointError: names the first missing, surplus, misshapen or not finite entries.
    """
    own = model.state_dict()
    absent = _heads_missing(model, own)
    dropped = [name for name in state if name.startswith(absent) or (_counts(name, own) and name not in own)]
    fresh = _left_fresh(model, own, state) if finetune else []
    dropped += [name for name in fresh if name in state]
    taken = {name: value for name, value in state.items() if name not in dropped}
    loaded = len(taken)
    taken |= {name: torch.zeros_like(own[name]) for name in own if name not in taken and _counts(name, taken)}
    taken |= {name: own[name] for name in fresh}
    _refuse_faults(own, taken, where)
    model.load_state_dict(taken)
    return LoadReport(loaded, tuple(dropped), tuple(fresh))


def _refuse_faults(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str | Path) -> None:
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"surplus {name}" for name in state if name not in own]
    for name, value in state.items():
        if name in own and value.shape != own[name].shape:
            faults.append(f"{name} is {tuple(value.shape)}, the model wants {tuple(own[name].shape)}")
        elif value.is_floating_point() and not value.isfinite().all():
            faults.append(f"{name} holds values that are not finite")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{where}: does not fit the model: {'; '.join(faults[:3])}{more}")


def _heads_missing(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Prefixes of the model's possible heads of which nothing stands in `state`."""
    heads = (f"{head}." for head in getattr(model, "heads", ()))
    return tuple(head for head in heads if not any(name.startswith(head) for name in state))


def _left_fresh(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    classifiers = {id(parameter) for convolution in model.classifiers() for parameter in convolution.parameters()}
    of_classifiers = [name for name, parameter in model.named_parameters() if id(parameter) in classifiers]
    other = [name for name in of_classifiers if name in state and state[name].shape != own[name].shape]
    lacking = _heads_missing(model, state)
    return other + [name for name in own if name.startswith(lacking)]


def _counts(name: str, norms: Mapping[str, Tensor]) -> bool:
    """Whether an entry is the counter of a norm that stands in `norms`."""
    return name.endswith(COUNTER) and name.removesuffix(COUNTER) + "running_var" in norms
