"""Schedules against the reference's, number by number."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segcore import build_model
from segcore.optim import cosine, make_optimizer, parameter_groups, poly, set_learning_rate

SCHEDULES = json.loads((Path(__file__).parent / "golden" / "bisenet_lr.json").read_text())["schedules"]
CURRENT = [name for name in SCHEDULES if not name.startswith("old")]


@pytest.mark.parametrize("name", CURRENT)
def test_poly_is_the_reference_at_every_listed_iteration(name):
    s = SCHEDULES[name]
    for row in s["values"]:
        factor = poly(row["iteration"], s["max_iter"], s["warmup_iters"], s["warmup_ratio"], s["power"])
        assert s["lr_start"] * factor == pytest.approx(row["base"], rel=1e-9)
        assert s["lr_start"] * factor * 10 == pytest.approx(row["x10"], rel=1e-9)


@given(st.integers(2, 5000), st.data())
def test_schedules_rise_to_one_and_fall_without_reaching_zero(iterations, data):
    warmup = data.draw(st.integers(0, iterations - 1))
    for schedule in (poly, cosine):
        values = [schedule(i, iterations, warmup) for i in range(iterations)]
        assert values[warmup] == pytest.approx(1.0)
        assert all(a <= b for a, b in zip(values[:warmup], values[1 : warmup + 1], strict=True))
        assert all(a >= b for a, b in zip(values[warmup:], values[warmup + 1 :], strict=False))
        assert min(values) > 0


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_groups_learn_at_their_own_rate(kind):
    optimizer = make_optimizer(kind, parameter_groups(build_model("bisenetv2", 3), 0.01, 1e-4, 10.0), 0.9)
    assert set_learning_rate(optimizer, 0.5) == pytest.approx(0.005)
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {
        "backbone": (pytest.approx(0.005), 1e-4),
        "backbone, no decay": (pytest.approx(0.005), 0.0),
        "heads": (pytest.approx(0.05), 1e-4),
        "heads, no decay": (pytest.approx(0.05), 0.0),
    }


def test_sgd_is_torchs_momentum_without_nesterov():
    weight = torch.ones(1, requires_grad=True)
    optimizer = make_optimizer("sgd", [{"params": [weight], "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.0}], 0.9)
    for expected in (0.9, 0.71, 0.439):  # velocity 1, 1.9, 2.71
        weight.grad = torch.ones(1)
        optimizer.step()
        assert weight.item() == pytest.approx(expected)
