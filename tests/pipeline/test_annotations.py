"""The stage `annotations`: lists with an inspection beside them, or one line; and the data sets' own statistics."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import annotations, fetch
from pipeline.resolve import resolve
from pipeline.settings import params, read_yaml, validate, write_yaml
from segcore.data.datasets import Samples
from segcore.data.inspect import inspect
from segcore.data.inspect.places import find_lists
from segcore.data.labels import TABLES
from segcore.data.sources import DataRecipe
from segcore.data.sources import fetch as fetch_files
from segcore.data.statistics import Statistics
from segcore.data.store import find_dataset

DATASETS = Path(annotations.__file__).parent / "datasets"


def run(main) -> int:
    """A stage's exit code."""
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


@pytest.fixture
def project(camvid_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a resolved recipe, and little pictures in the data store. Returns them."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("SEGCORE_DATA", str(camvid_folder.parent))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Path("params.yaml").write_text("model: bisenetv2\ndataset: camvid\nruntime: {workers: 2}\n")
    write_yaml(Path("recipe.yaml"), "", resolve(params()))
    return camvid_folder


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("work/annotations").iterdir())}


def test_the_findings_stand_beside_the_lists_in_equal_bytes(project, capsys):
    assert run(fetch.main) == 0 and run(annotations.main) == 0
    first = contents()
    beside = {"inspection.json", "labels.csv", "majority.png", "root", "statistics.json"}
    assert set(first) == {"train.csv", "trainval.csv", "val.csv", *beside}
    found = json.loads(first["inspection.json"])
    assert found["errors"] == 0 and found["expected"]["mean"] == read_yaml(DATASETS / "camvid.yaml")["dataset"]["mean"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("doubt: ")]
    assert len(said) == found["doubts"] > 0 and "no pixel of building" in said[0]
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("workers: 2", "workers: 0"))
    assert run(annotations.main) == 0 and contents() == first


def test_an_error_stops_the_chain_with_one_line_and_no_lists(project, capsys):
    for name in ("val_000.png", "val_002.png"):
        path = project / "valannot" / name
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(ids == 11, 12, ids).astype(np.uint8))
    assert run(fetch.main) == 0 and run(annotations.main) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "valannot/val_000.png and 1 more: label value 12 is not in the table 'camvid'" in line
    assert not Path("work/annotations").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in DATASETS.glob("*.yaml")))
def test_a_data_set_passes_the_check_of_its_own_statistics(name, tmp_path):
    description = read_yaml(DATASETS / f"{name}.yaml")
    dataset, folder = description["dataset"], find_dataset(name, (), DATASETS.parents[1] / "data")
    generate = description["data"].get("generate")
    if generate:
        recipe = {**description["data"], "generate": {**generate, "train": 24, "val": 4}}
        folder = tmp_path / name
        fetch_files(validate(DataRecipe, recipe, "data"), folder, tmp_path / "memory.csv")
    elif not folder.is_dir():
        pytest.skip(f"{name} is not on this machine")
    expected = Statistics(tuple(dataset["mean"]), tuple(dataset["std"]))
    lists = find_lists([str(folder)], TABLES[dataset["labels"]])
    some = {split: Samples(a.pairs[:: 1 + len(a) // 100], a.root, a.labels) for split, a in lists.items()}
    report = inspect(some, expected)
    assert report.errors == []
    assert not [finding for finding in report.findings if "normalised" in finding.what]
