"""The report of `bench-deploy` says what was measured, against PyTorch and against the targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import deploy as bench
from segcore.data.minicity import MinicityRecipe, render
from segcore.deploy import timing


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One small network at one small size, timed for no time at all."""
    lock, small = timing.machine_lock, MinicityRecipe(height=64, width=96)
    monkeypatch.setattr(bench, "machine_lock", lambda: lock(path=tmp_path / "lock"))
    monkeypatch.setattr(bench, "RUNS", (("bisenetv2", (64, 96)),))
    monkeypatch.setattr(bench, "ENGINES", (("torch", "fp32"), ("openvino", "int8"), ("openvino", "fp16")))
    monkeypatch.setattr(bench, "TARGETS", {"openvino int8": (5.0, 6.0)})
    monkeypatch.setattr(bench, "drawn_scenes", lambda count: [render(small, "val", k)[0] for k in range(count)])
    for name in ("SECONDS", "WARM_UP"):
        monkeypatch.setattr(bench, name, 0.0)
    return tmp_path


def test_the_report_says_what_was_measured(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    out = quick / "out.json"
    monkeypatch.setattr("sys.argv", ["bench", "--out", str(out), "--files", str(quick / "files")])
    bench.main()
    report = json.loads(out.read_text())
    rows = report["models"]["bisenetv2 64x96"]
    assert list(rows) == [bench.PLAIN, "torch fp32", "openvino int8", "openvino fp16"]
    assert rows[bench.PLAIN]["speedup"] == 1.0
    low, high = rows["openvino int8"]["speedup_range"]
    assert low <= rows["openvino int8"]["speedup"] <= high
    assert rows["openvino fp16"] == {
        **{"median_ms": None, "speedup": None},
        "reason": "openvino does not compute in fp16 on a CPU",
    }
    (target,) = report["targets"]
    assert (target["engine"], target["target"], target["reached"]) == (
        "openvino int8",
        5.0,
        rows["openvino int8"]["speedup"],
    )
    assert report["miou"] is None
