"""`segcore compare`: verdicts on evaluations whose truth is known, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segcore.__main__ import main
from segcore.commands.compare import _points
from segcore.errors import DataError
from segcore.evaluate.comparison import Evaluation, compare
from segcore.evaluate.confusion import confusion_matrix, hits, iou, miou
from segcore.files import write_json

CLASSES = ("road", "car", "pole")
IMAGES = 30


def write(folder: Path, wrong: float, seed: int = 0, modes: tuple[str, ...] = ("ss",), images: int = IMAGES) -> None:
    """An evaluation whose predictions are wrong at that share of the pixels, somewhat more in some images."""
    labels, rng = np.random.default_rng(9).integers(0, 3, (images, 20, 20)), np.random.default_rng(seed)
    harder = np.random.default_rng(8).uniform(0.5, 1.5, (images, 1, 1))  # the same images are hard for all
    arrays = {"names": np.array([f"val/{k}" for k in range(images)])}
    for mode in modes:
        flipped = rng.random(labels.shape) < wrong * harder
        predictions = np.where(flipped, (labels + 1) % 3, labels)
        matrices = [confusion_matrix(*pair, 3) for pair in zip(labels, predictions, strict=True)]
        for kind, part in zip(("tp", "fp", "fn"), np.stack([hits(m) for m in matrices], 1), strict=True):
            arrays[f"{mode}_{kind}"] = part
        total = sum(matrices)
        write_json(
            folder / f"{mode}.json", {"miou": miou(total)[0], "iou": dict(zip(CLASSES, iou(total), strict=True))}
        )
    np.savez(folder / "images.npz", **arrays)


def edit(folder: Path, **changes: np.ndarray) -> None:
    with np.load(folder / "images.npz") as arrays:
        content = dict(arrays)
    np.savez(folder / "images.npz", **content | changes)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    write(Path("a"), 0.20)
    write(Path("b"), 0.20, seed=1)
    return Path("a"), Path("b")


def verdict(a: Path, b: Path) -> dict[str, str | None]:
    return {row.name: row.verdict for row in compare(Evaluation.read(a), Evaluation.read(b), "ss")}


def test_a_difference_of_nothing_has_no_minus() -> None:
    assert [_points(value) for value in (-1e-6, 0.0, -0.0123)] == ["+0.00", "+0.00", "-1.23"]


def test_equally_good_ones_cannot_be_told_apart(pair: tuple[Path, Path]) -> None:
    assert verdict(*pair)["mIoU"] == "not distinguishable"
    assert set(verdict(pair[0], pair[0]).values()) == {"not distinguishable"}


def test_a_small_difference_that_every_image_shows_is_found(pair: tuple[Path, Path]) -> None:
    """Pairing finds what two separate intervals would not: images differ far more than the two sides."""
    write(Path("b"), 0.17, seed=1)
    assert set(verdict(*pair).values()) == {"distinguishable"}
    a, b = map(Evaluation.read, pair)
    row = compare(a, b, "ss")[0]
    expected = [json.loads((side / "ss.json").read_text())["miou"] for side in pair]
    assert (row.a, row.b) == pytest.approx(expected)
    assert row.difference == pytest.approx(expected[1] - expected[0])
    assert 0 < row.interval[0] < row.difference < row.interval[1]
    back = compare(b, a, "ss")[0]
    assert back.interval == pytest.approx((-row.interval[1], -row.interval[0]))


def test_false_alarms_are_as_rare_as_promised(tmp_path: Path) -> None:
    """Forty pairs without a true difference: two false alarms are to be expected, more than seven hardly ever."""
    alarms = 0
    for seed in range(40):
        for side, offset in (("a", 0), ("b", 1000)):
            write(tmp_path / side, 0.2, seed=seed + offset)
        alarms += verdict(tmp_path / "a", tmp_path / "b")["mIoU"] == "distinguishable"
    assert alarms <= 7


def test_a_class_that_one_side_lacks_has_no_difference(pair: tuple[Path, Path]) -> None:
    for folder in pair:  # in no label, and predicted by b alone
        edit(folder, ss_tp=np.tile([9, 9, 0], (IMAGES, 1)), ss_fn=np.tile([0, 1, 0], (IMAGES, 1)))
    edit(pair[0], ss_fp=np.tile([1, 0, 0], (IMAGES, 1)))
    edit(pair[1], ss_fp=np.tile([0, 0, 1], (IMAGES, 1)))
    rows = {row.name: row for row in compare(*map(Evaluation.read, pair), "ss")}
    assert (rows["pole"].a, rows["pole"].b, rows["pole"].difference, rows["pole"].verdict) == (None, 0, None, None)
    assert rows["mIoU"].a == pytest.approx((9 / 10 + 9 / 10) / 2) and rows["mIoU"].b == pytest.approx((1 + 0.9) / 3)


def test_what_is_printed(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b/images.npz"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "ss: not distinguishable on these 30 images." in text and "points of mIoU" in text
    assert all(name in text for name in CLASSES)
    assert main(["compare", "a/ss.json", "b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["level"], list(found["modes"])) == (30, 0.95, ["ss"])
    assert [row["name"] for row in found["modes"]["ss"]] == ["mIoU", *CLASSES]
    assert found["modes"]["ss"][0]["verdict"] == "not distinguishable"


def test_the_modes_of_both_unless_some_are_named(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write(pair[0], 0.2, modes=("mscf", "ss", "msf"))
    write(pair[1], 0.2, modes=("ss", "mscf"))
    assert main(["compare", "a", "b", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["modes"]) == ["mscf", "ss"]
    assert main(["compare", "a", "b", "--json", "--modes", "ss"]) == 0
    assert list(json.loads(capsys.readouterr().out)["modes"]) == ["ss"]
    assert main(["compare", "a", "b", "--modes", "msf"]) == 1
    assert "b: mode 'msf' was not scored there, only ss, mscf" in capsys.readouterr().err


def test_order_of_the_list_does_not_matter(pair: tuple[Path, Path]) -> None:
    before = compare(*map(Evaluation.read, pair), "ss")
    with np.load("b/images.npz") as arrays:
        turned = {key: array[::-1] for key, array in arrays.items()}
    edit(pair[1], **turned)
    assert compare(*map(Evaluation.read, pair), "ss") == before


def refused(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["compare", *map(str, pair)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    return printed.err


def test_other_images_are_refused_by_name(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    edit(pair[1], names=np.array(["val/x", "val/y", *(f"val/{k}" for k in range(2, IMAGES))]))
    assert "the image lists differ: 'val/0' (and 1 more) is in a but not in b" in refused(pair, capsys)
    write(pair[1], 0.2, images=31)
    assert "'val/30' is in b but not in a" in refused(pair, capsys)


def test_other_labels_are_refused_by_name(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    counts = Evaluation.read(pair[1]).counts["ss"]
    fn = counts.fn.copy()
    fn[7, 1] += 3
    edit(pair[1], ss_fn=fn)
    pixels = int((counts.tp + counts.fn)[7, 1])
    assert f"val/7 has {pixels} pixels of 'car' in a and {pixels + 3} in b" in refused(pair, capsys)


def test_other_classes_are_refused_by_name(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_json(Path("b/ss.json"), {"iou": {"road": 1, "bus": 1, "pole": 1}})
    assert "the class lists differ: 'car' is in a but not in b" in refused(pair, capsys)
    write_json(Path("b/ss.json"), {"iou": {"car": 1, "road": 1, "pole": 1}})
    assert "same class names in another order" in refused(pair, capsys)


def test_no_common_mode_one_image_no_evaluation(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("c"), 0.2, modes=("mscf",))
    assert "no mode was scored in both: a has ss; c has mscf" in refused((pair[0], Path("c")), capsys)
    for folder in ("a", "b"):
        write(Path(folder), 0.2, images=1)
    assert "one image cannot be resampled" in refused(pair, capsys)
    assert "a/images.np: no such folder or file" in refused((pair[0], Path("a/images.np")), capsys)
    Path("b/images.npz").write_bytes(b"PK\x03\x04 but broken")
    assert "b: the evaluation is damaged" in refused(pair, capsys)


def test_a_missing_score_file_is_named(pair: tuple[Path, Path]) -> None:
    Path("b/ss.json").unlink()
    with pytest.raises(DataError, match="b: no evaluation there .b/ss.json: No such file"):
        Evaluation.read(pair[1])
