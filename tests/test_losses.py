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


@pytest.fixture(scope="module")
def stdc(golden, refweights):
    """case of the STDC golden -> (logits, labels)."""
    _, arrays = golden("stdc_losses")

    def make(case, seed=22, lift=0.0):
        labels = torch.from_numpy(arrays["ohem_labels"].astype(np.int64))
        logits = torch.from_numpy(refweights.image(seed, (2, 19, 128, 256)))
        lift = {"easy": 6.0, "mixed": 3.0, "diluted": 6.0}.get(case, lift)
        if case == "diluted":
            labels[:, 8:] = 255
        valid = labels != 255
        logits += lift * (F.one_hot(labels * valid, 19) * valid[..., None]).permute(0, 3, 1, 2)
        if case == "all ignored":
            labels[:] = 255
        return logits.requires_grad_(), labels

    return make


@pytest.mark.parametrize("case", ["hard", "easy", "mixed", "diluted", "all ignored"])
def test_ohem_with_a_share_of_the_crop_equals_stdc_in_value_and_gradient(case, golden, stdc):
    cases = golden("stdc_losses")[0]["ohem"]["cases"]
    facts = next(facts for name, facts in cases.items() if name.startswith(case))
    logits, labels = stdc(case)
    loss = ohem_cross_entropy(logits, labels, 0.7, min_kept="crop")
    loss.backward()
    assert facts["n_min"] == labels.numel() // 16
    assert loss.item() == pytest.approx(facts["value"], rel=1e-5)
    assert logits.grad.abs().sum().item() == pytest.approx(facts["grad_abs_sum"], rel=1e-4)


def test_the_whole_stdc_loss_equals_the_reference(golden, stdc, refweights):
    facts = golden("stdc_losses")[0]["total"]
    heads = [stdc("", seed, lift)[0] for seed, lift in ((31, 5.0), (32, 3.0), (33, 2.0))]
    edges = torch.from_numpy(refweights.image(34, (2, 1, 16, 32)))
    labels = stdc("")[1]
    losses = network_loss(Outputs(heads[0], tuple(heads[1:]), (edges,)), labels, kind="ohem", min_kept="crop")
    assert losses.main.item() == pytest.approx(facts["main"], rel=1e-5)
    assert losses.auxiliary.item() == pytest.approx(facts["aux16"] + facts["aux32"], rel=1e-5)
    assert losses.detail.item() == pytest.approx(facts["boundary_bce"] + facts["boundary_dice"], rel=1e-5)
    assert losses.total.item() == pytest.approx(facts["total"], rel=1e-5)
    halved = network_loss(Outputs(heads[0], (), (edges,)), labels, kind="ohem", min_kept="crop", detail_weight=0.5)
    assert halved.total.item() == pytest.approx((losses.main + 0.5 * losses.detail).item(), rel=1e-5)


def test_ohem_keeps_few_pixels_where_nothing_is_hard():
    logits = torch.zeros(1, 2, 4, 8)
    logits[:, 0] = 10.0
    logits[0, 0, 0, :3] = torch.tensor([2.0, 3.0, 4.0])  # the three largest losses, none above the threshold
    loss = ohem_cross_entropy(logits, torch.zeros(1, 4, 8, dtype=torch.long))
    expected = sum(math.log1p(math.exp(-x)) for x in (2.0, 3.0)) / 2  # 32 pixels, one in 16
    assert loss.item() == pytest.approx(expected, rel=1e-5)
