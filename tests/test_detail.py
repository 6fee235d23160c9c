"""The detail target and its loss against the reference's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcore.detail import decaying_fuse_scales, detail_target, label_edges
from segcore.losses import detail_loss, dice_losses
from segcore.optim import poly


@pytest.fixture(scope="module")
def labels(golden):
    return torch.from_numpy(golden("stdc_losses")[1]["detail_labels"].astype(np.int64))


@pytest.fixture(scope="module")
def logits(golden):
    return torch.from_numpy(golden("stdc_losses")[1]["detail_logits"])


def unpacked(array, shape):
    return torch.from_numpy(np.unpackbits(array)[: np.prod(shape)].reshape(shape)).bool()


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_levels_are_subsampled_edges(stride, golden, labels):
    _, arrays = golden("stdc_losses")
    level = F.interpolate(label_edges(labels)[..., ::stride, ::stride].float(), labels.shape[-2:])
    assert torch.equal(level.bool(), unpacked(arrays[f"detail_t{stride}"], level.shape))


def test_target_loss_and_gradient_are_the_references(golden, labels, logits):
    description, arrays = golden("stdc_losses")
    target = detail_target(labels)
    assert torch.equal(target.bool(), unpacked(arrays["detail_target"], target.shape))
    logits = logits.clone().requires_grad_()
    loss = detail_loss(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(description["detail"]["sum"], rel=1e-5)
    np.testing.assert_allclose(logits.grad, arrays["detail_logits_grad"], rtol=1e-3, atol=1e-8)


def test_full_resolution_logits_and_uniform_labels(golden, labels, logits, refweights):
    more = golden("stdc_losses")[0]["detail_more"]
    full = torch.from_numpy(refweights.image(13, (2, 1, *labels.shape[-2:])))
    for key, value, given, map_ in (
        ("full_resolution_logits (seed 13)", None, full, labels),
        ("labels all 0", 0, logits, labels),
        ("labels all 1 (image border becomes an edge)", 1, logits, labels),
        ("labels all 255", 255, logits, labels),
    ):
        map_ = map_ if value is None else torch.full_like(map_, value)
        assert detail_loss(given, map_).item() == pytest.approx(more[key]["bce"] + more[key]["dice"], rel=1e-5), key


def test_levels_drop_out_of_the_target_as_its_weights_shrink(golden, labels, logits):
    for row in golden("stdc_losses")[0]["detail"]["decayed_fuse_kernel"]:
        assert detail_target(labels, row["scale"]).sum() == row["positives"], row["scale"]
        assert detail_loss(logits, labels, row["scale"]).item() == pytest.approx(row["bce"] + row["dice"], rel=1e-5)


@pytest.mark.parametrize("iterations", [40_000, 60_000, 160_000])
def test_weights_decay_as_in_the_published_training(iterations, golden):
    facts = golden("stdc_losses")[0]["fuse_kernel_decay"]["runs"][str(iterations)]
    rates = [0.01 * poly(i, iterations, 1000, 1e-3) for i in range(iterations)]
    scales = decaying_fuse_scales(rates, 0.9, 5e-4)
    assert len(scales) == iterations and scales[0] == 1.0
    for done, scale in facts["scale_at"].items():
        if int(done) < iterations:
            assert scales[int(done)] == pytest.approx(scale, rel=1e-9)
    shares = (0.3, 0.4, 0.6, 0.7, 0.9, 1.0)
    for share, first in zip(shares, facts["first_iteration"].values(), strict=True):
        assert next((i for i, scale in enumerate(scales) if share * scale <= 0.1), None) == first, share


def test_dice_is_the_references(golden, refweights):
    facts = golden("stdc_losses")[0]["dice"]
    p = torch.from_numpy(refweights.image(14, (3, 1, 8, 8))).sigmoid()
    t = torch.from_numpy(refweights.image(15, (3, 1, 8, 8)) > 0.5).float()
    assert dice_losses(p, t).mean().item() == pytest.approx(facts["value"], rel=1e-5)
    assert dice_losses(p, 0 * t).mean().item() == pytest.approx(facts["empty_target"], rel=1e-5)
    assert dice_losses(0 * p, 0 * t).mean().item() == facts["empty_both"]


def scene():
    """Road (0) beside car (13), with a corner that nobody labelled."""
    labels = torch.zeros(1, 12, 16, dtype=torch.long)
    labels[:, :, 8:] = 13
    labels[:, 8:, :4] = 255
    return labels


def test_masked_edges_are_those_between_labelled_regions_only():
    published, masked = label_edges(scene())[0, 0], label_edges(scene(), masked=True)[0, 0]
    between = torch.zeros(12, 16, dtype=torch.bool)
    between[:, 8] = True
    assert torch.equal(masked, between)
    assert published[8:, 0].all() and published[0, 8:].all(), "published: a ring where ignored, the image border"


def test_masked_loss_does_not_look_at_ignored_pixels():
    labels, logits = scene(), torch.randn(1, 1, 12, 16, requires_grad=True)
    detail_loss(logits, labels, masked=True).backward()
    assert (logits.grad[0, 0][labels[0] == 255] == 0).all() and (logits.grad[0, 0][labels[0] != 255] != 0).all()
    perfect = 1000.0 * (2 * detail_target(labels, masked=True) - 1)
    assert detail_loss(perfect, labels, masked=True).item() == pytest.approx(0.0, abs=1e-6)


def test_masked_loss_of_a_batch_without_labels_is_zero():
    with pytest.warns(RuntimeWarning, match="no labelled pixel"):
        assert detail_loss(torch.randn(2, 1, 4, 4), torch.full((2, 8, 8), 255), masked=True).item() == 0.0
