"""What an exported file says of itself: everything needed to use it and to score it, as one JSON text.

It stands under the key "segcore" in an ONNX file's metadata and in an OpenVINO file's runtime information:

    {"format": 1, "model", "num_classes", "normalisation": {"mean", "std"}, "labels", "palette", "evaluate",
     "provenance": {…, "exported_from": sha256 of the model.pt}, "graph": {"output", "batch", "size", "multiple"}}

`output` is "logits" or "argmax". `batch` is a number and `size` is [H, W] where the graph takes no other, else null;
then sides must be multiples of `multiple`. An OpenVINO file also has "weights_sha256", of the file its weights are in.
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
        output: "logits" float32 N×C×H×W, or "argmax" int32 N×H×W.
        batch: the only number of images it takes; None for any.
        size: the only height and width it takes; None for any multiple of 32.
    """

    output: str = "logits"
    batch: int | None = None
    size: tuple[int, int] | None = None


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


def write(about: dict[str, Any], shape: GraphShape) -> str:
    """The JSON text; equal content gives equal text."""
    graph = {"output": shape.output, "batch": shape.batch, "size": shape.size, "multiple": MULTIPLE}
    return json.dumps({"format": FORMAT, **about, "graph": graph}, ensure_ascii=False)


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
        graph, labels = content["graph"], content["labels"]
        shape = GraphShape(graph["output"], graph["batch"], tuple(graph["size"]) if graph["size"] else None)
        names = ("model", "num_classes", "normalisation", "evaluate", "provenance")
        return {name: content[name] for name in names} | {
            "labels": LabelTable.from_dicts(labels["name"], labels["entries"])
        }, shape
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged ({error}); export it again") from None
