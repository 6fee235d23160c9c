"""The miniature street scenes: form of the archives, reproducibility, and that they are a fair problem."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from segcore.data import minicity
from segcore.data.labels import IGNORE, TABLES
from segcore.data.minicity import MinicityRecipe, render, write_archives
from segcore.data.minicity import scene as scene_of
from segcore.data.minicity.actors import Pose
from segcore.data.minicity.plan import Scene
from segcore.errors import DataError

TABLE = TABLES["cityscapes"]
SMALL = MinicityRecipe(seed=7, train=9, val=4, height=64, width=128)
ENTRY = re.compile(
    r"(leftImg8bit|gtFine)/(train|val)/([a-z]+)/\3_\d{6}_\d{6}_(leftImg8bit|gtFine_labelIds|gtFine_color)\.png"
)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_archives(tmp_path_factory.mktemp("minicity"), SMALL)


@pytest.fixture(scope="module")
def scenes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and train ids of both splits at reduced size."""
    recipe = MinicityRecipe(seed=3, train=24, val=24, height=96, width=192)
    drawn = {}
    for split, count in (("train", recipe.train), ("val", recipe.val)):
        images, labels = zip(*(render(recipe, split, index) for index in range(count)), strict=True)
        drawn[split] = np.stack(images), TABLE.to_train_ids(np.stack(labels), split)
    return drawn


def test_archives_are_whole_and_named_as_cityscapes_names_them(archives: tuple[Path, Path]) -> None:
    assert [path.name for path in archives] == ["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"]
    for path, root, kinds in zip(archives, ("leftImg8bit", "gtFine"), (1, 2), strict=True):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
        assert names == sorted(names)
        assert {"README", "license.txt"} <= set(names)
        matches = [ENTRY.fullmatch(name) for name in names if name not in ("README", "license.txt")]
        assert all(match and match[1] == root for match in matches)
        assert Counter(match[2] for match in matches) == {"train": SMALL.train * kinds, "val": SMALL.val * kinds}
        towns = {split: {match[3] for match in matches if match[2] == split} for split in ("train", "val")}
        assert len(towns["train"]) > 1 and not towns["train"] & towns["val"]


def test_every_picture_has_its_labels_and_their_colours(archives: tuple[Path, Path]) -> None:
    color = {entry.id: entry.color for entry in TABLE.entries}
    with zipfile.ZipFile(archives[0]) as images, zipfile.ZipFile(archives[1]) as labels:
        for name in (name for name in images.namelist() if name.endswith(".png")):
            stem = name.replace("leftImg8bit/", "gtFine/").removesuffix("_leftImg8bit.png")
            image = _decode(images.read(name))
            label = _decode(labels.read(f"{stem}_gtFine_labelIds.png"))
            shown = _decode(labels.read(f"{stem}_gtFine_color.png"))[..., ::-1]
            assert image.shape == shown.shape == (64, 128, 3) and label.shape == (64, 128)
            assert image.dtype == label.dtype == np.uint8
            for identity in np.unique(label):
                assert (shown[label == identity] == color[identity]).all()


def _decode(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_pictures_are_stored_as_rgb(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[0]) as archive:
        first = next(name for name in archive.namelist() if name.endswith(".png"))
        stored = _decode(archive.read(first))[..., ::-1]
    assert np.array_equal(stored, render(SMALL, "train", 0)[0])


def test_equal_recipes_give_equal_bytes(archives: tuple[Path, Path], tmp_path: Path) -> None:
    again = write_archives(tmp_path, SMALL)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in archives]


def test_a_scene_depends_on_seed_split_and_index_and_on_no_count() -> None:
    image, label = render(SMALL, "train", 3)
    same = render(MinicityRecipe(seed=7, train=500, val=1, height=64, width=128), "train", 3)
    assert np.array_equal(image, same[0]) and np.array_equal(label, same[1])
    others = [(MinicityRecipe(seed=8, height=64, width=128), "train", 3), (SMALL, "val", 3), (SMALL, "train", 4)]
    for recipe, split, index in others:
        assert (render(recipe, split, index)[1] != label).mean() > 0.1


@pytest.mark.parametrize(("height", "width"), [(64, 128), (96, 256), (160, 160), (256, 512)])
def test_any_size_is_drawn_natively(height: int, width: int) -> None:
    image, label = render(MinicityRecipe(height=height, width=width), "val", 1)
    assert image.shape == (height, width, 3) and label.shape == (height, width)
    assert image.dtype == label.dtype == np.uint8
    assert set(np.unique(label)) <= {entry.id for entry in TABLE.entries}
    assert image.std() > 15


def test_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="'test'"):
        render(SMALL, "test", 0)


def test_all_classes_appear_in_both_splits(scenes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for split, (_, labels) in scenes.items():
        for identity, entry in enumerate(TABLE.classes):
            share = (labels == identity).mean(axis=(1, 2))
            assert (share > 5e-4).sum() >= 2, f"{entry.name} is missing in {split}"


def test_rare_classes_stay_rare_and_void_occurs(scenes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    labels = scenes["train"][1]
    for name in ("bus", "train", "truck", "motorcycle", "wall", "fence"):
        assert ((labels == TABLE.names.index(name)).mean(axis=(1, 2)) > 1e-3).mean() < 0.6
    assert 0.005 < (labels == IGNORE).mean() < 0.2


@pytest.mark.parametrize("hero", sorted(scene_of.HEROES))
def test_the_promised_actor_is_seen(hero: str) -> None:
    identity, share = scene_of.HEROES[hero]
    _, label = scene_of.compose(np.random.default_rng(11), 64, 128, hero)
    assert (label == identity).mean() > 0.7 * share


def _miou(prediction: np.ndarray, label: np.ndarray) -> float:
    known = label != IGNORE
    n = TABLE.num_classes
    counts = np.bincount(label[known].astype(int) * n + prediction[known], minlength=n * n).reshape(n, n)
    hit = np.diag(counts)
    return float((hit / np.maximum(counts.sum(0) + counts.sum(1) - hit, 1)).mean())


def test_place_alone_does_not_give_the_class(scenes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    train, val = scenes["train"][1], scenes["val"][1]
    majority = np.stack([(train == identity).sum(axis=0) for identity in range(TABLE.num_classes)]).argmax(axis=0)
    assert 0.04 < _miou(np.broadcast_to(majority, val.shape), val) < 0.13


def test_colour_alone_does_not_give_the_class(scenes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    (images, labels), (unseen, truth) = scenes["train"], scenes["val"]
    means = np.stack([images[labels == identity].mean(axis=0) for identity in range(TABLE.num_classes)])
    distance = ((unseen[..., None, :].astype(np.float32) - means.astype(np.float32)) ** 2).sum(axis=-1)
    assert _miou(distance.argmin(axis=-1), truth) < 0.10


def test_labels_follow_the_edges_of_the_picture() -> None:
    """A pixel differs more from its neighbour where the label changes: labels shifted by a few pixels lose that."""

    def contrast(image: np.ndarray, label: np.ndarray) -> float:
        step = abs(np.diff(image.astype(float).mean(axis=2), axis=1))
        return step[np.diff(label.astype(int), axis=1) != 0].mean()

    for index in range(4):
        image, label = render(MinicityRecipe(height=128, width=256), "train", index)
        exact = contrast(image, label)
        assert all(exact > 1.5 * contrast(image, np.roll(label, shift, axis=1)) for shift in (-4, 4))


def test_a_failure_leaves_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(recipe: MinicityRecipe, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        if split == "val":
            raise KeyboardInterrupt
        return render(recipe, split, index)

    monkeypatch.setattr(minicity, "render", fail)
    with pytest.raises(KeyboardInterrupt):
        write_archives(tmp_path, MinicityRecipe(train=1, val=1, height=64, width=128))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_archives_that_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = MinicityRecipe(train=1, val=1, height=64, width=128)
    before = [path.read_bytes() for path in write_archives(tmp_path, recipe)]

    def fail(pixels: np.ndarray) -> bytes:
        raise OSError("No space left on device")

    monkeypatch.setattr(minicity, "_png", fail)
    with pytest.raises(OSError, match="No space"):
        write_archives(tmp_path, MinicityRecipe(seed=1, train=1, val=1, height=64, width=128))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(minicity.ARCHIVES)
    assert [(tmp_path / name).read_bytes() for name in minicity.ARCHIVES] == before


def test_what_stands_beside_a_long_vehicle_is_drawn_on_its_side_of_it() -> None:
    scene: Scene = scene_of._lay_out(np.random.default_rng(0), 64, 128, "person")
    order: list[str] = []
    scene.items = []
    for name, x, z, half in (("tram", -4.0, 30.0, 13.0), ("outside", -8.0, 18.0, 0.0), ("inside", -1.0, 40.0, 0.0)):
        scene.add(z, x, lambda _, name=name: order.append(name), half=half)
    scene.draw()
    assert order == ["outside", "tram", "inside"]


def test_standing_actors_do_not_run_into_each_other() -> None:
    scene = scene_of._lay_out(np.random.default_rng(0), 64, 128, "person")
    scene.taken = [(0.0, 10.0, 0.9, 2.3)]
    assert not scene.free(Pose(0.5, 11.0, 0.0), 1.0, 1.0)
    assert scene.free(Pose(4.0, 11.0, 0.0), 1.0, 1.0)
