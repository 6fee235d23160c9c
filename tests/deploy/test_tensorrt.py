"""Building and running TensorRT engines, against a fake that has the names of the real bindings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from segcore.deploy import tensorrt
from segcore.deploy.backends import LOADERS, Case, open_tensorrt
from segcore.deploy.export import DeployGraph, export_onnx
from segcore.deploy.stamps import sidecar
from segcore.deploy.tensorrt import BuildSettings, Profile, Session, build_engine, open_session
from segcore.errors import CheckpointError, ExportError
from tests.deploy import fake_tensorrt

VERSIONS = list(fake_tensorrt.NAMES)
PROFILE = Profile((1, 3, 16, 28), (2, 3, 16, 28), (2, 3, 16, 28))


@pytest.fixture(params=VERSIONS)
def fake(request, monkeypatch) -> fake_tensorrt.Fake:
    return fake_tensorrt.install(monkeypatch, request.param)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory) -> Path:
    from tests.deploy.conftest import TinyNet

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("graph") / "net.onnx"
    export_onnx(DeployGraph(TinyNet().eval(), "logits"), path, (16, 28), None)
    return path


@pytest.fixture
def engine(fake, onnx, tmp_path) -> Path:
    build_engine(onnx, tmp_path / "net.engine", PROFILE, BuildSettings())
    return tmp_path / "net.engine"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_no_name_that_the_real_bindings_lack(version):
    fake = fake_tensorrt.Fake(version)
    for kind, names in fake_tensorrt.NAMES[version].items():
        ours = getattr(fake_tensorrt, kind, None) or getattr(fake, kind, SimpleNamespace)
        members = ours.__members__ if hasattr(ours, "__members__") else vars(ours)
        assert {name for name in members if not name.startswith("_")} <= {*names.split()}, kind


def test_an_engine_is_built_in_the_documented_order_with_every_type_from_the_graph(fake, onnx, tmp_path):
    build_engine(onnx, tmp_path / "net.engine", PROFILE, BuildSettings(workspace=0.5))
    assert fake.calls == [
        ("create_network", 2 if fake.__version__.startswith("10.") else 0),
        ("parse_from_file",),
        ("set_memory_pool_limit", "WORKSPACE", 2**29),
        ("clear_flag", "TF32"),
        ("set_timing_cache", b""),
        ("add_optimization_profile", *PROFILE),
        ("build_serialized_network",),
    ]
    built = json.loads(sidecar(tmp_path / "net.engine").read_text())["tensorrt"]
    assert (built["version"], built["gpu"], built["compute_capability"]) == (fake.__version__, fake_tensorrt.GPU, "8.6")
    assert built["profile"]["best"] == [2, 3, 16, 28] and built["workspace_gib"] == 0.5


def test_timings_are_kept_for_the_next_build_and_those_of_another_gpu_are_not_used(fake, onnx, tmp_path):
    settings = BuildSettings(timing_cache=tmp_path / "timings")
    for _ in range(2):
        build_engine(onnx, tmp_path / "net.engine", PROFILE, settings)
    assert [call[1] for call in fake.calls if call[0] == "set_timing_cache"] == [b"", b"+timed"]
    (tmp_path / "timings").write_bytes(b"another GPU's")
    build_engine(onnx, tmp_path / "net.engine", PROFILE, settings)
    assert fake.calls[-3] == ("set_timing_cache", b"")
    assert (tmp_path / "timings").read_bytes() == b"+timed"


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_engine_gives_what_its_graph_gives_for_every_batch(fake, onnx, engine, cuda_graph):
    import onnxruntime

    session, runtime = Session(engine, cuda_graph), onnxruntime.InferenceSession(onnx)
    for count in (1, 2, 2, 1):
        images = torch.randn(count, 3, 16, 28)
        got = session.infer(session.place(images)).numpy()
        np.testing.assert_allclose(got, runtime.run(None, {"images": images.numpy()})[0], atol=1e-6)
    assert ("execute_async_v3", 77) in fake.calls and fake.steps[-1] == "synchronize"
    with pytest.raises(ExportError, match="was not built for input of 3×3×16×28"):
        session.place(torch.zeros(3, 3, 16, 28))


def test_a_file_runs_through_the_interface_of_the_other_runtimes(engine):
    infer = LOADERS["tensorrt"](engine, "fp32", 1)
    assert infer(np.zeros((2, 3, 16, 28), np.float32)).shape == (2, 5, 16, 28)


def test_the_benchmark_times_an_engine_of_the_scored_graph(fake, net, tmp_path):
    case = Case(DeployGraph(net), (16, 28), 2, torch.device("cuda"), 1, tmp_path)
    images = torch.randn(2, 3, 16, 28)
    np.testing.assert_array_equal(open_tensorrt(case, "fp32")(images), DeployGraph(net)(images).numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "10.0.1"}, "was built by TensorRT 10.0.1, this is {here}; export it again here"),
        ({"gpu": "NVIDIA A40"}, "was built for NVIDIA A40, this is NVIDIA Fake 1; export it again here"),
        ({"engine_sha256": "0"}, "damaged, or another engine than net.engine.json describes"),
    ],
)
def test_an_engine_of_elsewhere_is_refused_before_it_is_loaded(fake, engine, change, message):
    text = json.loads(sidecar(engine).read_text())
    sidecar(engine).write_text(json.dumps({"tensorrt": text["tensorrt"] | change}))
    with pytest.raises((ExportError, CheckpointError), match=message.format(here=fake.__version__)):
        open_session(engine)
    assert "deserialize_cuda_engine" not in fake.steps


def test_what_is_damaged_or_missing_has_its_line(fake, engine):
    sidecar(engine).write_text("{}")
    with pytest.raises(CheckpointError, match=r"net.engine.json: damaged, or not of segcore"):
        open_session(engine)
    sidecar(engine).unlink()
    with pytest.raises(CheckpointError, match=r"net.engine.json: cannot be read .* belongs beside it"):
        open_session(engine)
    engine.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="cannot read it: magic tag does not match"):
        Session(engine)


def test_a_graph_that_cannot_be_built_is_told_in_a_line_and_leaves_nothing(fake, onnx, tmp_path):
    fake.unreadable = True
    with pytest.raises(ExportError, match="cannot read the graph: unknown operator"):
        build_engine(onnx, tmp_path / "net.engine", PROFILE, BuildSettings())
    fake.unreadable, fake.unbuildable = False, True
    with pytest.raises(ExportError, match="cannot build the engine: no kernel for node_conv2d$"):
        build_engine(onnx, tmp_path / "net.engine", PROFILE, BuildSettings())
    with pytest.raises(ExportError, match="does not accept input shapes"):
        build_engine(onnx, tmp_path / "net.engine", Profile(*reversed(PROFILE)), BuildSettings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "12.0.0"])
def test_other_versions_are_refused_with_the_reason(monkeypatch, version):
    fake_tensorrt.install(monkeypatch, version)
    with pytest.raises(ExportError, match=f"TensorRT {version} is not supported: .* only TensorRT 10 and 11"):
        tensorrt.load_library()


def test_the_benchmark_builds_int8_in_the_form_that_tensorrt_reads(fake, net, tmp_path):
    """Signed, symmetric, biases in floating point, weights with a pair of their own."""
    onnx = pytest.importorskip("onnx")
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 28)).astype(np.float32)
    case = Case(DeployGraph(net), (16, 28), 1, torch.device("cuda"), 1, tmp_path, calibration=[images])
    given = torch.from_numpy(images)
    assert (open_tensorrt(case, "int8")(given) == DeployGraph(net)(given).numpy()).mean() > 0.9
    graph = onnx.load(case.file("int8", typed=True)).graph
    tensors = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 8  # of image and weight of two convolutions
    assert all(tensors[node.input[2]].dtype == np.int8 and not tensors[node.input[2]].any() for node in pairs)


def test_half_precision_is_typed_in_the_graph(net: nn.Module, tmp_path):
    onnx = pytest.importorskip("onnx")
    export_onnx(DeployGraph(net, dtype=torch.float16).eval(), tmp_path / "net.onnx", (16, 28), 1)
    proto = onnx.load(tmp_path / "net.onnx")
    weights = {onnx.TensorProto.DataType.Name(each.data_type) for each in proto.graph.initializer if each.dims}
    assert "FLOAT16" in weights and "FLOAT" not in weights
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
