"""What makes scoring fast must not change the answer: bands, shared forward passes, folded norms, reading ahead."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from segcore import build_model
from segcore.data.datasets import Samples
from segcore.data.labels import TABLES
from segcore.errors import DataError, RecipeError
from segcore.evaluate import bands, engine
from segcore.evaluate.engine import predict_together
from segcore.evaluate.modes import modes_for
from segcore.evaluate.network import scoring_form
from segcore.evaluate.predictions import read_ahead
from tests.evaluate.tiny import TinyNet, predict, refweights, scores

SIDES = st.integers(1, 70)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.booleans())
def test_a_resize_in_bands_is_the_resize(size: tuple[int, int], wanted: tuple[int, int], channels_last: bool) -> None:
    values = torch.randn(1, 3, *size)
    expected = F.interpolate(values, wanted, mode="bilinear", align_corners=True)[0]
    total = torch.zeros(3, *wanted)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    bands.add_resized(total, values.contiguous(memory_format=layout)[0])
    assert torch.allclose(total, expected, atol=2e-5)


def test_the_height_of_the_bands_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    values, found = torch.randn(7, 50, 41), []
    for rows in (1, 16, 1000):
        monkeypatch.setattr(bands, "CPU_BAND", rows * 7 * 60)
        total = torch.zeros(7, 99, 60)
        bands.add_resized(total, values)
        found.append(total)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_first_of_equal_classes_wins() -> None:
    total = torch.randint(0, 3, (9, 40, 50)).float()
    assert torch.equal(bands.classes(total), torch.from_numpy(total.numpy().argmax(0)).to(torch.uint8))


def test_modes_together_are_the_modes_alone_in_fewer_views(tiny: TinyNet) -> None:
    image = torch.from_numpy(refweights.image(1, (3, 71, 93)))
    modes = modes_for(["ss", "ssc", "msf", "mscf", "mscf_old", "seg50"], crop=(32, 48))
    alone = {mode.name: predict(tiny, image, (71, 93), mode, 7) for mode in modes}
    before, windows = tiny.images, len(modes[1].windows((71, 93)))
    together = {mode.name: classes for mode, classes in predict_together(tiny, image, (71, 93), modes, 7)}
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[name], classes) for name, classes in alone.items())
    assert before - (tiny.images - before) == 1 + windows  # ss is in msf, ssc in mscf


def test_large_logits_go_through_one_by_one(tiny: TinyNet, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = modes_for(["mscf"], crop=(32, 48))[0]
    image = torch.from_numpy(refweights.image(1, (3, 71, 93)))
    expected = scores(tiny, image, (71, 93), mode, 7)
    monkeypatch.setattr(engine, "LOGITS_LIMIT", 4 * 7 * 32 * 48 * 2 - 1)
    tiny.passes = tiny.images = 0
    assert torch.allclose(scores(tiny, image, (71, 93), mode, 7), expected, rtol=1e-5, atol=1e-5)
    assert tiny.passes == tiny.images > 0


def test_a_scale_stands_once() -> None:
    with pytest.raises(RecipeError, match="twice"):
        modes_for(["msf"], scales=(0.5, 1.0, 0.5))


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-4), ("bf16", 0.1)])
def test_the_scored_form_has_fewer_norms_and_the_same_logits(precision: str, tolerance: float) -> None:
    torch.manual_seed(0)
    net, images = build_model("bisenetv2", 5).eval(), torch.randn(1, 3, 64, 96)
    form = scoring_form(net, precision)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in form.modules()) == 1  # it follows a pooling
    with torch.inference_mode():
        expected, logits = net(images), form(images)
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() <= tolerance * expected.std()


def test_a_net_that_cannot_be_folded_is_scored_as_it_is() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    net[1].running_var.fill_(float("nan"))
    assert scoring_form(net) is net
    assert scoring_form(TinyNet()).passes == 0


def test_a_damaged_image_is_told_when_its_turn_has_come(tmp_path: Path) -> None:
    for name in "abc":
        cv2.imwrite(f"{tmp_path}/{name}.png", np.zeros((4, 6), np.uint8))
    (tmp_path / "b.png").write_bytes(b"")
    samples = Samples([(f"{name}.png", "a.png") for name in "abc"], tmp_path, TABLES["camvid"])
    coming = read_ahead(samples, [0, 1, 2])
    index, (image, size) = next(coming)
    assert (index, image.shape, size) == (0, (4, 6, 3), (4, 6))
    with pytest.raises(DataError, match="b.png"):
        next(coming)
    assert list(read_ahead(samples, [])) == []
