"""Losses against the reference's values and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcore.losses import cross_entropy, network_loss, ohem_cross_entropy
from segcore.models.layers import Outputs


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(11)
    shape = (2, 19, 32, 64)
    base = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 19, (2, 32, 64))
    ignored, easy = rng.random((2, 32, 64)) < 0.2, rng.random((2, 32, 64))
    labels[ignored] = 255

    def make(case):
        logits, target = base.copy(), labels.copy()
        chosen = np.where(labels == 255, 0, labels)[:, None]
        lift = 12.0 * (easy < case["share"])[:, None]
        np.put_along_axis(logits, chosen, np.take_along_axis(logits, chosen, 1) + lift.astype(np.float32), 1)
        if case.get("ignore_all"):
            target[:] = 255
        return torch.from_numpy(logits).requires_grad_(), torch.from_numpy(target)

    return make


CASES = ["hard", "mixed", "near", "easy", "easier", "none_hard", "low_thresh"]


@pytest.mark.parametrize("case", CASES)
def test_ohem_equals_the_reference_in_value_and_gradient(case, golden, inputs):
    description, arrays = golden("bisenet_losses")
    facts = description["cases"][case]
    logits, labels = inputs(facts)
    loss = ohem_cross_entropy(logits, labels, facts["thresh"])
    loss.backward()
    assert loss.item() == pytest.approx(facts["current"]["loss"], rel=1e-5)
    assert logits.grad.abs().sum().item() == pytest.approx(facts["current"]["grad_abs_sum"], rel=1e-4)
    assert (logits.grad.abs().sum(1) > 0).sum() == facts["current"]["pixels_with_gradient"]
    np.testing.assert_allclose(logits.grad[:, :, ::4, ::4], arrays[f"{case}_current_grad"], atol=1e-8)


def test_a_batch_without_a_valid_pixel_counts_as_zero_and_warns(inputs):
    logits, labels = inputs({"share": 0.0, "ignore_all": True})
    for loss in (ohem_cross_entropy, cross_entropy):
        with pytest.warns(RuntimeWarning, match="no labelled pixel"):
            value = loss(logits, labels)
        value.backward()
        assert value.item() == 0.0 and logits.grad.abs().sum() == 0.0


def test_cross_entropy_is_torchs_mean_over_valid_pixels(inputs):
    logits, labels = inputs({"share": 0.5})
    expected = F.cross_entropy(logits, labels, ignore_index=255).item()
    assert cross_entropy(logits, labels).item() == pytest.approx(expected)


def test_heads_are_summed_each_with_its_own_hard_pixels(inputs):
    logits, labels = inputs({"share": 0.7})
    other = torch.randn_like(logits)
    losses = network_loss(Outputs(logits, (other, logits)), labels, kind="ohem", auxiliary_weight=0.4)
    main, extra = ohem_cross_entropy(logits, labels), ohem_cross_entropy(other, labels)
    assert losses.main.item() == pytest.approx(main.item())
    assert losses.total.item() == pytest.approx((main + 0.4 * (extra + main)).item())


def test_ohem_keeps_few_pixels_where_nothing_is_hard():
    logits = torch.zeros(1, 2, 4, 8)
    logits[:, 0] = 10.0
    logits[0, 0, 0, :3] = torch.tensor([2.0, 3.0, 4.0])  # the three largest losses, none above the threshold
    loss = ohem_cross_entropy(logits, torch.zeros(1, 4, 8, dtype=torch.long))
    expected = sum(math.log1p(math.exp(-x)) for x in (2.0, 3.0)) / 2  # 32 pixels, one in 16
    assert loss.item() == pytest.approx(expected, rel=1e-5)
