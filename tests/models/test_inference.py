"""What users do to a network before they run it, on every network: the logits stay."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segcore import build_model
from segcore.deploy.export import DeployGraph, export_onnx
from tests.models.names import NAMES, SLOWLY

CLASSES = 5
SIZE = (64, 96)


@functools.cache
def _lived_in(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = build_model(name, CLASSES)
    # Two batches in train mode, so that running statistics are those of real signals.
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(4, 3, *SIZE))
    return net.eval()


@pytest.fixture
def net(name) -> nn.Module:
    return _lived_in(name)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _deviation(net: nn.Module, images: Tensor, ours: Tensor) -> float:
    """Largest difference to the plain network's logits, as a share of their spread."""
    expected = net(images)
    return float((ours.float() - expected).abs().max() / expected.std())


@pytest.mark.parametrize("name", NAMES)
def test_channels_last(net, images):
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    with torch.no_grad():
        ours = last(images.to(memory_format=torch.channels_last))
    assert _deviation(net, images, ours) <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_bf16(net, images):
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            ours = net(images).float()
        expected = net(images)
    # 8 bits through dozens of layers, measured as noise to signal.
    assert (ours - expected).square().mean().sqrt() <= 0.08 * expected.std()
    assert (ours.argmax(1) == expected.argmax(1)).float().mean() >= 0.9


def _compiled(net: nn.Module, images: Tensor, backend: str) -> Tensor:
    torch._dynamo.reset()
    with torch.no_grad():
        return torch.compile(net, backend=backend, fullgraph=True)(images)


@pytest.mark.parametrize("name", SLOWLY)
def test_capture_in_one_graph_for_compilation(net, images):
    assert _deviation(net, images, _compiled(net, images, "aot_eager")) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compile(net, images):
    assert _deviation(net, images, _compiled(net, images, "inductor")) <= 1e-3


@pytest.mark.parametrize("name", SLOWLY)
def test_onnx(net, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    export_onnx(DeployGraph(net, "logits").eval(), path, SIZE)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"images": images.numpy()})
    assert ours.dtype == np.float32 and _deviation(net, images, torch.from_numpy(ours)) <= 1e-3
