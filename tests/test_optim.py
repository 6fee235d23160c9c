"""Schedules against the reference's, number by number."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segcore import build_model
from segcore.optim import cosine, freeze_backbone_norms, make_optimizer, parameter_groups, poly, set_learning_rate

GOLDEN = Path(__file__).parent / "golden"
SCHEDULES = json.loads((GOLDEN / "bisenet_lr.json").read_text())["schedules"]
STDC = json.loads((GOLDEN / "stdc_lr.json").read_text())
CURRENT = [name for name in SCHEDULES if not name.startswith("old")]


@pytest.mark.parametrize("name", CURRENT)
def test_poly_is_the_reference_at_every_listed_iteration(name):
    s = SCHEDULES[name]
    for row in s["values"]:
        factor = poly(row["iteration"], s["max_iter"], s["warmup_iters"], s["warmup_ratio"], s["power"])
        assert s["lr_start"] * factor == pytest.approx(row["base"], rel=1e-9)
        assert s["lr_start"] * factor * 10 == pytest.approx(row["x10"], rel=1e-9)


@pytest.mark.parametrize("iterations", ["40000", "60000"])
def test_poly_is_stdcs_warmup_and_decay_at_every_listed_iteration(iterations):
    s = STDC["settings"]
    for row in STDC["runs"][iterations]:
        ratio = s["warmup_start_lr"] / s["lr0"]
        lr = s["lr0"] * poly(row["it"], int(iterations), s["warmup_steps"], ratio, s["power"])
        multipliers = [group["lr_mul"] for group in STDC["networks"]["stdc1"]["groups"]]
        assert row["lr"] == pytest.approx([lr * factor for factor in multipliers], rel=1e-9)


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_groups_are_stdcs_with_frozen_backbone_norms_and_complete_without(name):
    s, networks = STDC["settings"], STDC["networks"][name]
    net = build_model(name, auxiliary=True)
    own = [parameter for parameter, _ in net.named_parameters()]
    left_out = set(networks["not_in_any_group"]["names"]) & set(own)
    assert {n for group in parameter_groups(net, 1, 1, 1) for n in group["parameter_names"]} == set(own)

    freeze_backbone_norms(net)
    groups = parameter_groups(net, s["lr0"], s["weight_decay"], s["lr_mul"])
    ours = {n: (g["lr"], g["weight_decay"]) for g in groups for n in g["parameter_names"]}
    theirs = {n: (s["lr0"] * g["lr_mul"], g["weight_decay"]) for g in networks["groups"] for n in g["names"]}
    assert ours == {n: theirs[n] for n in own if n not in left_out}
    assert len(left_out) == {"stdc1": 58, "stdc2": 106}[name]  # 62 and 110 with the classifier's, which we do not have


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
