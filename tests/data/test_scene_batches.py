"""Scene parsing's batches: parity of what is in them, and which images they are made of."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segcore.data.datasets import Samples
from segcore.data.labels import IGNORE, TABLES
from segcore.data.loaders import sub_batches, training_batches
from segcore.data.scene_batches import SceneShape, SceneStream, SubBatches, padded, scene_sample
from segcore.data.statistics import IMAGENET
from segcore.distributed import Process
from segcore.prepare import Job, normaliser
from segcore.recipe import TrainRecipe


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("padding", [IGNORE, 0])
def test_a_batch_is_the_references(case, padding, golden):
    description, arrays = golden("ade_batch")
    facts = description["cases"][case]
    multiple, stride = facts["padding_constant"], facts["segm_downsampling_rate"]
    shape = SceneShape((facts["imgSize"],), facts["imgMaxSize"], 2, stride, multiple, padding)
    samples = [
        scene_sample(
            arrays[f"image{i}"],
            TABLES["ade20k"].to_train_ids(arrays[f"label_png{i}"], "golden"),
            shape,
            facts["imgSize"],
            facts["flipped"][i],
        )
        for i in range(2)
    ]
    batch = padded(*zip(*samples, strict=True), shape)
    assert list(batch.images.shape[2:]) == facts["batch_hw"] and list(batch.labels.shape[1:]) == facts["label_hw"]
    assert batch.images.dtype is torch.uint8 and batch.labels.dtype is torch.int64
    name = "label_as_written" if padding == 0 else "label_pad_ignored"
    wanted = arrays[f"batch{case}_{name}"].astype(int)
    assert np.array_equal(batch.labels, np.where(wanted < 0, IGNORE, wanted))
    images = _normalise(batch)[:, :, ::2, ::2]
    np.testing.assert_allclose(images, arrays[f"batch{case}_image"], atol=1e-5)


def _normalise(batch):
    recipe = TrainRecipe("resnet50_c1", 1, 2, (8, 8), (1, 1), 0.02, warmup=0)
    job = Job(recipe, Samples([], Path(), TABLES["ade20k"]), *IMAGENET, 1, Path(), Path())
    return normaliser(job, Process(0, 1, torch.device("cpu")))(batch)


def test_padding_as_published_turns_as_many_cells_into_wall_as_the_reference_does(golden):
    description, arrays = golden("ade_batch")
    for case, facts in enumerate(description["cases"]):
        wall, ignored = (arrays[f"batch{case}_label_{name}"] for name in ("as_written", "pad_ignored"))
        assert (wall != ignored).sum() == facts["cells_wrongly_wall"] and wall.size == facts["cells"]


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([4, 8, 16, 32]), st.integers(5, 90), st.integers(8, 120))
def test_labels_are_reduced_as_pillow_reduces_them(height, width, stride, short_side, max_side):
    rng = np.random.default_rng([height, width])
    label, image = rng.integers(0, 150, (height, width), np.uint8), np.zeros((height, width, 3), np.uint8)
    shape = SceneShape((short_side,), max_side, 1, stride, 32)
    resized, reduced = scene_sample(image, label, shape, short_side, False)
    h, w = shape.scaled((height, width), short_side)
    assert resized.shape == (3, h, w) and max(h, w) <= max_side and min(h, w) <= short_side
    canvas = Image.new("L", (-(-w // stride) * stride, -(-h // stride) * stride), IGNORE)
    canvas.paste(Image.fromarray(label).resize((w, h), Image.Resampling.NEAREST))
    wanted = canvas.resize((canvas.width // stride, canvas.height // stride), Image.Resampling.NEAREST)
    assert np.array_equal(reduced, np.asarray(wanted))


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((512, 683), 300, (300, 400)),
        ((683, 512), 600, (800, 600)),
        ((400, 1600), 450, (250, 1000)),  # the longest side decides
        ((97, 97), 450, (450, 450)),
        ((321, 481), 375, (375, 561)),  # 561.9 is truncated
        ((1, 5000), 300, (1, 1000)),  # 0.2 would be nothing
    ],
)
def test_sizes_are_truncated_and_the_longest_side_has_a_limit(size, short_side, expected):
    assert SceneShape((), 1000, 2, 8, 8).scaled(size, short_side) == expected


def walked(portrait, size, seed):
    """The reference's way: a cursor over a shuffled list, and a list of pending records for each orientation."""
    pending = ([], [])
    for number in itertools.count():
        for index in np.random.default_rng([seed, 0, number]).permutation(len(portrait)):
            group = pending[int(portrait[index])]
            group.append(int(index))
            if len(group) == size:
                yield list(group)
                group.clear()


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 5), st.randoms())
def test_any_sub_batch_is_the_one_that_walking_gives(portrait, size, seed, random):
    wanted = list(enumerate(itertools.islice(walked(portrait, size, seed), 40)))
    random.shuffle(wanted)
    order = SubBatches(np.array(portrait), size, seed)
    for number, group in wanted:
        assert order[number].tolist() == group


def test_a_pass_over_a_list_as_long_as_ade20ks_shows_no_image_twice():
    portrait = np.random.default_rng(0).random(20_210) < 0.117
    order = SubBatches(portrait, 2, 1)
    shown = np.concatenate([order[number] for number in range(10_104)])  # a pass has so many, or one more
    assert len(set(shown)) == len(shown) == 20_208
    assert all(len(set(portrait[order[number]])) == 1 for number in (0, 10_105, 799_999))


@pytest.fixture
def photographs(tmp_path) -> Samples:
    """Ten pictures of their own sizes, four of them upright."""
    rng = np.random.default_rng(3)
    pairs = []
    for index in range(10):
        size = (90, 60) if index % 3 == 0 else (50 + index, 80)
        pairs.append((f"{index}.png", f"{index}_label.png"))
        cv2.imwrite(str(tmp_path / pairs[-1][0]), rng.integers(0, 256, (*size, 3), np.uint8))
        cv2.imwrite(str(tmp_path / pairs[-1][1]), rng.integers(0, 151, size, np.uint8))
    return Samples(pairs, tmp_path, TABLES["ade20k"])


SHAPE = SceneShape((24, 32, 40), 100, 2, 8, 8)


def test_a_sub_batch_has_one_orientation_and_one_short_side(photographs):
    stream = SceneStream(photographs, SHAPE, 7)
    sides, flips = set(), set()
    for number in range(12):
        items = [stream[position] for position in (2 * number, 2 * number + 1)]
        shapes = [image.shape[1:] for image, _, _ in items]
        assert len({height > width for height, width in shapes}) == 1
        assert {min(shape) for shape in shapes} == {stream.short_side(number)}
        sides.add(stream.short_side(number))
        flips |= {stream.flipped(position) for position in (2 * number, 2 * number + 1)}
        assert all(label.shape == (-(-h // 8), -(-w // 8)) for (h, w), (_, label, _) in zip(shapes, items, strict=True))
    assert sides == set(SHAPE.short_sides) and flips == {True, False}


def test_a_sample_depends_on_seed_and_place_alone(photographs):
    one, other = SceneStream(photographs, SHAPE, 7), SceneStream(photographs, SHAPE, 7)
    forwards = [one[position] for position in range(30)]
    for position in reversed(range(30)):
        image, label, _ = other[position]
        assert torch.equal(image, forwards[position][0]) and torch.equal(label, forwards[position][1])
    assert [one.name(p) for p in range(30)] != [SceneStream(photographs, SHAPE, 8).name(p) for p in range(30)]


def test_a_flipped_sample_is_the_mirror_image(photographs):
    image, label = photographs.pair(1)
    straight = scene_sample(image, label, SHAPE, 24, False)
    mirrored = scene_sample(image[:, ::-1], label[:, ::-1], SHAPE, 24, True)
    assert all(torch.equal(a, b) for a, b in zip(straight, mirrored, strict=True))


def test_loaders_hand_out_the_same_sub_batches_whatever_their_number(photographs):
    stream = SceneStream(photographs, SHAPE, 7)
    places = [sub_batches(4, iteration, 0, 1, SHAPE.sub_batch) for iteration in range(3)]
    alone, helped = (list(training_batches(stream, places, workers)) for workers in (0, 2))
    assert len(alone) == 3 and all(len(parts) == 2 for parts in alone)
    for a, b in zip(itertools.chain(*alone), itertools.chain(*helped), strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        assert a.sizes == [tuple(size) for size in b.sizes]
        height, width = a.sizes[0]
        assert not a.images[0, :, height:].any() and not a.images[0, :, :, width:].any()


@pytest.mark.parametrize("damage", ["missing", "text"])
def test_a_file_that_cannot_be_read_is_named_and_another_stands_in(damage, photographs):
    whole = SceneStream(photographs, SHAPE, 7)
    position = next(p for p in range(20) if whole.name(p) == "1.png")  # no portrait, so the order stays
    path = photographs.image_path(1)
    path.unlink() if damage == "missing" else path.write_bytes(b"<html>")
    stream = SceneStream(photographs, SHAPE, 7)
    pair = [stream[p] for p in range(position // 2 * 2, position // 2 * 2 + 2)]
    batch = stream.collate(pair)
    assert stream.name(position) == "1.png" and len(batch.images) == 2
    assert len(batch.unreadable) == 1 and "1.png" in batch.unreadable[0]
