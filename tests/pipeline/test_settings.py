"""Typed settings: what is refused, and with which words."""

import errno
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Gt
from hypothesis import given
from hypothesis import strategies as st

import pipeline.resolve as module
from pipeline.resolve import merge, resolve
from pipeline.settings import Override, Params, params, read_yaml, stage, validate, write_yaml
from segcore.errors import RecipeError


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Gt(0)] = 1.0
    pair: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)


def test_a_list_fills_a_tuple_and_a_whole_number_a_float():
    assert validate(Outer, {"name": "a", "inner": {"rate": 3, "pair": [4, 5]}}, "x") == Outer("a", Inner(3.0, (4, 5)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "a", "iner": {}}, r"x\.iner: unknown key; did you mean 'inner'\?"),
        ({"name": "a", "inner": {"rat": 1}}, r"x\.inner\.rat: unknown key; did you mean 'rate'\?"),
        ({"name": "a", "inner": {"rate": -1}}, r"x\.inner\.rate: should be greater than 0, got -1"),
        ({"name": "a", "inner": {"rate": "1e-4"}}, r"x\.inner\.rate: .*number.*'1e-4'"),
        ({"name": "a", "inner": {"pair": [1]}}, r"x\.inner\.pair\.1"),
        ({"name": "a", "inner": 3}, r"x\.inner"),
        ({}, r"x\.name"),
    ],
)
def test_what_is_refused_is_named_with_its_path(value, message):
    with pytest.raises(RecipeError, match=message) as caught:
        validate(Outer, value, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("5e-05", 5e-5), ("5e-4", 5e-4), ("1:30", "1:30"), ("on", "on"), ("0.1", 0.1), ("", None)]
)
def test_yaml_is_read_by_dvcs_rules(text, expected, tmp_path):
    (tmp_path / "a.yaml").write_text(f"a: {text}\n")
    assert read_yaml(tmp_path / "a.yaml")["a"] == expected


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "- 1\n", ""])
def test_broken_yaml_is_one_line(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RecipeError, match="a.yaml") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


# The library cannot write a text that begins with a colon; no value of ours does.
texts = st.text("abc :#'-", max_size=6).filter(lambda text: not text.lstrip().startswith(":"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1), plain, min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    write_yaml(path, "# head\n", content)
    assert read_yaml(path) == content


def test_layers_merge_mapping_by_mapping_and_replace_lists():
    assert merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": 4}) == {"a": {"b": 1, "c": [3]}, "d": 4}


def test_every_section_that_has_code_carries_its_digest():
    resolved = resolve(Params("bisenetv2", "minicity"))
    digests = {name: section["code"] for name, section in resolved.items() if "code" in section}
    assert set(digests) == {"data", "weights", "train", "evaluate", "benchmark"}
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in digests.values()) and len(set(digests.values())) == 5


def test_a_setting_that_was_emptied_on_the_command_line_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("model: stdc1\ndataset: camvid\noverride: {lr: '', iterations: 3}\nruntime:\n")
    assert params() == Params("stdc1", "camvid", override=Override(iterations=3))


def test_overrides_reach_their_section():
    resolved = resolve(Params("bisenetv2", "cityscapes", override=Override(lr=1e-4, modes="ss+mscf", iterations=100)))
    assert resolved["train"]["lr"] == 1e-4 and resolved["evaluate"]["modes"] == ["ss", "mscf"]
    assert resolved["train"]["warmup"] == 10, "a trial run shorter than the warm-up gets a tenth of itself"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"model": "bisenet2"}, "unknown model 'bisenet2'; did you mean 'bisenetv2'"),
        ({"dataset": "cityscape"}, "unknown dataset 'cityscape'; did you mean 'cityscapes'"),
        ({"override": {"lr": -1}}, "params.yaml.override.lr"),
        ({"override": {"modes": "ss+mscx"}}, "mscf"),
    ],
)
def test_a_setting_that_cannot_be_is_named(wanted, message):
    with pytest.raises(RecipeError, match=message) as caught:
        resolve(validate(Params, {"model": "bisenetv2", "dataset": "minicity", **wanted}, "params.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "pipeline").glob("*/*.yaml")))
def test_recipes_carry_a_comment_head(path):
    assert path.read_text().startswith("# ")


class TestBadRecipes:
    """Whatever stands in a recipe's place ends in one line."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        for kind in ("recipes", "datasets"):
            shutil.copytree(module.FOLDER / kind, tmp_path / kind)
        monkeypatch.setattr(module, "FOLDER", tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("train: 5\n", "recipes/mine.yaml.train: must hold"),
            ("train:\n", "recipes/mine.yaml.train: must hold"),
            ("datasets: [a]\n", "datasets: must hold sections"),
            ("datasets: {minicitty: {}}\n", "unknown data set 'minicitty'; did you mean 'minicity'"),
            ("base: mine\n", "comes back to itself"),
            ("base: bisenetv2\nas_published: [a]\n", "recipes/mine.yaml.as_published: must hold"),
            ("base: bisenetv2\nas_published: {train: 1}\n", "recipes/mine.yaml: as_published.train: must hold"),
            ("base: bisenetv2\ndatasets: {minicity: {as_published: {train: 1}}}\n", "as_published.train: must"),
            ("base: bisenetv3\n", "unknown model 'bisenetv3'"),
            ("base: bisenetv2\ntrian: {lr: 1.0}\n", "unknown section 'trian'; did you mean 'train'"),
            ("base: bisenetv2\ndatasets: {minicity: {train: {lr: .inf}}}\n", "not finite"),
            ("base: bisenetv2\ndatasets: {minicity: {train: {lr: 2026-01-01}}}\n", "train.lr"),
            ("base: bisenetv2\ndatasets: {minicity: {train: {warmup: '10'}}}\n", "train.warmup"),
            ("base: bisenetv2\ndatasets: {minicity: {train: {batch_size: 1}}}\n", "batch_size must be at least 2"),
            ("base: bisenetv2\ndataset: {std: [0.0, 1.0, 1.0]}\n", "dataset.std.0"),
        ],
    )
    def test_is_refused_by_name(self, text, message, folder):
        (folder / "recipes/mine.yaml").write_text(text)
        with pytest.raises(RecipeError, match=message) as caught:
            resolve(Params("mine", "minicity", override=Override(iterations=100)))
        assert "\n" not in str(caught.value)

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "a.yaml").write_bytes(b"a: \xff\xfe")
        with pytest.raises(RecipeError, match="a.yaml"):
            read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "work: No space left on device; make room and run again"),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.csv"),
            "a.csv: Permission denied; see that it may be read",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "a.csv"),
            "a.csv: Read-only file system; see that it may be read",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "work"), "work: File exists; see that nothing else lies there"),
        (OSError(errno.EIO, "Input/output error", "a.csv"), "a.csv: Input/output error"),
        (OSError("what nobody numbered"), "work: what nobody numbered"),
    ],
)
def test_what_the_file_system_refuses_is_one_line_of_a_stage_with_its_remedy(error, line, capsys, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr("sys.argv", ["pipeline/train.py"])
    with pytest.raises(SystemExit) as caught:
        stage(fail)()
    said = capsys.readouterr().err
    assert caught.value.code == 1 and said.startswith(f"train: {line}") and said.count("\n") == 1, said
