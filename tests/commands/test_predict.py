"""`segcore predict` on little pictures, videos and a camera that is none: what it writes, and everything it refuses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from segcore import load_model
from segcore.__main__ import main
from segcore.checkpoint import ModelFile, save_model_file
from segcore.commands import predict as command
from segcore.data.labels import TABLES, LabelTable
from segcore.footage import upright
from segcore.models import build_model
from segcore.results import Recorder
from segcore.visualize import colorize, overlay

TABLE = TABLES["camvid"]
SIZE = (32, 64)
RATE = 10.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    state = build_model("bisenetv2", 11).state_dict()
    save_model_file(path, ModelFile("bisenetv2", 11, state, {"mean": [0.4] * 3, "std": [0.2] * 3}, TABLE))
    return path


@pytest.fixture(scope="module")
def predictor(weights: Path):
    return load_model(weights)


@pytest.fixture
def predict(weights: Path, predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command in an empty folder, with a model that is read only once; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "open_predictor", lambda *_: predictor)
    return lambda *words: main(["predict", "--weights", str(weights), "--out", "out", *map(str, words)])


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What camera 0 will show; files are opened as ever."""
    shown: list[np.ndarray] = []
    real = cv2.VideoCapture

    class Camera:
        def __init__(self, number: int) -> None:
            self.left = list(shown) if number == 0 else []

        def isOpened(self) -> bool:
            return bool(self.left)

        def get(self, _: int) -> float:
            return -1.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            time.sleep(0.01)
            return (True, self.left.pop(0)) if self.left else (False, None)

        def release(self) -> None:
            self.left = []

    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Camera(source) if isinstance(source, int) else real(source))
    return shown


class Pressed:
    """A predictor during whose n-th picture somebody presses Ctrl-C."""

    labels = TABLE

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        if self.calls >= self.at:
            time.sleep(0.05)  # a busy machine hears of the key later
        return np.zeros(image.shape[:2], np.uint8)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (4, 8, 3), np.uint8), size[::-1])


def put(name: str, pixels: np.ndarray | None = None) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(name, picture() if pixels is None else pixels)
    return name


def put_video(name: str, count: int = 5, size: tuple[int, int] = SIZE) -> str:
    writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), RATE, size[::-1])
    for seed in range(count):
        writer.write(picture(seed, size))
    writer.release()
    return name


def read_video(name: str) -> tuple[list[np.ndarray], float]:
    """Its frames as RGB, and its rate."""
    capture = cv2.VideoCapture(name)
    frames = []
    while (found := capture.read())[0]:
        frames.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
    return frames, capture.get(cv2.CAP_PROP_FPS)


def read(name: str) -> np.ndarray:
    return np.asarray(Image.open(name))


def names(folder: str = "out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestPictures:
    def test_id_map_coloured_map_and_what_they_mean(self, predict, predictor) -> None:
        assert predict(put("a.png")) == 0
        assert names() == ["colors/a.png", "ids/a.png", "labels.csv"]
        ids = read("out/ids/a.png")
        assert ids.dtype == np.uint8 and np.array_equal(ids, predictor.predict(read("a.png")))
        assert np.array_equal(read("out/colors/a.png"), colorize(ids, TABLE.palette))
        assert LabelTable.read_csv(Path("out/labels.csv")).names == TABLE.names

    def test_an_overlay_of_the_chosen_opacity_above_the_legend(self, predict) -> None:
        put("a.png")
        for opacity in (0.0, 0.3, 1.0):
            assert predict("a.png", "--visualize", "--opacity", opacity) == 0
            drawn = read("out/overlays/a.jpg").astype(int)
            wanted = overlay(read("a.png"), read("out/ids/a.png"), TABLE.palette, opacity)
            assert drawn.shape[0] > SIZE[0] and drawn[-1].min() > 240
            assert abs(drawn[: SIZE[0]] - wanted).mean() < 12  # which the JPEG costs

    def test_a_folder_with_the_folders_below_it(self, predict) -> None:
        for name in ("in/a/1.png", "in/b/1.jpg", "in/.hidden/3.png", "in/notes.txt"):
            put(name) if name[-3:] != "txt" else Path(name).write_text("no picture")
        assert predict("in") == 0
        assert names("out/ids") == ["a/1.png", "b/1.png"]

    def test_equal_names_do_not_overwrite_each_other(self, predict) -> None:
        inputs = [put(name) for name in ("a/x/1.png", "b/x/1.png")]
        assert predict(*inputs, inputs[0]) == 0
        assert names("out/ids") == ["a/x/1.png", "b/x/1.png"]
        assert predict(put("c/1.png"), put("c/1.jpg"), "--out", "other") == 0
        assert names("other/ids") == ["1.jpg.png", "1.png.png"]

    def test_results_below_the_folder_that_is_read_are_not_read_again(self, predict) -> None:
        put("a.png")
        assert predict(".") == predict(".") == 0
        assert names("out/ids") == ["a.png"]

    @pytest.mark.parametrize("kind", ["grey", "alpha", "16 bits", "palette"])
    def test_every_kind_of_picture_is_seen_as_in_training(self, predict, predictor, kind: str) -> None:
        grey = picture()[..., 0]
        made = {
            "grey": Image.fromarray(grey),
            "alpha": Image.fromarray(np.dstack([grey, grey, grey, grey.T.reshape(SIZE)]), "RGBA"),
            "16 bits": Image.fromarray(grey.astype(np.uint16) * 256 + 77),
            "palette": Image.merge("RGB", [Image.fromarray(grey)] * 3).convert("P"),
        }
        made[kind].save("a.png")
        assert predict("a.png") == 0
        seen = np.repeat(grey[..., None], 3, 2) if kind != "palette" else np.asarray(made[kind].convert("RGB"))
        assert np.array_equal(read("out/ids/a.png"), predictor.predict(seen))

    @pytest.mark.parametrize("orientation", range(10))
    def test_a_photograph_is_turned_upright(self, orientation: int) -> None:
        image = Image.fromarray(picture())
        image.getexif()[274] = orientation
        wanted = np.asarray(ImageOps.exif_transpose(image)) if 1 <= orientation <= 8 else picture()
        assert np.array_equal(upright(picture(), orientation), wanted)

    def test_maps_lie_as_the_photograph_is_seen(self, predict) -> None:
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(picture()).save("a.jpg", exif=exif)
        assert predict("a.jpg") == 0
        assert read("out/ids/a.png").shape == SIZE[::-1]

    def test_a_damaged_picture_is_named_and_the_others_go_on(self, predict, capsys) -> None:
        put("in/a.png"), put("in/c.png"), Path("in/b.png").write_bytes(Path("in/a.png").read_bytes()[:-30])
        assert predict("in", "--json") == 1
        printed = capsys.readouterr()
        assert names("out/ids") == ["a.png", "c.png"]
        assert "predict: " in printed.err and "in/b.png: cannot be decoded" in printed.err
        assert printed.err.strip().splitlines()[-1].startswith("segcore predict: 1 of 3 could not be read")
        found = json.loads(printed.out)
        assert found["frames"] == 2 and found["fps"] > 0 and "in/b.png" in found["failed"][0]

    def test_ctrl_c_ends_what_was_begun(self, predict, monkeypatch, capsys) -> None:
        monkeypatch.setattr(command, "open_predictor", lambda *_: Pressed(at=3))
        for k in range(40):
            put(f"in/{k:02}.png")
        assert predict("in") == 130
        done = names("out/ids")
        assert 3 <= len(done) < 20 and done == [f"{k:02}.png" for k in range(len(done))] == names("out/colors")
        assert f"stopped after {len(done)} frames" in last_line(capsys)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_picture_beyond_the_memory_is_named(self, predict, monkeypatch, capsys) -> None:
        class Full:
            labels = TABLE

            def predict(self, image: np.ndarray) -> np.ndarray:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

        monkeypatch.setattr(command, "open_predictor", lambda *_: Full())
        assert predict(put("a.png")) == 1
        assert "a: 32×64 does not fit into memory" in last_line(capsys)


class TestVideos:
    def test_a_video_becomes_a_video_that_plays(self, predict, predictor) -> None:
        put_video("v.mp4")
        assert predict("v.mp4", "--ids") == 0
        frames, rate = read_video("out/overlays/v.mp4")
        assert len(frames) == 5 and rate == RATE and frames[0].shape[0] > SIZE[0]
        assert names("out/ids") == [f"v/{k:06}.png" for k in range(5)]
        own, _ = read_video("v.mp4")
        for k, frame in enumerate(own):
            ids = read(f"out/ids/v/{k:06}.png")
            assert np.array_equal(ids, predictor.predict(frame))
            wanted = overlay(frame, ids, TABLE.palette)
            assert abs(frames[k][: SIZE[0]].astype(int) - wanted).mean() < 25  # which compression costs

    def test_odd_sides_and_fewer_frames(self, predict, capsys) -> None:
        writer = cv2.VideoWriter("v.avi", cv2.VideoWriter.fourcc(*"MJPG"), RATE, (51, 33))
        for seed in range(4):
            writer.write(picture(seed, (33, 51)))
        writer.release()
        assert predict("v.avi", "--frames", 2, "--json") == 0
        frames, _ = read_video("out/overlays/v.mp4")
        assert len(frames) == 2 and all(side % 2 == 0 for side in frames[0].shape[:2])
        assert json.loads(capsys.readouterr().out)["frames"] == 2 and not Path("out/ids").exists()

    def test_what_is_no_video_is_named_and_the_others_go_on(self, predict, capsys) -> None:
        Path("bad.mp4").write_bytes(Path(put_video("good.mp4")).read_bytes()[:700])
        assert predict("bad.mp4", "good.mp4", put("a.png")) == 1
        printed = capsys.readouterr().err
        assert "bad.mp4: neither a picture nor a video" in printed and "1 of 3 could not be read" in printed
        assert names("out/overlays") == ["good.mp4"] and names("out/ids") == ["a.png"]

    def test_ctrl_c_leaves_no_half_video(self, predict, predictor, monkeypatch) -> None:
        def press(image: np.ndarray) -> np.ndarray:
            os.kill(os.getpid(), signal.SIGTERM)
            return np.zeros(image.shape[:2], np.uint8)

        monkeypatch.setattr(command, "open_predictor", lambda *_: type("P", (), {"labels": TABLE, "predict": press}))
        assert predict(put_video("v.mp4", 30)) == 143
        assert names() == ["labels.csv"]

    def test_a_full_disk_leaves_no_half_video(self, predict, capsys) -> None:
        put_video("v.mp4", 30)
        with largest_file(3000):
            assert predict("v.mp4") == 1
        assert "out/overlays/v.mp4: cannot be written" in last_line(capsys)
        assert names() == ["labels.csv"]


@pytest.mark.parametrize("rate", [0.01, 1.0, 24000 / 1001, 30000 / 1001, 64.9996, 87.32173, 999.0])
def test_every_rate_can_be_written(tmp_path: Path, rate: float) -> None:
    recorder = Recorder(tmp_path / "v.mp4", rate)
    for k in range(3):
        recorder.add(picture(), k)
    recorder.close()
    frames, written = read_video(str(tmp_path / "v.mp4"))
    assert recorder.whole() and len(frames) == 3
    assert written == pytest.approx(min(max(rate, 0.1), 240), rel=1e-3)


class TestCameras:
    def test_n_frames(self, predict, camera) -> None:
        camera += [picture(seed) for seed in range(30)]
        assert predict("0", "--frames", 12, "--ids") == 0
        frames, rate = read_video("out/overlays/camera0.mp4")
        assert len(frames) == 12 and 1 <= rate < 110  # as they came, not what a camera says
        assert len(names("out/ids/camera0")) == 12

    def test_ctrl_c_is_its_usual_end(self, predict, camera, monkeypatch) -> None:
        pressed = Pressed(at=4)
        monkeypatch.setattr(command, "open_predictor", lambda *_: pressed)
        camera += [picture(seed) for seed in range(300)]
        assert predict("0") == 0
        frames, _ = read_video("out/overlays/camera0.mp4")
        assert 4 <= len(frames) == pressed.calls < 30

    def test_no_camera(self, predict, camera, capsys) -> None:
        assert predict("1") == 1
        assert last_line(capsys).startswith("segcore predict: camera 1: there is none")
        assert names() == ["labels.csv"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nothing.png"], "nothing.png: no such file or folder"),
            (["empty"], "empty: no picture and no video in it"),
            (["out/ids/a.png"], "lies in .*out, where the results go"),
            (["text.png"], "text.png: cannot be decoded"),
            (["text.txt"], "text.txt: neither a picture nor a video"),
            (["a.png", "--out", "text.txt"], "text.txt/labels.csv: cannot be written"),
        ],
    )
    def test_one_line_each(self, predict, capsys, words: list[str], message: str) -> None:
        put("a.png"), put("out/ids/a.png"), Path("empty").mkdir()
        Path("text.txt").write_text("words"), Path("text.png").write_text("words")
        assert predict(*words) == 1
        printed = capsys.readouterr()
        assert re.search(message, printed.err)
        assert printed.out == "" and len(printed.err.splitlines()) == 1

    def test_weights_that_are_none(self, tmp_path, monkeypatch, capsys) -> None:
        monkeypatch.chdir(tmp_path)
        Path("text.pt").write_text("words")
        for name, message in (("text.pt", "text.pt: damaged"), ("none.pt", "none.pt: no such file")):
            assert main(["predict", put("a.png"), "--weights", name]) == 1
            assert message in last_line(capsys)
        assert not Path("predictions").exists()

    def test_a_full_disk(self, predict, capsys) -> None:
        put("a.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
        with largest_file(1000):
            assert predict("a.png", "--visualize") == 1
        assert "cannot be written (File too large)" in last_line(capsys)
        assert not [name for name in names() if "tmp" in name] and "overlays/a.jpg" not in names()

    def test_wrong_usage(self, predict, capsys) -> None:
        for words in (["a.png", "--opacity", "1.5"], ["0", "--frames", "0"], []):
            with pytest.raises(SystemExit, match="2"):
                predict(*words)
        assert "number of 0 … 1" in capsys.readouterr().err


def test_the_network_is_used_in_its_fast_form_and_finds_the_same(weights: Path, predictor) -> None:
    fast = command.open_predictor(weights, "cpu")
    image = picture(size=(64, 128))
    assert (fast.predict(image) == predictor.predict(image)).mean() > 0.99
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in each.net.modules()) for each in (fast, predictor)]
    assert norms[0] < norms[1] / 2
