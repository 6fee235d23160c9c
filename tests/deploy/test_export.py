"""The deployed graph and its ONNX file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segcore.deploy.export import DeployGraph, export_onnx
from segcore.errors import ExportError


class Branching(nn.Module):
    """Asks for a value while it is traced, which no exporter can write down."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else images * self.weight


def test_argmax_graph_prefers_the_lowest_class_among_equals(net: nn.Module) -> None:
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    classes = DeployGraph(net)(torch.randn(2, 3, 8, 12))
    assert classes.dtype == torch.int32
    assert classes.shape == (2, 8, 12)
    assert not classes.any()


@pytest.mark.parametrize("output", ["logits", "argmax"])
def test_onnx_file_is_standard_and_computes_what_pytorch_does(net: nn.Module, tmp_path: Path, output: str) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph, path, images = DeployGraph(net, output), tmp_path / "net.onnx", torch.randn(2, 3, 18, 30)

    export_onnx(graph, path, (18, 30), batch=2)

    assert list(tmp_path.iterdir()) == [path]
    proto = onnx.load(path)
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(o.domain, o.version) for o in proto.opset_import if not o.domain] == [("", 18)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run([{"logits": "logits", "argmax": "classes"}[output]], {"images": images.numpy()})
    expected = graph(images).detach().numpy()
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_failed_export_says_why_and_leaves_the_old_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "net.onnx"
    path.write_text("old")
    with pytest.raises(ExportError, match="^Branching cannot be written as ONNX: .+") as caught:
        export_onnx(DeployGraph(Branching(), "logits"), path, (8, 8))
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_operator_outside_the_standard_is_refused(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("images", "classes")]
    node = onnx.helper.make_node("CustomArgMax", ["images"], ["classes"], domain="plugins")
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("plugins", 1)]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", value[:1], value[1:]), opset_imports=opsets, ir_version=10
    )
    program = torch.onnx.ONNXProgram(pytest.importorskip("onnx_ir").from_proto(proto), None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: program)
    with pytest.raises(ExportError, match="plugins::CustomArgMax"):
        export_onnx(DeployGraph(net), tmp_path / "net.onnx", (8, 8))
    assert not list(tmp_path.iterdir())


def test_package_imports_where_no_runtime_is_installed() -> None:
    code = (
        "import sys\n"
        "for name in ('onnx', 'onnxscript', 'onnxruntime', 'openvino', 'tensorrt'): sys.modules[name] = None\n"
        "import segcore.deploy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
