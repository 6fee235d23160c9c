"""A `model.pt` -> the file that is deployed, held against its model before it is called one.

    >>> report = export(Path("model.pt"), Path("bisenetv2.onnx"), GraphShape(size=(512, 1024)))

The file carries everything needed to use and to score it: `segcore.load_model`, `segcore evaluate` and programs in
other languages need nothing else (docs/deploy.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from segcore.checkpoint import ModelFile, load_model_file
from segcore.data.datasets import Samples
from segcore.deploy import metadata
from segcore.deploy.calibration import Calibration, refuse_held_out
from segcore.deploy.engine import EngineFile, open_engine, read_engine
from segcore.deploy.formats import Draft, writer
from segcore.deploy.metadata import GraphShape
from segcore.deploy.parity import compare, refuse_mismatch
from segcore.deploy.stamps import parts, stamp
from segcore.deploy.tensorrt import BuildSettings, load_library
from segcore.errors import ExportError
from segcore.files import sha256
from segcore.models.fuse import fuse
from segcore.models.pairs import PAIRS

IMAGES = 4


def export(
    weights: Path,
    path: Path,
    shape: GraphShape | None = None,
    *,
    photographs: Sequence[np.ndarray] | None = None,
    calibration: Calibration | None = None,
    settings: BuildSettings | None = None,
) -> dict[str, Any]:
    """Writes the file and says how far it is from its model; nothing is left at `path` if that is too far.

    Args:
        weights: the model file.
        path: ends in .onnx, .xml (OpenVINO, whose weights go into a .bin beside it), .engine (TensorRT, which is
            described in a .engine.json beside it) or .pt2 (torch.export).
        shape: how it is to be called; by default float32 in, logits out, any number and size.
        photographs: uint8 H×W×3 RGB to compare on; by default some drawn street scenes.
        calibration: training images, for int8.
        settings: of a TensorRT engine.

    Returns:
        The metadata's blocks "graph", "parity" and (int8) "calibration", with "file", "bytes" and "sha256".

    Raises:
        CheckpointError: not a model file.
        DataError: the calibration list is one to score on.
        ExportError: a wish that does not fit together, a package is missing, the network cannot be exported, or the
            file's class map is not its model's.
    """
    shape, write = shape or GraphShape(), writer(path)
    _refuse_wish(path, shape, calibration)
    file = load_model_file(weights)
    if not shape.size and file.model in PAIRS and not PAIRS[file.model].any_size:
        raise ExportError(f"{file.model}: its pyramid's windows are fixed by the size; give it with --size HxW")
    if calibration:
        refuse_held_out(calibration.path, calibration.samples, file.provenance.get("list"), file.labels)
    network = file.network()
    draft = Draft(fuse(network), shape, file.normalisation, calibration, settings or BuildSettings())
    about = metadata.describe(file, sha256(weights))
    if calibration:
        about["calibration"] = calibration.record()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        new = Path(folder) / path.name
        write(draft, new)
        found = _compare(network, _unstamped(new, shape, file), photographs)
        refuse_mismatch(found, path.name)
        about["parity"] = found
        stamp(new, about, shape)
        read_engine(new)  # what is delivered can be read
        size = sum(part.stat().st_size for part in parts(new))
        for part in parts(new):
            part.replace(path.with_name(part.name))
    blocks = {name: about[name] for name in ("parity", "calibration") if name in about}
    return {"file": str(path), "bytes": size, "sha256": sha256(path), "graph": metadata.graph(shape), **blocks}


def _unstamped(path: Path, shape: GraphShape, file: ModelFile) -> EngineFile:
    about = {name: value for name, value in vars(file).items() if name != "state_dict"}
    return EngineFile(path, shape, **about)


def _compare(network: nn.Module, file: EngineFile, photographs: Sequence[np.ndarray] | None) -> dict[str, Any]:
    source = "given" if photographs is not None else "drawn"
    chosen = photographs if photographs is not None else drawn_scenes()
    return {**compare(network, open_engine(file), chosen), "source": source, "backend": file.backends[0]}


def _refuse_wish(path: Path, shape: GraphShape, calibration: Calibration | None) -> None:
    """What does not fit together, before any work is done."""
    if shape.precision == "int8" and path.suffix == ".pt2":
        raise ExportError(f"{path}: torch.export has no int8 here; write .onnx or .xml")
    if shape.precision == "int8" and not calibration:
        raise ExportError("int8 is calibrated on training images: give their list with --list")
    if path.suffix == ".engine" and not shape.size:
        raise ExportError("a TensorRT engine is built for one size: give it with --size HxW")
    if path.suffix == ".engine":
        load_library()
    if (shape.output == "argmax_resized") != bool(shape.camera):
        raise ExportError("--graph argmax_resized and --camera HxW, the size of its class map, go together")
    if shape.camera and not shape.size:
        raise ExportError("--graph argmax_resized wants the size of its input: give it with --size HxW")


def spread(samples: Samples, count: int = IMAGES) -> list[np.ndarray]:
    """Some images, uint8 H×W×3 RGB, spread over a list."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples)), dtype=int)
    return [samples.image(index) for index in chosen]


def drawn_scenes(count: int = IMAGES) -> list[np.ndarray]:
    """Street scenes of the embedded set, which are no photographs, uint8 256×512×3 RGB."""
    from segcore.data.minicity import MinicityRecipe, render

    return [render(MinicityRecipe(), "val", index)[0] for index in range(count)]
