"""What can go wrong with a long run, noticed early and said in one line: memory, disk, numbers, signals."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn

from segcore.errors import TrainingError
from segcore.files import write_json
from segcore.machine import free_disk, free_memory

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Values a weight brings along: itself, its gradient, and the optimiser's one or two.
VALUES_PER_WEIGHT = {"sgd": 3, "adamw": 4}


class StopRequest:
    """Notes that SIGTERM or Ctrl-C came, instead of dying of it; a second Ctrl-C ends the run at once."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS} if main else {}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def require_disk(folder: Path, bytes_of_state: int, bytes_of_model: int) -> None:
    """Makes sure that two resume states, a third being written, and the result have room.

    Raises:
        TrainingError: they do not.
    """
    wanted, free = 3 * bytes_of_state + bytes_of_model, free_disk(folder)
    if free < wanted:
        raise TrainingError(
            f"{folder}: {_size(free)} free on this disk, but this run's states need {_size(wanted)}; make room first"
        )


def require_memory(run: Callable[[], Any], images: int, wanted: int, fixed: int, device: torch.device) -> float | None:
    """Makes sure that an update fits into memory, by looking at what a small forward pass keeps for the backward pass.

    Args:
        run: computes the loss of `images` images of the training's size; what it returns holds the graph.
        wanted: images that a process computes at once.
        fixed: bytes of weights, gradients and the optimiser's memory.

    Returns:
        Estimated bytes per image, or None where nobody tells how much memory there is.

    Raises:
        TrainingError: it cannot fit; names the number of parts that would.
    """
    free = free_memory(device)
    if free is None:
        return None
    if device.type == "cpu":
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    per_image = _saved_bytes(run) / images
    if fixed + per_image * wanted > free:
        raise TrainingError(
            f"{wanted} images at once need about {_size(fixed + per_image * wanted)}, and {_size(free)} are free on "
            f"{device}; {what_fits(free - fixed, per_image, wanted)}"
        )
    return per_image


def what_fits(free: float, per_image: float, wanted: int) -> str:
    """The end of a sentence: what to set so that `wanted` images are computed in parts that fit."""
    most = int(free // per_image)
    if most < 2:
        return "not even two images fit: set a smaller train.crop in the recipe, or use another device"
    return f"override.accumulate={math.ceil(wanted / most)} fits (norms then see {most} images or fewer at a time)"


def _saved_bytes(run: Callable[[], Any]) -> int:
    """Bytes of all tensors that a forward pass keeps for the backward pass, each storage counted once."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        graph = run()
    del graph  # only now, so that no two of its tensors shared a place
    return sum(kept.values())


def bytes_of(net: nn.Module) -> int:
    """Size of a network's weights and statistics."""
    return sum(value.numel() * value.element_size() for value in net.state_dict().values())


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def dump(path: Path, net: nn.Module, images: Tensor, facts: dict[str, Any]) -> str:
    """Writes what is known of an update whose numbers are not finite; returns where they first were not.

    Args:
        path: a JSON file.
        net: in train mode; it is about to be thrown away, so its statistics may move.
        images: the batch, as the net takes it.
        facts: iteration, learning rate, samples, …: written as they are.
    """
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in net.named_modules() if name]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    spoilt = [name for name, value in net.state_dict().items() if not torch.isfinite(value).all()]
    layer = found[0] if found else "none in the forward pass: loss or gradients only"
    write_json(path, {**facts, "first_layer": layer, "weights_not_finite": spoilt})
    return layer
