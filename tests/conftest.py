"""What several tests share: tiny data sets on disk, and goldens."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the stages do

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings

from segcore.data.datasets import Samples, write_list
from segcore.data.labels import TABLES

# A shell that runs the tests in the background has Ctrl-C ignored, here and in every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A busy machine is no failure.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def refweights():
    """The module that regenerates reference weights by name."""
    spec = importlib.util.spec_from_file_location("refweights", GOLDEN / "refweights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden():
    """golden(name) -> (description, arrays)."""

    def read(name: str):
        arrays = GOLDEN / f"{name}.npz"
        description = json.loads((GOLDEN / f"{name}.json").read_text())
        return description, dict(np.load(arrays)) if arrays.exists() else {}

    return read


@pytest.fixture
def camvid_folder(tmp_path: Path) -> Path:
    """A data set of 6 + 3 little pictures in CamVid's layout."""
    return make_camvid(tmp_path / "store" / "camvid")


def make_camvid(folder: Path, train: int = 6, val: int = 3, size: tuple[int, int] = (48, 64)) -> Path:
    """Writes pictures whose left half is sky and whose right half is road, with noise and an ignored border."""
    for split, count in (("train", train), ("val", val)):
        for top in (split, f"{split}annot"):
            (folder / top).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([index, split == "val"])
            label = np.zeros(size, np.uint8)
            label[:, size[1] // 2 :] = 3
            label[:2] = 11
            image = np.where(label[..., None] == 3, 60, 200) + rng.integers(-40, 40, (*size, 3))
            cv2.imwrite(str(folder / split / f"{split}_{index:03}.png"), image.astype(np.uint8))
            cv2.imwrite(str(folder / f"{split}annot" / f"{split}_{index:03}.png"), label)
    return folder


@pytest.fixture
def samples(camvid_folder: Path, tmp_path: Path) -> Samples:
    """The training images of `camvid_folder` as a list with everything beside it."""
    lists = tmp_path / "lists"
    pairs = [(f"train/{p.name}", f"trainannot/{p.name}") for p in sorted((camvid_folder / "train").iterdir())]
    write_list(lists / "train.csv", pairs)
    TABLES["camvid"].write_csv(lists / "labels.csv")
    return Samples.read(lists / "train.csv", camvid_folder)
