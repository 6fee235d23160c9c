"""The rows of the benchmark: what is measured, what is refused, and that nothing wrong gets a speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segcore.deploy import backends, in_torch
from segcore.deploy import benchmark as module
from segcore.deploy import case as case_module
from segcore.deploy.backends import Case, Runner, open_openvino, open_torch
from segcore.deploy.benchmark import benchmark, summary
from segcore.deploy.export import DeployGraph
from segcore.deploy.pictures import Pictures
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.errors import ExportError, RecipeError

QUICK = {"seconds": 0.01, "warmup": 0.005}
MEASURED = {
    *("backend", "precision", "size", "batch", "status", "fps", "latency_ms", "samples", "seconds"),
    *("warmup_seconds", "argmax_agreement", "threads", "clock", "times_ms", "computes", "sensors", "miou_reason"),
}


@pytest.fixture(autouse=True)
def _own_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps the tests from waiting for a real benchmark, and for other programs to show."""
    lock = module.machine_lock
    monkeypatch.setattr(module, "machine_lock", lambda: lock(path=tmp_path / "lock"))
    monkeypatch.setattr(module, "_others_are_busy", lambda: False)


def sheet(net: nn.Module, photographs: list[np.ndarray], **recipe: Any) -> dict[str, Any]:
    settings = QUICK | {"sizes": ((16, 28),)} | recipe
    return benchmark(net, Pictures(photographs, photographs), [0.5] * 3, [0.25] * 3, BenchmarkRecipe(**settings))


def only_row(net: nn.Module, photographs: list[np.ndarray], backend: str, **recipe: Any) -> dict[str, Any]:
    (row,) = sheet(net, photographs, backends=(backend,), **recipe)["results"]
    return row


def test_every_runtime_agrees_with_pytorch_and_gets_a_speed(net: nn.Module, photographs: list[np.ndarray]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    result = sheet(net, photographs, batches=(2,), backends=("torch", "onnxruntime", "openvino"))
    assert [row["backend"] for row in result["results"]] == ["torch", "onnxruntime", "openvino"]
    for row in result["results"]:
        assert row.keys() == MEASURED | ({"file_mb"} if row["backend"] != "torch" else set()), summary(row)
        assert (row["status"], row["precision"], row["size"], row["batch"]) == ("measured", "fp32", [16, 28], 2)
        assert row["argmax_agreement"] > 0.999
        assert row["samples"] >= 20
        assert row["threads"] == result["device"]["threads"] == torch.get_num_threads()
        assert row["fps"] == pytest.approx(2000 / row["latency_ms"]["median"], rel=0.01)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_rows_follow_size_batch_precision_backend(net: nn.Module, photographs: list[np.ndarray]) -> None:
    rows = sheet(net, photographs, sizes=((8, 16), (16, 8)), batches=(1, 5), backends=("tensorrt", "torch"))["results"]
    found = [(row["size"], row["batch"], row["backend"]) for row in rows]
    assert found == [([h, w], b, t) for h, w in ((8, 16), (16, 8)) for b in (1, 5) for t in ("tensorrt", "torch")]
    assert [row["status"] for row in rows[1::2]] == ["measured"] * 4


def test_wrong_class_map_is_a_mismatch_without_speed(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_shifted(case: Case, precision: str) -> Runner:
        right = open_torch(case, precision)
        return Runner(right.place, lambda images: right.infer(images).roll(1, dims=-1), right.read)

    monkeypatch.setitem(backends.BACKENDS, "onnxruntime", open_shifted)
    row = only_row(net, photographs, "onnxruntime")
    assert row["status"] == "mismatch"
    assert row["argmax_agreement"] < 0.99
    assert "fps" not in row and "latency_ms" not in row
    assert "fps" not in summary(row)


def test_every_photograph_is_compared(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that is wrong in the last of three pictures only is found out, though it is timed on the first."""

    def open_forgetful(case: Case, precision: str) -> Runner:
        right, seen = open_torch(case, precision), []

        def infer(images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return right.infer(images) + (len(seen) == 3)

        return Runner(right.place, infer, right.read)

    monkeypatch.setitem(backends.BACKENDS, "openvino", open_forgetful)
    row = only_row(net, photographs, "openvino")
    assert (row["status"], row["argmax_agreement"]) == ("mismatch", round(2 / 3, 6))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_sheet_of_a_busy_machine_says_so(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, before: bool, meanwhile: bool
) -> None:
    monkeypatch.setattr(module, "_others_are_busy", lambda: before)
    monkeypatch.setattr(module, "LoadMeter", lambda: SimpleNamespace(loaded=lambda: meanwhile))
    result = sheet(net, photographs, backends=("torch",))
    assert result["device"]["loaded"] is (before or meanwhile)


@pytest.mark.parametrize(
    ("missing", "backend"),
    [
        ("onnxruntime", "onnxruntime"),
        ("openvino", "openvino"),
        ("onnx", "onnxruntime"),
        ("onnxscript", "onnxruntime"),
        ("tensorrt", "tensorrt"),
    ],
)
def test_missing_package_is_a_row_that_says_so(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, missing: str, backend: str
) -> None:
    if missing != backend:
        pytest.importorskip(backend)
    monkeypatch.setitem(sys.modules, missing, None)
    row = only_row(net, photographs, backend)
    assert row == {
        **{"backend": backend, "precision": "fp32", "size": [16, 28], "batch": 1},
        **{"status": "not measured", "reason": f"{missing} is not installed"},
    }


def test_tensorrt_without_a_cuda_device_says_so(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.3"))
    assert only_row(net, photographs, "tensorrt")["reason"] == "tensorrt needs a CUDA device"


def test_failing_backend_costs_only_its_row(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(case: Case, precision: str) -> Runner:
        raise RuntimeError("operator Foo is not implemented\na page of stack")

    monkeypatch.setitem(backends.BACKENDS, "onnxruntime", explode)
    first, second = sheet(net, photographs, backends=("onnxruntime", "torch"))["results"]
    assert (first["status"], first["reason"]) == ("not measured", "operator Foo is not implemented")
    assert second["status"] == "measured"


def test_bf16_is_not_claimed_by_a_processor_without_it(
    net: nn.Module, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_torch, "cpu_has_bf16", lambda: False)
    row = only_row(net, photographs, "torch", precisions=("bf16",))
    assert (row["status"], row["reason"]) == ("not measured", "this processor has no bf16 arithmetic")


def test_overruled_precision_is_not_claimed(net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["BF16"]

        def read_model(self, path: Path) -> SimpleNamespace:
            return SimpleNamespace(is_dynamic=lambda: False)

        def compile_model(self, model: SimpleNamespace, device: str, settings: dict[str, Any]) -> SimpleNamespace:
            used = SimpleNamespace(get_type_name=lambda: "f32")
            return SimpleNamespace(get_property=lambda name: used)

    monkeypatch.setattr(backends, "openvino_core", Core)
    monkeypatch.setattr(case_module, "export_onnx", lambda *arguments: None)
    case = Case(DeployGraph(net), (8, 8), 1, torch.device("cpu"), 1, tmp_path)
    with pytest.raises(ExportError, match="openvino computes in f32 here, not in bf16"):
        open_openvino(case, "bf16")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="unknown backend 'openvin'; did you mean 'openvino'"):
        BenchmarkRecipe(sizes=((8, 8),), backends=("torch", "openvin"))
    with pytest.raises(RecipeError, match="unknown precision 'bf61'; did you mean 'bf16'"):
        BenchmarkRecipe(sizes=((8, 8),), precisions=("bf61",))
