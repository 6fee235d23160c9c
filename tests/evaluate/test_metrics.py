"""The numbers of a mode against the official Cityscapes scorer, torchmetrics, and their definitions."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.data.labels import IGNORE, TABLES, Label, LabelTable
from segcore.evaluate import confusion as c
from segcore.evaluate.metrics import DEFINITIONS, metrics
from segcore.evaluate.scoring import Tally

CITYSCAPES = TABLES["cityscapes"]
CLASSES = 4
matrices = arrays(np.int64, (CLASSES, CLASSES), elements=st.integers(0, 9))


def scenes(count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label ids with every kind of void and a few classes missing, and predictions of train ids."""
    rng = np.random.default_rng(4)
    ids = [entry.id for entry in CITYSCAPES.entries if entry.name not in ("train", "truck", "sky")]
    labels = [rng.choice(np.uint8(ids), (9, 16)).repeat(4, 0).repeat(4, 1) for _ in range(count)]
    predictions = []
    for label in labels:
        truth = CITYSCAPES.to_train_ids(label, "x")
        wrong = rng.random(truth.shape) < 0.4
        guess = rng.choice(np.uint8([0, 1, 2, 8, 13, 16, 18]), truth.shape)  # 16 is the train, in no label
        predictions.append(np.where(wrong | (truth == IGNORE), guess, truth))
    return list(zip(labels, predictions, strict=True))


def tally_of(pairs: list[tuple[np.ndarray, np.ndarray]], num_classes: int = 19) -> Tally:
    tally = Tally(num_classes)
    for label, prediction in pairs:
        tally.add(label, prediction, "x.png")
    return tally


def numbers(tally: Tally, labels: LabelTable = CITYSCAPES) -> dict:
    return metrics(tally.matrix, tally.boundary, tally.counts, labels)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the official scorer says of the PNG files, and what we say."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as scorer

    folder, files = tmp_path_factory.mktemp("scored"), ([], [])
    for k, (label, prediction) in enumerate(scenes()):
        for names, kind, picture in zip(files, ("pred", "gtFine"), (CITYSCAPES.to_ids(prediction), label), strict=True):
            names.append(str(folder / f"town_{k:06}_000019_{kind}_labelIds.png"))
            cv2.imwrite(names[-1], picture)
    options = vars(scorer.args) | {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True}
    theirs = scorer.evaluateImgLists(*files, SimpleNamespace(**options))
    ours = numbers(tally_of([(CITYSCAPES.to_train_ids(label, "x"), guess) for label, guess in scenes()]))
    return SimpleNamespace(theirs=theirs, ours=ours)


def test_class_scores_equal_the_official_scorer(official: SimpleNamespace) -> None:
    theirs = {name: official.theirs["classScores"][name] for name in CITYSCAPES.names}
    ours = {name: np.nan if value is None else value for name, value in official.ours["iou"].items()}
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)
    assert official.ours["miou"] == pytest.approx(official.theirs["averageScoreClasses"], abs=1e-12)
    absent = [name for name, value in official.ours["iou"].items() if value is None]
    assert absent == ["sky", "truck"] and official.ours["iou"]["train"] == 0
    assert official.ours["classes_averaged"] == 17


def test_category_scores_equal_the_official_scorer(official: SimpleNamespace) -> None:
    theirs = {name: value for name, value in official.theirs["categoryScores"].items() if name != "void"}
    ours = {name: np.nan if value is None else value for name, value in official.ours["category_iou"].items()}
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)
    assert np.isnan(ours["sky"]) and len(ours) == 7
    assert official.ours["category_miou"] == pytest.approx(official.theirs["averageScoreCategories"], abs=1e-12)


def test_equals_torchmetrics() -> None:
    from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

    pairs = [(CITYSCAPES.to_train_ids(label, "x"), guess) for label, guess in scenes()]
    ours = numbers(tally_of(pairs))
    options = {"num_classes": 19, "ignore_index": IGNORE}
    expected = {}
    for average in ("none", "macro"):
        index = MulticlassJaccardIndex(average=average, **options)
        for label, guess in pairs:
            index.update(torch.from_numpy(guess.astype(np.int64)), torch.from_numpy(label.astype(np.int64)))
        expected[average] = index.compute().numpy()
    assert [value or 0 for value in ours["iou"].values()] == pytest.approx(expected["none"], abs=1e-6)
    assert ours["miou"] == pytest.approx(float(expected["macro"]), abs=1e-6)
    dice = MulticlassF1Score(average="none", **options)
    for label, guess in pairs:
        dice.update(torch.from_numpy(guess.astype(np.int64)), torch.from_numpy(label.astype(np.int64)))
    assert [value or 0 for value in ours["f1"].values()] == pytest.approx(dice.compute().numpy(), abs=1e-6)


@given(matrices)
def test_precision_recall_and_f1_by_their_definitions(matrix: np.ndarray) -> None:
    precision, recall, f1 = c.precision(matrix), c.recall(matrix), c.f1(matrix)
    for k in range(CLASSES):
        predicted, labelled = matrix[:, k].sum(), matrix[k].sum()
        assert np.isnan(precision[k]) == (predicted == 0) and np.isnan(recall[k]) == (labelled == 0)
        assert np.isnan(f1[k]) == (predicted + labelled == 0)
        if predicted and labelled:
            assert precision[k] == matrix[k, k] / predicted and recall[k] == matrix[k, k] / labelled
            harmonic = 2 * precision[k] * recall[k] / (precision[k] + recall[k]) if matrix[k, k] else 0
            assert f1[k] == pytest.approx(harmonic)
    assert f1 == pytest.approx(2 * c.iou(matrix) / (1 + c.iou(matrix)), nan_ok=True)
    assert c.micro_f1(matrix) == pytest.approx(c.pixel_accuracy(matrix), nan_ok=True)
    assert c.macro_f1(matrix) == pytest.approx(np.mean(f1[~np.isnan(f1)]) if matrix.any() else np.nan, nan_ok=True)
    assert c.overall_score(matrix) == pytest.approx((c.miou(matrix)[0] + c.pixel_accuracy(matrix)) / 2, nan_ok=True)


@given(matrices, st.lists(st.sampled_from("ab"), min_size=CLASSES, max_size=CLASSES))
def test_merged_counts_are_those_of_merged_maps(matrix: np.ndarray, groups: list[str]) -> None:
    names, merged = c.merge_classes(matrix, groups)
    label, guess = (np.repeat(part, matrix.ravel()) for part in np.indices(matrix.shape).reshape(2, -1))
    of = np.array([names.index(group) for group in groups])
    assert np.array_equal(merged, c.confusion_matrix(of[label], of[guess], len(names)))


def test_every_number_has_its_definition_and_none_is_defined_in_vain() -> None:
    pairs = [(CITYSCAPES.to_train_ids(label, "x"), guess) for label, guess in scenes(1)]
    found = numbers(tally_of(pairs))
    assert set(found["definitions"]) == set(found) - {"definitions"} | {"counts"} == set(DEFINITIONS)
    bare = LabelTable("bare", tuple(Label(k, k, str(k), (k, k, k)) for k in range(19)))
    assert {key for key in found if key not in numbers(tally_of(pairs), bare)} == {"category_iou", "category_miou"}
    assert "category_iou" not in numbers(tally_of(pairs), bare)["definitions"]


def test_perfect_prediction_is_one_everywhere() -> None:
    label = np.uint8([[0, 0, 1, 255]] * 3)
    found = numbers(tally_of([(label, np.where(label == 255, np.uint8(5), label))]))
    scalars = {key: value for key, value in found.items() if isinstance(value, float)}
    assert set(scalars.values()) == {1.0} and len(scalars) == 10
    assert found["miou_interval"] == [1.0, 1.0]
