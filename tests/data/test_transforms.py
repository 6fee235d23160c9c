"""The published training transforms: worked values of the references, and whole samples against plain code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import plain_data
from segcore.data.labels import TABLES
from segcore.data.transforms import augment, colour_curve, draw_scale, normalise, saturation, scaled_crop

PIXELS = np.array([[[200, 100, 50], [10, 250, 130]]], np.uint8)
CITYSCAPES = TABLES["cityscapes"]
IDS = np.array([entry.id for entry in CITYSCAPES.entries], np.uint8)
STDC = {"transform": "stdc", "scale_steps": 12}
sides = st.tuples(st.integers(5, 70), st.integers(5, 70))
crops = st.tuples(st.integers(4, 64), st.integers(4, 64))
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (colour_curve(1.2, 1), [[240, 120, 60], [12, 255, 156]]),
        (colour_curve(0.6, 1), [[120, 60, 30], [6, 150, 78]]),
        (colour_curve(1, 0.8), [[174, 94, 54], [22, 214, 118]]),
        (colour_curve(1, 1.4), [[250, 110, 40], [0, 255, 152]]),
    ],
)
def test_brightness_and_contrast_are_the_references(step, expected):
    assert step[PIXELS][0].tolist() == expected


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.3, [[225, 95, 29], [0, 255, 130]]), (0.6, [[166, 106, 76], [58, 202, 130]])]
)
def test_saturation_is_the_references(factor, expected):
    assert saturation(PIXELS, factor)[0].tolist() == expected


def photograph(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture with some noise, and label ids in blocks."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.int16)
    noise = rng.integers(-6, 7, smooth.shape)
    blocks = rng.choice(IDS, coarse.shape[:2]).repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    return np.clip(smooth + noise, 0, 255).astype(np.uint8), blocks


@pytest.mark.parametrize(("size", "crop"), [((90, 160), (64, 128)), ((60, 60), (64, 64)), ((301, 170), (96, 120))])
def test_a_sample_is_the_plain_transforms_to_the_bit(size, crop):
    """CoinCheung/BiSeNet's transform, written out over the whole picture."""
    for seed in range(12):
        image, ids = photograph(size, seed)
        label = CITYSCAPES.to_train_ids(ids, "x")
        ours = augment(image, label, crop, (0.25, 2.0), 0.4, np.random.default_rng(seed))
        plain = plain_data.bisenet(image, label, crop, (0.25, 2.0), 0.4, np.random.default_rng(seed))
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(ours, plain, strict=True)), seed


@pytest.mark.parametrize(
    ("size", "crop"), [((128, 256), (64, 128)), ((90, 160), (64, 128)), ((75, 131), (48, 48)), ((160, 90), (64, 64))]
)
@pytest.mark.parametrize(("scales", "steps"), [((0.125, 1.5), 12), ((0.75, 2.0), 6)])
def test_a_sample_of_stdc_is_pillows(size, crop, scales, steps):
    """MichaelFan01/STDC-Seg's transform, written out over the whole picture; rounding may differ where Pillow's does.

    Portraits whose enlarged form still lacks columns are padded there with 255 and not with label 0.
    """
    for seed in range(16):
        image, ids = photograph(size, seed)
        label, rng = CITYSCAPES.to_train_ids(ids, "x"), np.random.default_rng(seed)
        ours = augment(image, label, crop, scales, 0.5, rng, "stdc", steps)
        pictures = Image.fromarray(image), Image.fromarray(ids)
        plain = plain_data.stdc(*pictures, CITYSCAPES, crop, scales, 0.5, np.random.default_rng(seed), steps)
        assert np.array_equal(ours[1], plain[1]), seed
        assert np.abs(ours[0].astype(int) - plain[0]).max() <= 1, seed
        assert (ours[0] == plain[0]).mean() > 0.99, seed


def test_stdc_draws_from_its_steps_alone():
    drawn = {draw_scale((0.125, 1.5), 12, np.random.default_rng(seed)) for seed in range(200)}
    assert drawn == {0.125 * step for step in range(1, 13)}
    rng = np.random.default_rng(0)
    assert len({draw_scale((0.125, 1.5), None, rng) for _ in range(20)}) == 20


def test_stdc_enlarges_what_is_smaller_than_the_crop():
    """At an eighth of 64×128 nothing is padded where 512×1024 would be cut: the whole photograph shows, enlarged."""
    image, label = np.full((64, 128, 3), 90, np.uint8), np.zeros((64, 128), np.uint8)
    out, target = augment(image, label, (32, 64), (0.125, 0.125), 0.0, np.random.default_rng(0), "stdc", 1)
    assert (out == 90).all() and (target == 0).all()


@settings(max_examples=60)
@given(sides, crops, seeds, st.sampled_from([{}, {"scale_steps": 3}, STDC, {"transform": "stdc"}]))
def test_label_values_are_never_interpolated(size, crop, seed, options):
    rng = np.random.default_rng(seed)
    label = rng.choice(np.array([0, 7, 18, 255], np.uint8), size)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    out, target = augment(image, label, crop, (0.125, 2.0), 0.4, rng, **options)
    assert out.shape == (*crop, 3) and target.shape == crop and out.dtype == target.dtype == np.uint8
    assert set(np.unique(target)) <= {*np.unique(label), 255}


@settings(max_examples=60)
@given(sides, crops, seeds)
def test_image_and_label_stay_together_whatever_the_sizes(size, crop, seed):
    label = np.random.default_rng(seed).integers(1, 19, size).astype(np.uint8)
    image = np.repeat(label[..., None] * 12, 3, 2)
    out, target = augment(image, label, crop, (1.0, 1.0), 0.0, np.random.default_rng(seed))
    assert out.shape == (*crop, 3) and target.shape == crop
    valid = target != 255
    assert (out[valid] == target[valid][:, None] * 12).all() and (out[~valid] == 0).all()


@pytest.mark.parametrize("options", [{}, STDC])
def test_a_sample_owns_its_pixels(options):
    """Its source may be a read-only file, and the loader shares what it is given."""
    image, label = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    image.flags.writeable = label.flags.writeable = False
    for seed in range(6):
        sample = augment(image, label, (8, 8), (1.0, 1.0), 0.0, np.random.default_rng(seed), **options)
        assert all(array.flags.c_contiguous and array.flags.writeable for array in sample)


def test_scaling_rounds_up_and_keeps_label_values():
    label = np.array([[0, 255], [3, 7]], np.uint8).repeat(5, 0).repeat(7, 1)
    image = np.zeros((*label.shape, 3), np.uint8)
    scaled, target = scaled_crop(image, label, (6, 8), 0.55, np.random.default_rng(0))
    assert scaled.shape == (6, 8, 3) and set(np.unique(target)) == {0, 3, 7, 255}


def test_a_short_side_is_padded_on_both_ends_as_in_the_reference():
    label = np.zeros((10, 40), np.uint8)
    image = np.full((10, 40, 3), 9, np.uint8)
    _, target = scaled_crop(image, label, (20, 40), 1.0, np.random.default_rng(0))
    assert 8 <= (target == 0).all(1).sum() <= 10, "(20 - 10)//2 + 1 rows on each end, then a crop"
    assert (target[0] == 255).all()


@pytest.mark.parametrize("options", [{}, STDC])
def test_flips_half_of_the_time(options):
    label = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
    image = np.zeros((8, 8, 3), np.uint8)
    firsts = [
        augment(image, label, (8, 8), (1.0, 1.0), 0.0, np.random.default_rng(seed), **options)[1][0, 0]
        for seed in range(400)
    ]
    assert 150 < firsts.count(7) < 250


def test_normalise():
    out = normalise(PIXELS, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert out.shape == (3, 1, 2) and out.dtype == np.float32
    assert out[0, 0, 0] == pytest.approx((200 / 255 - 0.5) / 0.2, rel=1e-6)
