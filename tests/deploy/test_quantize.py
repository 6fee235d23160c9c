"""int8 files: where eight bits stand, what they cost, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segcore.deploy import backends
from segcore.deploy.backends import load_onnxruntime, load_openvino
from segcore.deploy.case import cut_argmax
from segcore.deploy.export import DeployGraph, export_onnx
from segcore.deploy.quantize import quantize_onnx
from segcore.errors import ExportError
from tests.deploy.conftest import TinyNet

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture
def batches() -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(3, 1, 3, 16, 28)).astype(np.float32))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "float32.onnx"
    torch.manual_seed(0)
    export_onnx(DeployGraph(TinyNet().eval()), path, (16, 28), batch=None)
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {"segcore": "what it says of itself"})
    onnx.save(proto, path)
    return path


def test_every_convolution_reads_eight_bits_and_nothing_else_does(
    source: Path, tmp_path: Path, batches: list[np.ndarray]
) -> None:
    path = tmp_path / "int8.onnx"
    quantize_onnx(source, path, batches)
    proto = onnx.load(path)
    made = {name: node for node in proto.graph.node for name in node.output}
    values = {each.name: onnx.numpy_helper.to_array(each) for each in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        images, weights = (made[name] for name in node.input[:2])
        assert {images.op_type, weights.op_type} == {"DequantizeLinear"}
        assert made[images.input[0]].op_type == "QuantizeLinear"
        kernel, scales, zeros = (values[name] for name in weights.input)
        assert kernel.dtype == np.int8 and scales.shape == kernel.shape[:1] and not zeros.any()
    assert sum(node.op_type == "QuantizeLinear" for node in proto.graph.node) == 2
    assert [entry.value for entry in proto.metadata_props] == ["what it says of itself"]


@pytest.mark.parametrize("load", [load_onnxruntime, load_openvino])
def test_it_computes_nearly_the_same_for_any_number_of_images(
    source: Path, tmp_path: Path, batches: list[np.ndarray], load: object
) -> None:
    if load is load_openvino:
        pytest.importorskip("openvino")
    path, again = tmp_path / "int8.onnx", tmp_path / "again.onnx"
    quantize_onnx(source, path, batches)
    quantize_onnx(source, again, batches)
    assert path.read_bytes() == again.read_bytes()
    images = np.concatenate(batches)
    exact, found = load_onnxruntime(source, "fp32", 1)(images), load(path, "int8", 1)(images)
    assert found.shape == exact.shape == (3, 16, 28)
    assert 0.95 < (found == exact).mean() < 1.0


def test_openvino_compiles_an_int8_file_of_any_size_for_each_size(
    tmp_path: Path, batches: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    source, path, asked, compile_it = tmp_path / "float32.onnx", tmp_path / "int8.onnx", [], backends._compile_openvino
    export_onnx(DeployGraph(TinyNet().eval(), "logits"), source, None, batch=None)
    quantize_onnx(source, path, batches)

    def compiled(*arguments: object) -> object:
        asked.extend(arguments[3:])
        return compile_it(*arguments)

    monkeypatch.setattr(backends, "_compile_openvino", compiled)
    both, larger = np.concatenate(batches[:2]), np.zeros((1, 3, 32, 64), np.float32)
    infer = load_openvino(path, "fp32", 1)
    path.rename(tmp_path / "elsewhere.onnx")
    for images in (batches[0], larger, both, larger):
        assert np.abs(infer(images) - load_onnxruntime(tmp_path / "elsewhere.onnx", "int8", 1)(images)).max() < 0.1
    assert asked == [(-1, 3, 16, 28), (-1, 3, 32, 64)]
    asked.clear()
    load_openvino(source, "fp32", 1)(larger)
    assert not asked  # float32 is right with the size left open


def test_a_graph_cut_before_its_argmax_gives_what_the_argmax_is_of(
    source: Path, tmp_path: Path, batches: list[np.ndarray]
) -> None:
    pytest.importorskip("openvino")
    cut_argmax(source, tmp_path / "logits.onnx")
    logits = load_openvino(tmp_path / "logits.onnx", "fp32", 1)(batches[0])
    assert logits.shape == (1, 5, 16, 28)
    assert (logits.argmax(1) == load_openvino(source, "fp32", 1)(batches[0])).mean() > 0.999


def test_without_images_or_with_those_of_another_size_it_says_so(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    target.write_text("old")
    with pytest.raises(ExportError, match="int8 needs training images"):
        quantize_onnx(source, target, [])
    with pytest.raises(ExportError, match="float32.onnx: cannot be quantised: .*Expected: 16") as caught:
        quantize_onnx(source, target, [np.zeros((1, 3, 8, 8), np.float32)])
    assert "\n" not in str(caught.value) and target.read_text() == "old"
