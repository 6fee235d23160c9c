"""The training transform, against worked values of the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.data.transforms import augment, brightness, contrast, normalise, random_crop, rescale, saturation

PIXELS = np.array([[[200, 100, 50], [10, 250, 130]]], np.uint8)


@pytest.mark.parametrize(
    ("step", "factor", "expected"),
    [
        (brightness, 1.2, [[240, 120, 60], [12, 255, 156]]),
        (brightness, 0.6, [[120, 60, 30], [6, 150, 78]]),
        (contrast, 0.8, [[174, 94, 54], [22, 214, 118]]),
        (contrast, 1.4, [[250, 110, 40], [0, 255, 152]]),
        (saturation, 1.3, [[225, 95, 29], [0, 255, 130]]),
        (saturation, 0.6, [[166, 106, 76], [58, 202, 130]]),
    ],
)
def test_colour_steps_are_the_references(step, factor, expected):
    assert step(PIXELS, factor)[0].tolist() == expected


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(5, 70), st.integers(5, 70)),
    st.tuples(st.integers(4, 64), st.integers(4, 64)),
    st.integers(0, 2**32),
)
def test_image_and_label_stay_together_whatever_the_sizes(size, crop, seed):
    label = np.random.default_rng(seed).integers(1, 19, size).astype(np.uint8)
    image = np.repeat(label[..., None] * 12, 3, 2)
    out, target = augment(image, label, crop, (1.0, 1.0), 0.0, np.random.default_rng(seed))
    assert out.shape == (*crop, 3) and target.shape == crop
    valid = target != 255
    assert (out[valid] == target[valid][:, None] * 12).all() and (out[~valid] == 0).all()


def test_scaling_rounds_up_and_keeps_label_values():
    label = np.array([[0, 255], [3, 7]], np.uint8).repeat(5, 0).repeat(7, 1)
    image = np.zeros((*label.shape, 3), np.uint8)
    scaled, target = rescale(image, label, 0.55)
    assert scaled.shape == (6, 8, 3) and set(np.unique(target)) == {0, 3, 7, 255}


def test_a_short_side_is_padded_on_both_ends_as_in_the_reference():
    label = np.zeros((10, 40), np.uint8)
    image = np.full((10, 40, 3), 9, np.uint8)
    _, target = random_crop(image, label, (20, 40), np.random.default_rng(0))
    assert 8 <= (target == 0).all(1).sum() <= 10, "(20 - 10)//2 + 1 rows on each end, then a crop"
    assert (target[0] == 255).all()


def test_flips_half_of_the_time():
    label = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
    image = np.zeros((8, 8, 3), np.uint8)
    firsts = [
        augment(image, label, (8, 8), (1.0, 1.0), 0.0, np.random.default_rng(seed))[1][0, 0] for seed in range(400)
    ]
    assert 150 < firsts.count(7) < 250


def test_normalise():
    out = normalise(PIXELS, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert out.shape == (3, 1, 2) and out.dtype == np.float32
    assert out[0, 0, 0] == pytest.approx((200 / 255 - 0.5) / 0.2, rel=1e-6)
