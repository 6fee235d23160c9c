"""Where a score is lost: each table against counting by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.evaluate import insight
from segcore.evaluate.confusion import confusion_matrix, hits, miou
from segcore.evaluate.insight import BAND_ENDS, Insight, Scene, distance_band, miou_gains, write_insight
from segcore.evaluate.uncertainty import Counts

CLASSES = 4
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
labels = arrays(np.uint8, sizes, elements=st.sampled_from([0, 1, 2, 255]))


def written(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]], names: str = "abcd") -> dict[str, list[dict]]:
    """The four tables of one mode `m` for images called 0, 1, …"""
    found, rows = Insight(len(names)), []
    for label, prediction in pairs:
        found.add(Scene.of(label), prediction)
        rows.append(hits(confusion_matrix(label, prediction, len(names))))
    counts = Counts(*np.stack(rows, 1))
    write_insight(folder, {"m": found}, {"m": counts}, [str(k) for k in range(len(pairs))], list(names))
    return {path.stem: list(csv.DictReader(path.open())) for path in folder.iterdir()}


@given(labels)
def test_objects_are_the_connected_parts_of_a_class(label: np.ndarray) -> None:
    scene, todo, parts = Scene.of(label), set(zip(*np.nonzero(label != 255), strict=True)), 0
    while todo:
        parts += 1
        reached, edge = set(), [todo.pop()]
        while edge:
            y, x = edge.pop()
            reached.add((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            fresh = {place for place in around if label[place] == label[y, x]}
            todo -= fresh
            edge += fresh
        numbers = {int(scene.place[place]) for place in reached}
        assert len(numbers) == 1 and 0 not in numbers
        assert scene.area[numbers.pop()] == len(reached)
    assert len(scene.area) == parts + 1 and scene.area.sum() == label.size
    counted = label != 255
    assert np.array_equal(scene.classes[scene.place[counted]], label[counted])


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 30)), elements=st.sampled_from([0, 0, 0, 1, 2])))
def test_the_distance_is_that_to_the_nearest_other_class(label: np.ndarray) -> None:
    rows, columns = np.indices(label.shape)
    for (y, x), value in np.ndenumerate(label):
        others = label != value
        away = np.maximum(abs(rows - y), abs(columns - x))[others].min() if others.any() else np.inf
        assert distance_band(label)[y, x] == sum(away > end for end in BAND_ENDS)


def test_ignored_pixels_are_no_boundary() -> None:
    label = np.uint8([[0, 0, 0, 0, 255, 1, 1, 2, 2, 2]])
    assert distance_band(label).tolist() == [[3, 3, 3, 2, 2, 1, 0, 0, 1, 2]]  # all from where 1 and 2 touch
    assert distance_band(np.uint8([[0, 0, 255, 255]])).tolist()[0][:2] == [len(BAND_ENDS)] * 2


@given(arrays(np.int64, (CLASSES, CLASSES), elements=st.integers(0, 3)))
def test_gain_is_the_score_with_the_confusion_made_right(matrix: np.ndarray) -> None:
    gains = miou_gains(matrix)
    for label, predicted in np.ndindex(matrix.shape):
        mended = matrix.copy()
        mended[label, label] += mended[label, predicted]
        mended[label, predicted] -= matrix[label, predicted]
        expected = miou(mended)[0] - miou(matrix)[0] if label != predicted and matrix[label, predicted] else 0
        assert gains[label, predicted] == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_the_bands_add_up_to_the_confusion_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice(np.uint8([0, 1, 2, 3, 255]), (4, 6)).repeat(5, 0).repeat(7, 1)
    prediction = rng.integers(0, CLASSES, label.shape, np.uint8)
    found, scene = Insight(CLASSES), Scene.of(label)
    for _ in range(2):
        found.add(scene, prediction)
    assert np.array_equal(found.bands.sum(0), 2 * confusion_matrix(label, prediction, CLASSES))
    assert found.objects.sum() == 2 * (len(scene.area) - 1)
    correct, false, missed = hits(found.bands.sum(0))
    assert found.correct.sum(0).tolist() == correct.tolist()
    assert found.area.sum(0).tolist() == (correct + missed).tolist()
    with_objects = found.area.sum(0) > 0
    assert found.false.sum(0)[with_objects] == pytest.approx(false[with_objects])


def test_objects_are_scored_by_size_and_share_their_false_positives(tmp_path: Path) -> None:
    """On 100×100: a of 6×6 and of 2×2 pixels (0.36 and 0.04 %) on b; half of the larger is found, and 20 too many."""
    label = np.ones((100, 100), np.uint8)
    label[10:16, 10:16] = label[50:52, 50:52] = 0
    prediction = np.ones((100, 100), np.uint8)
    prediction[10:16, 10:13] = prediction[80:84, 20:25] = 0
    rows = {(row["class"], row["size"]): row for row in written(tmp_path, [(label, prediction)])["object_size"]}
    assert {key: (row["objects"], row["pixels"]) for key, row in rows.items()} == {
        ("a", "small"): ("1", "4"),
        ("a", "medium"): ("1", "36"),
        ("b", "large"): ("1", "9960"),
        (insight.MEAN, "small"): ("1", "4"),
        (insight.MEAN, "medium"): ("1", "36"),
        (insight.MEAN, "large"): ("1", "9960"),
    }
    assert (rows["a", "medium"]["recall"], rows["a", "medium"]["iou"]) == ("0.5", f"{18 / (36 + 20 * 0.9):.6f}")
    assert (rows["a", "small"]["recall"], rows["a", "small"]["iou"]) == ("0.0", "0.0")
    assert float(rows["b", "large"]["iou"]) == pytest.approx((9960 - 20) / (9960 + 18 + 4), abs=1e-6)


def test_errors_at_the_boundary_stay_in_its_bands(tmp_path: Path) -> None:
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 1
    shifted = np.roll(label, 2, 1)
    shifted[:, :2] = 0
    rows = written(tmp_path, [(label, shifted)], "ab")["boundary_distance"]
    assert [(row["from_px"], row["to_px"]) for row in rows] == [
        ("1", "1"), ("2", "2"), ("3", "4"), ("5", "8"), ("9", "16"), ("17", ""),
    ]  # fmt: skip
    assert [row["accuracy"] for row in rows] == ["0.5", "0.5", "1.0", "1.0", "1.0", "1.0"]
    assert [row["miou"] for row in rows[:2]] == ["0.25", "0.25"]
    assert sum(int(row["pixels"]) for row in rows) == label.size


def test_images_are_listed_from_the_worst_on_and_empty_ones_not_at_all(tmp_path: Path) -> None:
    label = np.uint8([[0, 1], [0, 1]])
    half, none = np.uint8([[0, 0], [0, 0]]), np.uint8([[1, 0], [1, 0]])
    empty = np.full((2, 2), 255, np.uint8)
    rows = written(tmp_path, [(label, half), (empty, half), (label, none), (label, label)])["worst_images"]
    assert [(row["rank"], row["image"], row["miou"]) for row in rows] == [
        ("1", "2", "0.0"), ("2", "0", "0.25"), ("3", "3", "1.0"),
    ]  # fmt: skip


def test_confusions_by_what_they_cost(tmp_path: Path) -> None:
    """Ten pixels of the large class weigh less than four of the rare one, and both are listed."""
    label = np.zeros((30, 30), np.uint8)
    label[0, :8] = 1
    prediction = label.copy()
    prediction[0, :4] = 2
    prediction[10, :10] = 3
    rows = written(tmp_path, [(label, prediction)])["confusions"]
    assert [(row["label"], row["predicted"], row["pixels"]) for row in rows] == [("b", "c", "4"), ("a", "d", "10")]
    assert float(rows[0]["share"]) == pytest.approx(4 / 900, abs=1e-6)
    before, after = (np.mean([882 / 892, *rest]) for rest in ((4 / 8, 0, 0), (1, 0)))
    assert float(rows[0]["miou_gain"]) == pytest.approx(after - before, abs=1e-6)


def test_equal_counts_give_equal_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 4, (20, 30), np.uint8), rng.integers(0, 4, (20, 30), np.uint8)) for _ in range(3)]
    for folder in ("one", "two"):
        written(tmp_path / folder, pairs)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
