"""Where each kind of exported file carries its metadata (see `segcore.deploy.metadata`): written into it, read from it.

A file that cannot hold any has it beside it: `model.engine` in `model.engine.json`, so that the engine itself stays
what other tools of TensorRT read.
"""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from segcore.deploy import metadata
from segcore.deploy.export import openvino_core, require
from segcore.deploy.metadata import GraphShape
from segcore.errors import CheckpointError
from segcore.files import sha256, write_json


def parts(path: Path) -> tuple[Path, ...]:
    """All files that an exported file consists of, the first one last."""
    beside = {".xml": path.with_suffix(".bin"), ".engine": sidecar(path), ".plan": sidecar(path)}
    return (beside[path.suffix], path) if path.suffix in beside else (path,)


def sidecar(path: Path) -> Path:
    """Where the metadata of a TensorRT engine lies."""
    return path.with_name(f"{path.name}.json")


def stamp(path: Path, about: dict[str, Any], shape: GraphShape) -> None:
    """Writes the metadata into a file that has none yet."""
    _WRITERS[path.suffix](path, about, shape)


def read_stamp(path: Path) -> str | None:
    """The metadata of a file; None if it has none.

    Raises:
        CheckpointError: it is damaged, something else, or what belongs beside it is missing or another file's.
        ExportError: the package that reads it is missing.
    """
    return _READERS[path.suffix](path)


def _stamp_onnx(path: Path, about: dict[str, Any], shape: GraphShape) -> None:
    onnx = require("onnx")
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {metadata.KEY: metadata.write(about, shape)})
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _read_onnx(path: Path) -> str | None:
    onnx = require("onnx")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has its own kinds of error
        raise CheckpointError(f"{path}: damaged, or not an ONNX file ({type(error).__name__})") from None
    return next((entry.value for entry in proto.metadata_props if entry.key == metadata.KEY), None)


def _stamp_openvino(path: Path, about: dict[str, Any], shape: GraphShape) -> None:
    """The description holds the weights' sha256, so that the digest of the first file stands for both."""
    openvino = require("openvino")
    about = {**about, metadata.WEIGHTS: sha256(path.with_suffix(".bin"))}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        new = Path(folder) / path.name
        model = openvino_core().read_model(path)
        model.set_rt_info(metadata.write(about, shape), metadata.KEY)
        openvino.save_model(model, new, compress_to_fp16=False)
        new.replace(path)  # the weights are as they were


def _read_openvino(path: Path) -> str | None:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; it holds the weights of {path.name} and belongs beside it")
    try:
        model = openvino_core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise CheckpointError(f"{path}: damaged, or not an OpenVINO file ({reason})") from None
    if not model.has_rt_info(metadata.KEY):
        return None
    text = model.get_rt_info(metadata.KEY).astype(str)
    if json.loads(text)[metadata.WEIGHTS] != sha256(weights):
        raise CheckpointError(f"{weights}: not the weights of {path.name}; export both again")
    return text


def _stamp_torch(path: Path, about: dict[str, Any], shape: GraphShape) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reports on its own way of reading
        program = torch.export.load(path)
        torch.export.save(program, path, extra_files={metadata.KEY: metadata.write(about, shape)})


def _read_torch(path: Path) -> str | None:
    """Looks into the archive only: nothing of the program is loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next((name for name in archive.namelist() if name.endswith(f"/extra/{metadata.KEY}")), None)
            return archive.read(inside).decode() if inside else None
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: damaged, or not a torch.export file ({error})") from None


def _stamp_engine(path: Path, about: dict[str, Any], shape: GraphShape) -> None:
    """Adds to what the build noted there."""
    built = json.loads(sidecar(path).read_text(encoding="utf-8"))
    write_json(sidecar(path), json.loads(metadata.write({**about, **built}, shape)))


def _read_engine(path: Path) -> str | None:
    try:
        return sidecar(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise CheckpointError(
            f"{sidecar(path)}: cannot be read ({reason}); it describes {path.name} and belongs beside it"
        ) from None


_WRITERS: dict[str, Callable[[Path, dict[str, Any], GraphShape], None]] = {
    ".onnx": _stamp_onnx,
    ".xml": _stamp_openvino,
    ".pt2": _stamp_torch,
    ".engine": _stamp_engine,
}
_READERS: dict[str, Callable[[Path], str | None]] = {
    ".onnx": _read_onnx,
    ".xml": _read_openvino,
    ".pt2": _read_torch,
    ".engine": _read_engine,
    ".plan": _read_engine,
}
