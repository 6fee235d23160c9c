"""What stands beside a speed: the engine's score, sensors, turns, the GPU's clock."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segcore.data.labels import TABLES
from segcore.deploy import sensors, timing
from segcore.deploy.accuracy import score
from segcore.deploy.backends import BACKENDS
from segcore.deploy.case import Case, Runner
from segcore.deploy.export import DeployGraph
from segcore.deploy.pictures import from_png, to_png
from segcore.deploy.versus import alternate
from segcore.errors import ExportError

CPU = torch.device("cpu")


class Pictures:
    """Stands for a list of images that show their own labels: class k has the grey level 10 k."""

    labels = TABLES["camvid"]
    names = ("a", "b", "c")

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __len__(self) -> int:
        return 3

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.kron(np.random.default_rng(index).integers(0, 11, (2, 4)), np.ones((8, 8))).astype(np.uint8)
        label = np.kron(label, np.ones((self.size[0] // 16, self.size[1] // 32), np.uint8))
        return np.repeat(10 * label[..., None], 3, axis=2), label


def case(size: tuple[int, int], batch: int = 1, graph: DeployGraph | None = None, device: torch.device = CPU) -> Case:
    return Case(graph, size, batch, device, 1, Path())


def reading() -> Runner:
    """An engine that reads the label off the image, in batches of two."""

    def infer(images: Tensor) -> np.ndarray:
        assert images.shape[0] == 2
        return (images[:, 0] * 255 / 10).round().int().numpy()

    return Runner(lambda images: images, infer)


def test_an_engine_that_is_always_right_scores_one() -> None:
    found = score(reading(), case((16, 32), 2), Pictures((16, 32)), 200, [0.0] * 3, [1.0] * 3)
    assert found == {"miou": 1.0, "miou_images": 3}
    assert score(reading(), case((16, 32), 2), Pictures((16, 32)), 2, [0.0] * 3, [1.0] * 3)["miou_images"] == 2


def test_images_are_resized_to_the_engine_and_those_of_another_shape_are_named() -> None:
    half = score(reading(), case((16, 32), 2), Pictures((32, 64)), 200, [0.0] * 3, [1.0] * 3)
    assert half["miou"] > 0.9
    square = score(reading(), case((16, 16), 2), Pictures((16, 32)), 200, [0.0] * 3, [1.0] * 3)
    assert square == {"miou_reason": "a is 16×32, of another shape than the engine"}


def test_from_the_bytes_of_a_picture_to_a_class_map_of_its_size() -> None:
    photograph = np.zeros((24, 48, 3), np.uint8)
    photograph[:, 24:, 0] = 255  # red on the right
    (found,) = from_png(
        [to_png(photograph)], lambda images: (images[:, 0] > 0.5).int().numpy(), (12, 24), [0] * 3, [1] * 3
    )
    assert found.shape == (24, 48) and not found[:, :24].any() and found[:, 24:].all()


def test_two_runs_in_turns() -> None:
    order: list[str] = []

    def stopwatch(run: Any) -> float:
        order.append(run())
        return {"A": 0.4, "B": 0.2}[order[-1]]

    found = alternate([lambda: "A", lambda: "B"], 0.0, 4.0, rounds=4, stopwatch=stopwatch)
    assert found == {"median_ms": [400.0, 200.0], "speedup": 2.0, "speedup_range": [2.0, 2.0], "rounds": 4}
    assert "".join(order) == ("AAA" + "BBBBB") * 4


def test_gpu_sensors_are_read_and_those_hidden_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(line: str) -> None:
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=line))

    answer("1980, 412.31, 61, 0x0000000000000004\n")
    found = sensors.read_sensors(torch.device("cuda"))
    assert found == {"clock_mhz": 1980.0, "power_w": 412.31, "temperature_c": 61.0, "throttled": True}
    answer("210, [N/A], 35, 0x0000000000000001\n")
    assert sensors.read_sensors(torch.device("cuda")) == {"clock_mhz": 210.0, "temperature_c": 35.0, "throttled": False}
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert sensors.read_sensors(torch.device("cuda")) == {}


def test_cpu_sensors_are_what_the_kernel_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place, content in (
        ("cpu/cpu0/cpufreq/scaling_cur_freq", "2600000"),
        ("cpu/cpu1/cpufreq/scaling_cur_freq", "3100000"),
        ("cpu/cpu0/thermal_throttle/core_throttle_count", "4"),
        ("thermal/thermal_zone0/temp", "54000"),
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(content)
    monkeypatch.setattr(sensors, "CPU", tmp_path / "cpu")
    monkeypatch.setattr(sensors, "THERMAL", tmp_path / "thermal")
    assert sensors.read_sensors(CPU) == {"clock_mhz": 3100.0, "temperature_c": 54.0, "throttled": 4}


def test_a_gpu_is_timed_by_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            told.append("record")

        def synchronize(self) -> None:
            told.append("synchronize")

        def elapsed_time(self, end: Event) -> float:
            return 2.5

    monkeypatch.setattr(timing.torch.cuda, "Event", Event)
    monkeypatch.setattr(timing.torch.cuda, "current_stream", lambda device: "stream")
    assert timing.cuda_events(torch.device("cuda"))(lambda: told.append("run")) == 0.0025
    assert told == ["record", "run", "record", "synchronize"]


@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        ("torch-cudagraph", "fp32", "a CUDA graph needs a CUDA device"),
        ("torch", "fp16", "torch computes fp16 on a GPU only"),
        ("torch", "int8", "torch runs no eight-bit convolutions here"),
        ("torch-compile", "int8", "torch runs no eight-bit convolutions here"),
        ("onnxruntime", "bf16", "onnxruntime has no bf16 convolutions on a CPU"),
        ("openvino", "fp16", "openvino does not compute in fp16 on a CPU"),
    ],
)
def test_what_a_backend_cannot_do_on_a_cpu_it_says(
    net: nn.Module, tmp_path: Path, backend: str, precision: str, reason: str
) -> None:
    given = Case(DeployGraph(net), (8, 16), 1, CPU, 1, tmp_path)
    with pytest.raises(ExportError, match=reason):
        BACKENDS[backend](given, precision)


def test_an_exported_file_is_not_run_by_torch() -> None:
    with pytest.raises(ExportError, match="not an exported file"):
        BACKENDS["torch"](case((8, 16)), "fp32")
