"""Our two kinds of file: `model.pt`, which holds everything needed to use a model, and the resume state of a run."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore.data.labels import LabelTable
from segcore.errors import CheckpointError, SegcoreError
from segcore.files import atomic_write
from segcore.models import build_model

FORMAT = 1


@dataclass(frozen=True)
class ModelFile:
    """What a `model.pt` holds.

    Attributes:
        model: name for `build_model`.
        num_classes: number of classes.
        state_dict: name -> tensor, auxiliary heads included.
        normalisation: {"mean": [3], "std": [3]} of RGB in 0 … 1.
        labels: the label table, with its palette.
        evaluate: the recipe's block of modes, scales and crop.
        provenance: digests of parameters, data and code, the seed and the torch version; nothing that changes from
            one run to an equal one.
    """

    model: str
    num_classes: int
    state_dict: dict[str, Tensor]
    normalisation: dict[str, list[float]]
    labels: LabelTable
    evaluate: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def network(self, device: str | torch.device = "cpu") -> nn.Module:
        """The network for inference: eval mode, no auxiliary heads, channels_last."""
        from segcore.models.checkpoints.state import load_state

        net = build_model(self.model, self.num_classes)
        load_state(net, self.state_dict, self.model)
        return net.to(device, memory_format=torch.channels_last).eval()


def save_model_file(path: Path, model: ModelFile) -> None:
    """Writes plain containers and plain tensors in a fixed order, so that equal models are equal files."""
    content = {
        "format": FORMAT,
        "model": model.model,
        "num_classes": model.num_classes,
        "state_dict": {k: v.detach().cpu().contiguous() for k, v in model.state_dict.items()},
        "normalisation": model.normalisation,
        "labels": {"name": model.labels.name, "entries": model.labels.to_dicts()},
        "palette": model.labels.palette.tolist(),
        "evaluate": model.evaluate,
        "provenance": model.provenance,
    }
    save(path, content)


def load_model_file(path: Path) -> ModelFile:
    """Reads a `model.pt`.

    Raises:
        CheckpointError: no such file, damaged, with code in it, or another kind of file.
    """
    content = load(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a segcore model file (format {FORMAT})")
    try:
        labels = LabelTable.from_dicts(content["labels"]["name"], content["labels"]["entries"])
        names = ("model", "num_classes", "state_dict", "normalisation", "evaluate", "provenance")
        return ModelFile(labels=labels, **{name: content[name] for name in names})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the model file lacks {error}; it was not written by segcore") from None


def save(path: Path, content: object) -> None:
    """torch.save, atomically; the archive inside carries no file name, so equal content gives equal bytes."""
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error}); what was there before is untouched") from error


def load(path: Path) -> Any:
    """torch.load of tensors and plain containers, to the CPU; a file that carries code is refused, not run.

    Raises:
        CheckpointError: no such file, damaged, or with anything but tensors and plain containers in it.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds, depending on where the damage sits
        kind = type(error).__name__
        raise CheckpointError(f"{path}: damaged, or holds more than tensors, so it was not read ({kind})") from None


class ResumeState:
    """The state of an unfinished run on disk: the newest two are kept, each written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.newest, self.previous = Path(folder) / "resume.pt", Path(folder) / "resume-previous.pt"

    def save(self, content: dict[str, Any]) -> None:
        """Writes `content`; the state before it becomes the previous one.

        A kill between the two steps leaves only the previous one, which is whole.
        """
        if self.newest.exists():
            self.newest.replace(self.previous)
        save(self.newest, content)

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None at the start of a run. What a kill left half written goes."""
        for rest in self.newest.parent.glob(".*.tmp*"):
            rest.unlink(missing_ok=True)
        for path in (self.newest, self.previous):
            if path.exists():
                try:
                    return load(path)
                except SegcoreError as error:
                    warnings.warn(f"{error}; going back to the state before it", RuntimeWarning, stacklevel=2)
        return None


def plain(value: object) -> dict[str, Any]:
    """A dataclass as plain containers (tuples become lists, as in YAML and JSON)."""

    def convert(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: convert(inner) for key, inner in item.items()}
        return [convert(inner) for inner in item] if isinstance(item, tuple | list) else item

    return convert(asdict(value))
