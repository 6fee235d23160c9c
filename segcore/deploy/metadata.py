"""What an exported file says of itself: everything needed to use it and to score it, as one JSON text.

It stands under the key "segcore" in an ONNX file's metadata and in an OpenVINO file's runtime information, as the extra
file "segcore" in a torch.export file, and in a file of its own beside a TensorRT engine:

    {"format": 1, "model", "num_classes", "normalisation": {"mean", "std"}, "labels", "palette", "evaluate",
     "provenance": {…, "exported_from": sha256 of the model.pt},
     "graph": {"output", "batch", "largest_batch", "size", "multiple", "input", "camera", "precision"},
     "calibration": of an int8 file, "parity": how far it is from its model}

docs/deploy.md explains every key. An OpenVINO file also has "weights_sha256", of the file its weights are in, and a
TensorRT engine "tensorrt", what it was built by and for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcore.checkpoint import ModelFile
from segcore.data.labels import LabelTable
from segcore.errors import CheckpointError

FORMAT = 1
KEY = "segcore"
WEIGHTS = "weights_sha256"
MULTIPLE = 32


@dataclass(frozen=True)
class GraphShape:
    """How a graph is called.

    Attributes:
        output: "logits" float32 N×C×H×W, "argmax" int32 N×H×W, or "argmax_resized", int32 N×camera.
        batch: the only number of images it takes; None for any.
        size: the only height and width it takes; None for any multiple of 32.
        largest_batch: the most images it takes at once, where that is limited.
        takes: "float32", normalised N×3×H×W; or "uint8", N×H×W×3 RGB.
        camera: height and width of the classes of "argmax_resized".
        precision: "fp32", "fp16", "bf16" or "int8".
    """

    output: str = "logits"
    batch: int | None = None
    size: tuple[int, int] | None = None
    largest_batch: int | None = None
    takes: str = "float32"
    camera: tuple[int, int] | None = None
    precision: str = "fp32"


def describe(model: ModelFile, sha256: str) -> dict[str, Any]:
    """Everything in a model file but its weights, as plain containers; `sha256` is the digest of that file."""
    return {
        "model": model.model,
        "num_classes": model.num_classes,
        "normalisation": model.normalisation,
        "labels": {"name": model.labels.name, "entries": model.labels.to_dicts()},
        "palette": model.labels.palette.tolist(),
        "evaluate": model.evaluate,
        "provenance": {**model.provenance, "exported_from": sha256},
    }


def graph(shape: GraphShape) -> dict[str, Any]:
    """The block of this name."""
    return {
        "output": shape.output,
        "batch": shape.batch,
        "largest_batch": shape.largest_batch,
        "size": shape.size,
        "multiple": MULTIPLE,
        "input": shape.takes,
        "camera": shape.camera,
        "precision": shape.precision,
    }


def write(about: dict[str, Any], shape: GraphShape) -> str:
    """The JSON text; equal content gives equal text."""
    return json.dumps({"format": FORMAT, **about, "graph": graph(shape)}, ensure_ascii=False)


def read(text: str | None, path: Path) -> tuple[dict[str, Any], GraphShape]:
    """The reverse: `describe`'s content, with `labels` as a table, and the shape.

    Raises:
        CheckpointError: not written by segcore, or by a later one.
    """
    if not text:
        raise CheckpointError(f"{path}: says nothing of classes and statistics; export it from a model.pt with segcore")
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise CheckpointError(f"{path}: written by another version (format {content['format']}, here {FORMAT})")
        labels = content["labels"]
        names = ("model", "num_classes", "normalisation", "evaluate", "provenance")
        return {name: content[name] for name in names} | {
            "labels": LabelTable.from_dicts(labels["name"], labels["entries"])
        }, _shape(content["graph"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged ({error}); export it again") from None


def _shape(graph: dict[str, Any]) -> GraphShape:
    """Files of before there were several kinds of input and precision lack these keys."""
    size, camera = (tuple(graph[key]) if graph.get(key) else None for key in ("size", "camera"))
    return GraphShape(
        graph["output"],
        graph["batch"],
        size,
        graph.get("largest_batch"),
        graph.get("input", "float32"),
        camera,
        graph.get("precision", "fp32"),
    )
