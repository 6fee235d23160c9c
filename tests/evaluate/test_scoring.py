"""Evaluating a list: files, resume, several processes, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from segcore.data.datasets import Samples
from segcore.data.labels import Label, LabelTable
from segcore.errors import DataError, SegcoreError
from segcore.evaluate import evaluate, modes_for, refuse_overlap, score_majority
from segcore.evaluate.modes import Mode
from tests.evaluate.tiny import TinyNet

NAMES = [f"images/city_{i}.5" for i in range(5)]
SIZES = [(40, 56), (33, 70), (64, 64), (40, 56), (20, 90)]
TABLE = LabelTable("seven", tuple(Label(i, i if i < 7 else 255, f"class {i}", (i, i, i)) for i in range(8)))
MEAN, STD = (0.3, 0.4, 0.3), (0.2, 0.2, 0.2)
MODES = modes_for(["ss", "mscf"], crop=(32, 48), scales=(0.5, 1.0))


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """Five noise images of four sizes whose labels hold classes 0 … 5 and ignored pixels, never class 6."""
    rng = np.random.default_rng(0)
    for name, size in zip(NAMES, SIZES, strict=True):
        label = tmp_path / "data" / name.replace("images", "labels")
        label.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/images").mkdir(exist_ok=True)
        cv2.imwrite(f"{tmp_path}/data/{name}.png", rng.integers(0, 256, (*size, 3), np.uint8))
        cv2.imwrite(f"{label}.png", rng.choice(np.uint8([0, 1, 2, 3, 4, 5, 7]), size))
    return Samples([(f"{n}.png", f"{n.replace('images', 'labels')}.png") for n in NAMES], tmp_path / "data", TABLE)


def run(net: torch.nn.Module, samples: Samples, folder: Path, **options) -> dict[str, dict] | None:
    return evaluate(net, samples, MODES, MEAN, STD, folder / "out", folder / "progress", **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_their_form(tiny: TinyNet, samples: Samples, tmp_path: Path) -> None:
    result = run(tiny, samples, tmp_path)
    report = json.loads((tmp_path / "out/mscf.json").read_text())
    assert report == result["mscf"]
    assert list(report)[:6] == ["mode", "protocol", "network", "images", "miou", "miou_interval"]
    said = {"mode", "protocol", "network", "images", "definitions"}
    assert set(report) - said == set(report["definitions"]) - {"counts"}
    assert report["mode"] == "mscf" and report["images"] == 5
    protocol = report["protocol"]
    assert (protocol["scales"], protocol["flip"], protocol["crop"]) == ([0.5, 1.0], True, [32, 48])
    assert list(report["iou"]) == [f"class {i}" for i in range(7)]
    assert {path for path in contents(tmp_path / "out") if path.endswith(".png")} == {
        f"predictions/{mode}/{name}.png" for mode in ("ss", "mscf") for name in NAMES
    }
    tables = {path for path in contents(tmp_path / "out") if path.startswith("insight/")}
    assert tables == {f"insight/{n}.csv" for n in ("worst_images", "confusions", "object_size", "boundary_distance")}


def test_counts_per_image_add_up_to_the_matrix(tiny: TinyNet, samples: Samples, tmp_path: Path) -> None:
    result = run(tiny, samples, tmp_path)
    with np.load(tmp_path / "out/images.npz") as counts:
        assert counts["names"].tolist() == NAMES
        for mode, report in result.items():
            tp, fp, fn = (counts[f"{mode}_{kind}"] for kind in ("tp", "fp", "fn"))
            assert tp.shape == (5, 7) and tp.dtype == np.int64
            matrix = np.array(report["confusion"])
            assert tp.sum(0).tolist() == np.diagonal(matrix).tolist()
            assert (tp + fp).sum(0).tolist() == matrix.sum(0).tolist()
            assert (tp + fn).sum(0).tolist() == matrix.sum(1).tolist()
            labelled = [int((samples.label(i) != 255).sum()) for i in range(5)]
            assert (tp + fn).sum(1).tolist() == labelled


class Oracle(torch.nn.Module):
    """Answers with the label hidden in the image's red channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        classes = (images[:, 0] * 255).round().long()
        return 20.0 * torch.nn.functional.one_hot(classes, 7).movedim(-1, 1).float()


def test_perfect_net_scores_one_over_the_classes_present(samples: Samples, tmp_path: Path) -> None:
    for i in range(5):
        label = np.where(samples.label(i) == 255, 6, samples.label(i))  # class 6 only where nothing counts
        cv2.imwrite(str(samples.image_path(i)), np.stack([label] * 3, -1))
    modes = [Mode("whole"), *modes_for(["ssc"], crop=(32, 48))]
    result = evaluate(Oracle(), samples, modes, (0, 0, 0), (1, 1, 1), tmp_path / "out", tmp_path / "progress")
    for report in result.values():
        assert (report["miou"], report["classes_averaged"], report["pixel_accuracy"]) == (1.0, 6, 1.0)
        assert report["iou"]["class 6"] is None


class Killed(Exception):
    pass


class MortalNet(TinyNet):
    """Dies in its n-th forward pass."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def forward(self, images: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        if self.passes == self.last:
            raise Killed
        return super().forward(images, size)


@pytest.mark.parametrize("last", [0, 8, 18])
def test_killed_run_goes_on_and_ends_the_same(last: int, samples: Samples, tmp_path: Path) -> None:
    whole, rest = TinyNet(), TinyNet()
    run(whole, samples, tmp_path / "undisturbed")
    with pytest.raises(Killed):
        run(MortalNet(last), samples, tmp_path / "killed")
    assert not (tmp_path / "killed/out").exists()
    finished = len(contents(tmp_path / "killed/progress"))
    run(rest, samples, tmp_path / "killed")
    assert contents(tmp_path / "killed/out") == contents(tmp_path / "undisturbed/out")
    assert (rest.passes < whole.passes) == (finished > 0)
    again = TinyNet()
    run(again, samples, tmp_path / "killed")
    assert again.passes == 0


def test_kill_while_writing_leaves_no_prediction(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(self: Path, data: bytes) -> None:
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        run(TinyNet(), samples, tmp_path)
    assert contents(tmp_path / "progress") == {}


@pytest.mark.parametrize("world_size", [3, 8])
def test_each_image_counts_once_whatever_the_number_of_processes(
    world_size: int, samples: Samples, tmp_path: Path
) -> None:
    alone, ranks = TinyNet(), [TinyNet() for _ in range(world_size)]
    run(alone, samples, tmp_path / "alone")
    for rank in reversed(range(world_size)):
        result = run(ranks[rank], samples, tmp_path / "many", share=(rank, world_size))
        assert (result is None) == (rank > 0)
    assert sum(net.passes for net in ranks) == alone.passes
    assert contents(tmp_path / "many/out") == contents(tmp_path / "alone/out")


def test_waiting_for_a_dead_process_ends_with_a_clear_error(tiny: TinyNet, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(SegcoreError, match="city_1.5.png: missing .4 predictions in all.*another process has stopped"):
        run(tiny, samples, tmp_path, share=(0, 2), patience=0.3)
    assert not (tmp_path / "out").exists()


def test_prediction_of_another_size_is_refused(tiny: TinyNet, samples: Samples, tmp_path: Path) -> None:
    run(tiny, samples, tmp_path)
    cv2.imwrite(str(tmp_path / f"progress/ss/{NAMES[2]}.png"), np.zeros((32, 32), np.uint8))
    with pytest.raises(DataError, match="city_2.5.png: the prediction is 32×32 but the label 64×64"):
        run(tiny, samples, tmp_path)


def test_empty_list_and_labels_without_a_pixel_are_refused(tiny: TinyNet, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        run(tiny, Samples([], tmp_path, TABLE), tmp_path)
    for i in range(5):
        cv2.imwrite(str(samples.label_path(i)), np.full((8, 8), 7, np.uint8))
    with pytest.raises(DataError, match="ignored pixels only"):
        run(tiny, samples, tmp_path)


def test_shared_images_are_refused(samples: Samples) -> None:
    training = Samples(samples.pairs[3:], samples.root, TABLE)
    with pytest.raises(DataError, match="city_3.5.png: stands in both .* .2 such"):
        refuse_overlap(samples, training)
    refuse_overlap(Samples(samples.pairs[:3], samples.root, TABLE), training)


def test_majority_is_scored_at_each_labels_size(samples: Samples, tmp_path: Path) -> None:
    one = Samples(samples.pairs[2:3], samples.root, TABLE)
    small = np.uint8([[0, 1], [2, 3]])
    label = small.repeat(32, 0).repeat(32, 1)
    label[:16] = 5
    cv2.imwrite(str(one.label_path(0)), label)
    cv2.imwrite(str(tmp_path / "majority.png"), small)
    report = score_majority(tmp_path / "majority.png", one, tmp_path / "out")
    assert json.loads((tmp_path / "out/majority.json").read_text()) == report
    assert report["mode"] == "majority" and report["pixel_accuracy"] == 0.75
    assert list(report["iou"].values()) == [0.5, 0.5, 1.0, 1.0, None, 0.0, None]
