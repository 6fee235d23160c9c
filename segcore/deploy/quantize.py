"""int8 by quantisation after training: an ONNX file in which every convolution reads eight-bit images and weights.

Before each convolution stands an explicit QuantizeLinear/DequantizeLinear pair, so the precision is in the file and any
runtime reads it: nothing is left to a calibrator of its own. Images are unsigned with one range for a tensor, weights
signed and symmetric with one range for each output channel. Sums, norms, gates, resizing and the class map stay
floating point: they cost little, and each further rounding costs mIoU (docs/log.md has what was compared).
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segcore.deploy.export import INPUT, require
from segcore.errors import ExportError
from segcore.files import atomic_write

QUANTIZED = "Conv"
# TensorRT takes signed and symmetric images only, biases in floating point, and each pair for one reader.
FOR_TENSORRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
}


def quantize_onnx(source: Path, target: Path, batches: Sequence[np.ndarray], *, for_tensorrt: bool = False) -> None:
    """Writes the int8 form of a float32 ONNX file; equal files and images give equal bytes.

    Args:
        source: as `segcore.deploy.export.export_onnx` writes it, for a fixed or any number of images; its metadata is
            taken along.
        target: file to write; what stood there stays whole if this fails.
        batches: float32 N×3×H×W each, normalised training images in a shape that the file takes. What they reach in
            each tensor is the range that eight bits are spread over; larger values are cut off later.
        for_tensorrt: in the form that TensorRT reads, which wastes the sign bit of what follows a ReLU.

    Raises:
        ExportError: a package is missing, there are no images, or the graph cannot be quantised.
    """
    require("onnxruntime")
    onnx, quantization = require("onnx"), require("onnxruntime.quantization")
    if not batches:
        raise ExportError("int8 needs training images to find the range of every tensor; give a list of them")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        found = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                source,
                found,
                _reader(quantization, batches),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=[QUANTIZED],
                per_channel=True,
                activation_type=quantization.QuantType.QInt8 if for_tensorrt else quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # What a convolution gives is rounded only where the next one reads it.
                extra_options={"OpTypesToExcludeOutputQuantization": [QUANTIZED]}
                | (FOR_TENSORRT if for_tensorrt else {}),
            )
        except Exception as error:  # onnxruntime has a dozen kinds without a common name
            raise ExportError(
                f"{source}: cannot be quantised: {' '.join((str(error) or repr(error)).split())}"
            ) from error
        proto = onnx.load(found)
    del proto.metadata_props[:]
    proto.metadata_props.extend(onnx.load(source).metadata_props)
    with atomic_write(target) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))


def _reader(quantization: Any, batches: Sequence[np.ndarray]) -> Any:
    """The batches in the form that the quantiser asks for: one at a time, then None."""

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self._rest, None)
            return None if images is None else {INPUT: images}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to optimise the graph first: `segcore.models.fuse` has done so."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
