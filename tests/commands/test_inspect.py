"""`segcore inspect`: what it is given, what it prints and writes, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from segcore.__main__ import main
from segcore.data.datasets import Samples, read_list, write_list
from segcore.data.labels import TABLES
from segcore.data.odgt import measure, write_odgt
from segcore.data.transforms import augment
from segcore.visualize import overlay
from tests.data.trees import picture

TWO = "id,train_id,name,r,g,b\n0,0,sky,70,130,180\n3,1,road,128,64,128\n11,255,void,0,0,0\n"


@pytest.fixture
def store(camvid_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine little pairs of sky and road in CamVid's folders, in the data store; and the working folder is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SEGCORE_DATA", str(camvid_folder.parent))
    monkeypatch.setenv("COLUMNS", "200")
    for k, path in enumerate(sorted(camvid_folder.glob("*annot/*"))):  # no two labels shall be equal
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        ids[10:20, 3 * k : 3 * k + 3] = 3
        cv2.imwrite(str(path), ids)
    return camvid_folder.parent


@pytest.fixture
def lists(store: Path) -> Path:
    """The same by lists, with a table of the two classes."""
    for split in ("train", "val"):
        names = [path.name for path in sorted((store / "camvid" / split).iterdir())]
        write_list(Path(f"lists/{split}.csv"), [(f"{split}/{name}", f"{split}annot/{name}") for name in names])
    Path("lists/labels.csv").write_text(TWO)
    Path("lists/root").write_text("camvid\n")
    return Path("lists")


def refusal(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def damage(store: Path) -> None:
    label = store / "camvid/valannot/val_001.png"
    ids = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    ids[:5] = 99
    cv2.imwrite(str(label), ids)


class TestWhatIsGiven:
    @pytest.mark.parametrize("place", ["camvid", "folder"])
    def test_a_name_in_the_store_or_a_folder(self, store, place, capsys):
        assert main(["inspect", "camvid" if place == "camvid" else str(store / "camvid")]) == 0
        out = capsys.readouterr().out
        assert "\ntrain      6  48×64 " in f"\n{out}" and "bicyclist" in out and "no pixel of building, pole" in out

    @pytest.mark.parametrize("words", [["lists"], ["lists/train.csv", "lists/val.csv"]])
    def test_lists(self, lists, words, capsys):
        assert main(["inspect", *words]) == 0
        out = capsys.readouterr().out
        assert "Nothing to find fault with." in out and "val: pixels %" in out

    @pytest.mark.parametrize(
        ("image", "label", "splits", "ids", "first"),
        [
            (
                "leftImg8bit/{}/ulm/ulm_{}_000019_leftImg8bit.png",
                "gtFine/{}/ulm/ulm_{}_000019_gtFine_labelIds.png",
                ("train", "val"),
                (0, 7, 23),
                " 0  road ",
            ),
            ("images/{}/ADE_{}.jpg", "annotations/{}/ADE_{}.png", ("training", "validation"), (0, 1, 150), "0  wall "),
            ("images/{}/{}.jpg", "labels/{}/{}.png", ("train2017", "val2017"), (0, 181, 255), "0  person "),
        ],
    )
    def test_a_known_layout_brings_its_table(self, store, image, label, splits, ids, first, capsys):
        for split in splits:
            for k in range(2):
                picture(store / "mine" / image.format(split, k))
                picture(store / "mine" / label.format(split, k), *ids[k:], *ids)
        assert main(["inspect", "mine"]) == 0
        out = capsys.readouterr().out
        assert first in out and "24×32" in out and "no pixel of" in out and "error" not in out

    def test_lists_of_scene_parsing(self, lists, store, capsys):
        for split, name in (("train", "training"), ("val", "validation")):
            write_odgt(Path(f"lists/{name}.odgt"), measure(read_list(Path(f"lists/{split}.csv")), store / "camvid"))
        assert main(["inspect", "lists/training.odgt", "lists/validation.odgt"]) == 0
        out = capsys.readouterr().out
        assert "\ntraining        6  48×64" in out and "validation: pixels %" in out
        assert main(["inspect", "lists/none.odgt"]) == 1 and "no such list or folder" in refusal(capsys)

    def test_a_table_and_a_root_of_ones_own(self, lists, store, tmp_path):
        (lists / "labels.csv").rename(tmp_path / "two.csv")
        (lists / "root").unlink()
        words = ["inspect", "lists/val.csv", "--labels", str(tmp_path / "two.csv"), "--root", str(store / "camvid")]
        assert main(words) == 0

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["camvit"], "no such list or folder, and no data set in .*; did you mean 'camvid'"),
            (["lists/tran.csv"], "lists/tran.csv: no such list or folder"),
            (["lists/train.csv", "lists/none.csv"], "lists/none.csv: cannot be read"),
            (["lists/train.csv", "lists/train.csv"], "a second list named 'train'"),
            (["here"], "holds no data set; it should have train.csv"),
            (["camvid", "--labels", "citiscapes"], "no such label table; did you mean 'cityscapes'"),
            (["lists", "--mean", "0.4", "0.4", "0.4"], "--mean and --std belong together"),
            (["lists", "--mean", "1", "1", "1", "--std", "1", "0", "1"], "must be above 0"),
        ],
    )
    def test_what_is_not_there(self, lists, words, line, capsys):
        Path("here").mkdir()
        assert main(["inspect", *words]) == 1
        message = refusal(capsys)
        assert re.search(line, message), message
        assert not Path("inspection").exists()

    def test_an_empty_store_and_archives_that_nobody_has_unpacked(self, store, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("SEGCORE_DATA", str(tmp_path / "new"))
        assert main(["inspect", "minicity"]) == 1
        assert "no data set in" in (message := refusal(capsys)) and "the stage `fetch` brings what is drawn" in message
        (tmp_path / "new/ade20k").mkdir(parents=True)
        (tmp_path / "new/ade20k/ADEChallengeData2016.zip").write_bytes(b"PK")
        assert main(["inspect", "ade20k"]) == 1
        assert "ade20k: not unpacked yet: ADEChallengeData2016.zip; the stage `fetch`" in refusal(capsys)

    def test_two_tables(self, lists, capsys):
        Path("other").mkdir()
        (lists / "val.csv").rename("other/val.csv")
        Path("other/root").write_text("camvid")
        TABLES["camvid"].write_csv(Path("other/labels.csv"))
        assert main(["inspect", "lists/train.csv", "other/val.csv"]) == 1
        assert "other/val.csv: another label table lies beside it than beside lists/train.csv" in refusal(capsys)

    def test_a_folder_without_a_table(self, store, capsys):
        (store / "camvid").rename(store / "mine")
        assert main(["inspect", "mine"]) == 1
        assert "which classes? Give --labels" in refusal(capsys)
        assert main(["inspect", "mine", "--labels", "camvid"]) == 0


class TestWhatComesOut:
    def test_nothing_is_cut_off_on_a_narrow_terminal(self, store, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", "80")
        name = f"{'a' * 100}.png"
        for folder, other in (("train", "val"), ("trainannot", "valannot")):  # twice as wide as the terminal
            shutil.copy(store / f"camvid/{other}/val_000.png", store / f"camvid/{folder}/{name}")
        assert main(["inspect", "camvid"]) == 0
        out = capsys.readouterr().out
        assert "…" not in out and max(map(len, out.splitlines())) <= 80
        assert name in out.replace("\n", "").replace(" ", "")

    def test_of_many_classes_those_that_occur(self, lists, capsys):
        rows = [f"{k},{k},class{k},0,0,{k}\n" for k in range(60)]
        Path("lists/labels.csv").write_text("id,train_id,name,r,g,b\n" + "".join(rows) + "255,255,[b],0,0,0\n")
        assert main(["inspect", "lists"]) == 0
        out = capsys.readouterr().out
        assert " class3 " in out and " class59 " not in out and "… 57 absent …" in out

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.ENOSPC, "make room and run again"),
            (errno.EROFS, "see that it may be read and written, and run again"),
        ],
    )
    def test_a_disk_that_refuses_is_one_line_and_leaves_nothing_half(self, number, words, lists, monkeypatch, capsys):
        def refuse(*_):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr("segcore.files.os.fsync", refuse)
            assert main(["inspect", "lists"]) == 1
        message = refusal(capsys)
        assert message.startswith(f"segcore inspect: inspection: {os.strerror(number)}; ") and message.endswith(words)
        assert not list(Path("inspection").iterdir())

    def test_a_place_for_results_that_is_none_is_said_before_the_look(self, lists, monkeypatch, capsys):
        Path("inspection").write_text("a file")
        assert main(["inspect", "lists"]) == 1
        assert refusal(capsys) == ("segcore inspect: inspection: File exists; see that nothing else lies there")
        monkeypatch.setattr("segcore.commands.inspect.os.access", lambda *_: False)  # a root user may write anywhere
        assert main(["inspect", "lists", "--out", "other"]) == 1
        error = capsys.readouterr().err
        assert "segcore inspect: other: Permission denied; see" in error and "check train" not in error

    def test_errors_end_with_one_and_doubts_with_zero(self, lists, store, capsys):
        damage(store)
        assert main(["inspect", "lists"]) == 1
        captured = capsys.readouterr()
        assert "valannot/val_001.png: label value 99 is not in the table" in captured.out
        assert "→ these" in captured.out or "→ mend" in captured.out
        assert captured.err.strip().splitlines()[-1] == "segcore inspect: 1 error in the data; mend it first"

    def test_json_alone_is_on_stdout_and_equal_to_the_file(self, lists, store, capsys):
        damage(store)
        assert main(["inspect", "lists", "--json", "--out", "o"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found == json.loads(Path("o/inspection.json").read_text())
        assert (found["errors"], found["findings"][0]["files"]) == (1, ["valannot/val_001.png"])
        assert found["splits"]["train"]["classes"]["road"]["images"] == 6

    def test_the_sheet_shows_photograph_overlay_and_label(self, lists, store):
        assert main(["inspect", "lists"]) == 0
        sheet = cv2.imread("inspection/samples.png")[..., ::-1]
        width = 480
        assert sheet.shape[1] == 8 + 3 * (width + 8)
        image = cv2.imread(str(store / "camvid/train/train_000.png"))[..., ::-1]
        label = np.zeros((48, 64), np.uint8)
        label[10:20, :3], label[:, 32:], label[:2] = 1, 1, 255
        palette = np.array([(70, 130, 180), (128, 64, 128)], np.uint8)
        row = sheet[48 : 48 + 360]
        size = {"dsize": (width, 360), "interpolation": cv2.INTER_NEAREST}
        for k, shown in enumerate((image, overlay(image, label, palette))):
            assert np.array_equal(row[:, 8 + k * (width + 8) :][:, :width], cv2.resize(shown, **size))

    def test_what_the_table_does_not_know_is_checkered(self, lists, store):
        damage(store)
        main(["inspect", "lists"])
        first_label = cv2.imread("inspection/samples.png")[48:80, 8 + 2 * 488 :][:, :480]
        assert {tuple(color) for color in first_label.reshape(-1, 3).tolist()} == {(0, 0, 0), (255, 255, 255)}

    def test_the_sheet_survives_photographs_that_nobody_has_decoded(self, lists, store, monkeypatch):
        monkeypatch.setattr("segcore.data.inspect.survey.DECODED", 1)
        for path in sorted((store / "camvid/train").iterdir())[:-1]:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0x55
            path.write_bytes(content)
        assert main(["inspect", "lists", "--augment"]) == 1
        assert Path("inspection/samples.png").exists() and Path("inspection/augmented.png").exists()

    def test_augmented_samples_have_the_size_asked_for_and_depend_on_the_seed(self, lists):
        sheets = []
        for seed, crop in (("1", "32x32"), ("1", "32x32"), ("2", "32x32"), ("1", "16x48")):
            words = ["--augment", "--crop", crop, "--scales", "1", "1.5", "--jitter", "0.2", "--seed", seed]
            assert main(["inspect", "lists", *words]) == 0
            sheets.append(cv2.imread("inspection/augmented.png"))
        assert np.array_equal(sheets[0], sheets[1]) and not np.array_equal(sheets[0], sheets[2])
        assert sheets[3].shape[0] < sheets[0].shape[0]

    def test_augmented_samples_are_those_of_the_transform_asked_for(self, lists, store):
        words = ["--crop", "32x32", "--scales", "0.75", "0.75", "--transform", "stdc", "--scale-steps", "1"]
        assert main(["inspect", "lists", "--augment", *words]) == 0
        sheet, width = cv2.imread("inspection/augmented.png")[..., ::-1], 288
        pair = Samples.read(Path("lists/train.csv")).pair(0)
        image, _ = augment(*pair, (32, 32), (0.75, 0.75), 0.4, np.random.default_rng([1, 0, 0]), "stdc", 1)
        shown = sheet[48:, 8 + width + 8 :][:width, :width]
        assert np.array_equal(shown, cv2.resize(image, (width, width), interpolation=cv2.INTER_NEAREST))

    @pytest.mark.parametrize(
        "words", [["--crop", "32"], ["--crop", "0x9"], ["--scales", "0", "1"], ["--scale-steps", "0"], []]
    )
    def test_wrong_usage_ends_with_two(self, store, words):
        with pytest.raises(SystemExit) as caught:
            main(["inspect", *(["camvid", *words] if words else [])])
        assert caught.value.code == 2
