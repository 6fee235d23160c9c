"""The report of `bench-data` says what was measured, and that every contender made the same sample."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from bench import data as bench


@pytest.fixture
def report(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict:
    """What the command writes, with small pairs and crops."""
    small = {name: entry._replace(crop=(32, 64)) for name, entry in bench.TRANSFORMS.items()}
    monkeypatch.setattr(bench, "SIZE", (64, 128))
    monkeypatch.setattr(bench, "TRANSFORMS", small)
    monkeypatch.setenv("SEGCORE_DATA", str(request.getfixturevalue(request.param).parent))
    words = ["--images", "2", "--rounds", "2", "--folder", str(tmp_path), "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr("sys.argv", ["bench", *words])
    bench.main()
    report = json.loads((tmp_path / "out.json").read_text())
    assert report == json.loads(capsys.readouterr().out)
    return report


@pytest.mark.parametrize(
    ("report", "origin"), [("tmp_path", "minicity"), ("camvid_folder", "CamVid")], indirect=["report"]
)
def test_the_report_says_what_was_measured(report: dict, origin: str, tmp_path: Path) -> None:
    assert report["pairs"]["origin"].startswith(origin) and report["pairs"]["number"] == 2
    assert report["pairs"]["bytes_a_pair"]["packed"] == 64 * 128 * 4 + 128 + 4
    assert set(report["results"]) == {"bisenetv2", "bisenetv1", "stdc"}
    for result in report["results"].values():
        assert result["plain"]["images_a_second"] > 0
        for name in ("files", "packed"):
            assert result[name]["times_as_fast"] > 0
            assert result[name]["labels_off"] == 0 and result[name]["grey_levels_off"] <= 1
    assert not list(tmp_path.glob("tmp*")), "the pairs are removed"


def test_a_difference_would_be_seen(samples, monkeypatch):
    monkeypatch.setattr(bench.plain_data, "bisenet", lambda pixels, ids, *rest: (pixels[:32, :32] // 2, ids[:32, :32]))
    published = bench.Published("bisenet", (32, 32), (1.0, 1.0), 0.4, None)
    result = bench.measure(published, samples, samples, 1)
    assert result["files"]["grey_levels_off"] > 1 and result["files"]["labels_off"] > 0


@pytest.fixture(autouse=True)
def opencvs_threads():
    """The command takes them away."""
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)
