"""The baseline of `bench-train` computes what our step does, or its ratio would mean nothing; the report says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bench import train as bench
from bench.plain_train import hard_pixels
from segcore.losses import ohem_cross_entropy
from segcore.machine import keep_memory
from segcore.recipe import TrainRecipe

RECIPE = TrainRecipe("bisenetv2", 100, 2, (32, 64), (0.25, 2.0), 5e-3, warmup=10)


def test_both_compute_the_same_and_another_baseline_would_be_noticed(monkeypatch):
    first, second = bench.agreement(RECIPE, 2)
    assert first["relative_difference"] < 1e-5 and second["relative_difference"] < 1e-3
    other = replace(RECIPE, lr=5e-2, ohem_threshold=0.9)
    monkeypatch.setitem(bench.CONTENDERS, "plain", lambda _: bench.plain_step(other))
    assert max(row["relative_difference"] for row in bench.agreement(RECIPE, 2)) > 1e-3


@pytest.mark.parametrize("spread", [0.1, 30.0])
def test_the_sorted_choice_of_hard_pixels_is_ours(spread):
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (2, 16, 16))
    logits = torch.nn.functional.one_hot(labels, 5).permute(0, 3, 1, 2) * spread + torch.randn(2, 5, 16, 16)
    labels[:, :3] = 255
    threshold = -torch.tensor(0.7).log().item()
    torch.testing.assert_close(hard_pixels(logits, labels, threshold), ohem_cross_entropy(logits, labels, 0.7))


def test_the_report_says_what_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "peak", lambda name: 1)
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["bench", "--steps", "1", "--size", "32", "64", "--out", str(out)])
    bench.main()
    keep_memory()
    report = json.loads(out.read_text())
    assert report == json.loads(capsys.readouterr().out)
    assert report["protocol"]["crop"] == [32, 64] and len(report["without_dropout"]) == 3
    for result in report["results"].values():
        assert result["images_a_second"] > 0 and result["times_as_fast_by_processor"] > 0
        assert sum(result["share_of_time"].values()) == pytest.approx(1, abs=0.02)
        assert result["share_of_time"].get("other", 0) < 0.2
