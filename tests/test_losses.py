"""Losses against the reference's values and gradients."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from segcore.evaluate.confusion import confusion_matrix, pixel_accuracy
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
# The old form takes its share of all pixels, ignored ones too.
FORMS = {"current": "valid", "old": "crop"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_ohem_equals_the_reference_in_value_and_gradient(case, form, golden, inputs):
    description, arrays = golden("bisenet_losses")
    facts = description["cases"][case]
    logits, labels = inputs(facts)
    loss = ohem_cross_entropy(logits, labels, facts["thresh"], min_kept=FORMS[form])
    loss.backward()
    assert loss.item() == pytest.approx(facts[form]["loss"], rel=1e-5)
    assert logits.grad.abs().sum().item() == pytest.approx(facts[form]["grad_abs_sum"], rel=1e-4)
    assert (logits.grad.abs().sum(1) > 0).sum() == facts[form]["pixels_with_gradient"]
    np.testing.assert_allclose(logits.grad[:, :, ::4, ::4], arrays[f"{case}_{form}_grad"], atol=1e-8)
    assert cross_entropy(logits, labels).item() == pytest.approx(facts["mean_ce_of_valid"], rel=1e-5)


def test_without_a_valid_pixel_the_old_form_is_0_and_the_current_one_is_mended(golden, inputs):
    description, arrays = golden("bisenet_losses")
    facts = description["cases"]["all_ignored"]
    logits, labels = inputs(facts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = ohem_cross_entropy(logits, labels, facts["thresh"], min_kept="crop")
    loss.backward()
    assert loss.item() == facts["old"]["loss"] == 0.0
    assert np.array_equal(logits.grad[:, :, ::4, ::4], arrays["all_ignored_old_grad"])
    assert facts["current"]["is_nan"]
    with pytest.warns(RuntimeWarning, match="no labelled pixel"):
        assert ohem_cross_entropy(logits, labels, facts["thresh"]).item() == 0.0


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


@pytest.mark.parametrize("size", [(32, 64), (17, 13)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_losses_and_gradients_are_torchs_to_the_last_bit(size, layout):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 19, *size, generator=generator).mul(5).contiguous(memory_format=layout).requires_grad_()
    labels = torch.randint(0, 19, (3, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    labels[1] = 255
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    hard = losses > -math.log(0.2)
    assert hard.sum() >= (labels != 255).sum() // 16
    wanted = (losses * hard).sum() * (1 / int(hard.sum()))
    wanted.backward()
    gradient, logits.grad = logits.grad, None
    found = ohem_cross_entropy(logits, labels, 0.2)
    found.backward()
    assert torch.equal(found, wanted) and torch.equal(logits.grad, gradient)


def test_no_second_map_of_the_logits_size_is_kept_for_the_backward_pass(inputs):
    logits, labels = inputs({"share": 0.5})
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda kept: kept):
        ohem_cross_entropy(logits, labels)
    assert {tensor.data_ptr() for tensor in kept if tensor.numel() >= logits.numel()} == {logits.data_ptr()}


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
    finer = [torch.from_numpy(refweights.image(35 + i, (2, 1, 64 >> i, 128 >> i))) for i in range(2)]
    losses = network_loss(Outputs(heads[0], tuple(heads[1:]), (edges, *finer)), labels, kind="ohem", min_kept="crop")
    assert losses.total.item() == pytest.approx(facts["with_boundary_2_4_8"]["total"], rel=1e-5)
    losses = network_loss(Outputs(heads[0], (), (edges,)), labels, kind="ohem", min_kept="crop")
    halved = network_loss(Outputs(heads[0], (), (edges,)), labels, kind="ohem", min_kept="crop", detail_weight=0.5)
    assert halved.total.item() == pytest.approx((losses.main + 0.5 * losses.detail).item(), rel=1e-5)


def test_ohem_keeps_few_pixels_where_nothing_is_hard():
    logits = torch.zeros(1, 2, 4, 8)
    logits[:, 0] = 10.0
    logits[0, 0, 0, :3] = torch.tensor([2.0, 3.0, 4.0])  # the three largest losses, none above the threshold
    loss = ohem_cross_entropy(logits, torch.zeros(1, 4, 8, dtype=torch.long))
    expected = sum(math.log1p(math.exp(-x)) for x in (2.0, 3.0)) / 2  # 32 pixels, one in 16
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def naive_ohem(logits, labels, threshold, min_kept):
    """The definition, by a full sort of the pixels that may be chosen."""
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten()
    if min_kept == "valid":
        losses = losses[labels.flatten() != 255]
    losses = losses.sort(descending=True).values
    chosen = max(int((losses > -math.log(threshold)).sum()), len(losses) // 16)
    return losses[:chosen].sum() / max(chosen, 1)


@st.composite
def batches(draw):
    """Logits with many ties, labels of which any share is ignored, a threshold."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes, shape = draw(st.integers(2, 4)), draw(st.tuples(st.integers(1, 2), st.integers(1, 8), st.integers(1, 8)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    spread = draw(st.sampled_from([0.01, 1.0, 9.0]))
    logits = spread * rng.integers(-levels, levels + 1, (shape[0], classes, *shape[1:]))
    labels = rng.integers(0, classes, shape)
    labels[rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))] = 255
    logits = torch.from_numpy(logits + draw(st.sampled_from([0.0, 5.0])) * one_hot(labels, classes))
    return logits, torch.from_numpy(labels), draw(st.floats(0.01, 0.99))


def one_hot(labels, classes):
    return (labels[:, None] == np.arange(classes)[:, None, None]).astype(float)


@given(batches(), st.sampled_from(["valid", "crop"]))
@pytest.mark.filterwarnings("ignore:a batch has no labelled pixel")
def test_ohem_equals_its_definition_by_a_full_sort(batch, min_kept):
    logits, labels, threshold = batch
    ours, naive = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    for scope in ("global", "local"):
        loss = ohem_cross_entropy(ours, labels, threshold, min_kept=min_kept, scope=scope)
        expected = naive_ohem(naive, labels, threshold, min_kept)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    loss.backward()
    expected.backward()
    # Which of equal losses are chosen is open, and so is their gradient.
    valid = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")[labels != 255]
    if len(valid.unique()) == len(valid):
        torch.testing.assert_close(ours.grad, naive.grad)


@pytest.fixture(scope="module")
def ade(golden, refweights):
    """Main and deep logits of the scene-parsing golden, its labels and its values."""
    description, arrays = golden("ade_losses")
    logits = [torch.from_numpy(2 * refweights.image(seed, (2, 150, 12, 16))) for seed in (1, 2)]
    return logits, arrays, description["values"]


def ignoring(label):
    """The reference's -1 -> 255."""
    return torch.from_numpy(np.where(label < 0, 255, label).astype(np.int64))


def test_deep_supervision_equals_the_reference_in_value_and_gradient(ade):
    logits, arrays, values = ade
    main, deep = (value.clone().requires_grad_() for value in logits)
    labels = ignoring(arrays["label"])
    assert (labels != 255).sum() == values["valid_pixels"] and (labels == 255).sum() == values["ignored_pixels"]
    scale = values["deep_sup_scale"]
    losses = network_loss(Outputs(main, (deep,)), labels, kind="cross_entropy", auxiliary_weight=scale)
    losses.total.backward()
    assert losses.main.item() == pytest.approx(values["nll_main"], rel=1e-6)
    assert losses.auxiliary.item() == pytest.approx(values["nll_deepsup"], rel=1e-6)
    assert losses.total.item() == pytest.approx(values["total_deepsup"], rel=1e-6)
    np.testing.assert_allclose(main.grad[:, ::15], arrays["grad_main"], atol=1e-9)
    np.testing.assert_allclose(deep.grad[:, ::15], arrays["grad_deepsup"], atol=1e-9)


def accuracy(logits, labels):
    return pixel_accuracy(confusion_matrix(labels.numpy(), logits.argmax(1).numpy(), 150))


def test_pixel_accuracy_is_the_references(ade):
    (main, _), arrays, values = ade
    assert accuracy(main, ignoring(arrays["label"])) == pytest.approx(values["pixel_accuracy"], rel=1e-6)
    labels = ignoring(arrays["label_two_devices"])
    of_devices = [accuracy(main[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert np.mean(of_devices) == pytest.approx(values["two_devices"]["accuracy_mean_of_means"], rel=1e-6)


def test_scene_parsing_without_a_labelled_pixel_is_0_and_not_nan(ade):
    (main, deep), arrays, values = ade
    main, deep = main.clone().requires_grad_(), deep.clone().requires_grad_()
    nothing = torch.full_like(ignoring(arrays["label"]), 255)
    assert values["all_ignored"]["nll"] == "nan"
    with pytest.warns(RuntimeWarning, match="no labelled pixel"):
        losses = network_loss(Outputs(main, (deep,)), nothing, kind="cross_entropy", auxiliary_weight=0.4)
    losses.total.backward()
    assert losses.total.item() == 0.0 and not main.grad.any() and not deep.grad.any()


def test_float64_stays_float64_and_halves_are_widened(ade):
    (main, _), arrays, _ = ade
    labels = ignoring(arrays["label"])
    for loss in (cross_entropy, ohem_cross_entropy):
        wide = loss(main.double(), labels)
        assert wide.dtype is torch.float64 and loss(main.bfloat16(), labels).dtype is torch.float32
        assert loss(main, labels).item() == pytest.approx(wide.item(), rel=1e-6)
