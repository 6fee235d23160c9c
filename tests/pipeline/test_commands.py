"""What README.md and docs/ tell people to type is typed here: all is parsed, and what this machine can do is run."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from dvc.cli import DvcParserError, parse_args

from pipeline.settings import read_yaml, write_yaml
from segcore.__main__ import COMMANDS, main
from tests.conftest import make_camvid
from tests.pipeline.commands import BLOCK, DOCUMENTS, NOT_HERE, PROJECT, SHORTER, Command, commands, lines
from tests.pipeline.conftest import SMALL, Clone

ALL = commands()
HERE = [command for command in ALL if command.reason is None]
MAKEFILE = (PROJECT / "Makefile").read_text()
SHOWN = ("bisenetv2-minicity-s1", "stdc1-minicity-s1")  # the runs of README's transcripts
OTHERS = (".", "git", "$EDITOR", "torchrun", "srun", "sbatch", "bash", "pip", "trtexec")
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


class TestWords:
    def test_commands_are_told_from_output_and_comments(self):
        text = "```\ndvc repro  # all\nx \\\n  y\n```\n```text\nno\n```\n   ```\n   $ a '#b'\n   out\n   ```\n"
        assert list(lines(text)) == ["dvc repro", "x y", "a '#b'"]

    @pytest.mark.parametrize("command", ALL, ids=str)
    def test_every_program_understands_its_words(self, command, monkeypatch):
        for words in command.parts():
            check(words, monkeypatch)

    @pytest.mark.parametrize(
        "line",
        ["make nothing", "make sweep MODEL=x", "dvc expp run", "dvc exp run -S sead=2", "dvc exp run -S model=resnet",
         "segcore evaluate --weigths x", "segcore fly", "python -m pipeline.nothing",
         "python -m pipeline.adopt --imges x", "curl x"],
    )  # fmt: skip
    def test_a_slip_is_noticed(self, line, monkeypatch):
        with pytest.raises((AssertionError, SystemExit, DvcParserError)):
            check(Command("README.md", line).parts()[0], monkeypatch)

    @pytest.mark.parametrize("pattern", [*NOT_HERE, *(pattern for pattern, _, _ in SHORTER)])
    def test_no_exception_is_left_from_a_command_that_is_gone(self, pattern):
        assert any(re.search(pattern, command.line) for command in ALL)


class TestLinks:
    @pytest.mark.parametrize("name", DOCUMENTS)
    def test_every_link_leads_to_a_file(self, name):
        links = [link for link in LINK.findall((PROJECT / name).read_text()) if "://" not in link]
        assert [link for link in links if not (PROJECT / name).parent.joinpath(link).exists()] == []

    def test_readme_leads_to_every_page(self):
        text = (PROJECT / "README.md").read_text()
        assert [name for name in DOCUMENTS if name != "README.md" and f"({name})" not in text] == []

    def test_the_chain_is_the_one_that_dvc_draws(self):
        command = [sys.executable, "-m", "dvc", "dag", "--md"]
        graph = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
        assert (
            f"<!-- chain: written by `dvc dag --md` -->\n{graph}\n<!-- end of chain -->"
            in (PROJECT / "README.md").read_text()
        )


def test_what_readme_shows_as_printed_are_numbers_of_the_kept_runs():
    text = "".join(block for _, _, block in BLOCK.findall((PROJECT / "README.md").read_text()))
    kept = [json.loads((PROJECT / f"docs/results/{name}/evaluate.json").read_text()) for name in SHOWN]
    values = {value for run in kept for metric in ("miou", "pixel_accuracy") for value in run[metric].values()}
    values |= {json.loads((PROJECT / f"docs/results/{SHOWN[0]}/train.json").read_text())["majority_miou"]}
    values |= {abs(a - b) for a in values for b in values}
    shown = re.findall(r"\b0\.\d{5,6}\b", text) + re.findall(r"[\d.]+ % mIoU", text)
    right = {f"{value:.{digits}f}".rstrip("0") for value in values for digits in (5, 6)}
    right |= {f"{100 * value:.2f} % mIoU" for value in values}
    assert shown and [number for number in shown if number.rstrip("0") not in right] == [], "type these commands again"


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program, its subcommands and options, as far as they can be looked at without running it."""
    program, *rest = words
    match program:
        case "make":
            targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
            for word in rest:
                name, given, _ = word.partition("=")
                assert f"$({name})" in MAKEFILE or f"$(or $({name})" in MAKEFILE if given else word in targets, word
        case "dvc":
            known(parse_args(rest))
        case "segcore":
            assert rest[0] in COMMANDS, rest[0]
            monkeypatch.setattr(importlib.import_module(f"segcore.commands.{rest[0]}"), "run", lambda arguments: None)
            assert main(rest) == 0
        case "python":
            check_python(rest)
        case _:
            assert program in OTHERS, program


def known(arguments: object) -> None:
    """What `-S` sets is in params.yaml, and the model has a recipe."""
    settings = dict(text.split("=", 1) for text in getattr(arguments, "set_param", None) or ())
    here = read_yaml(PROJECT / "params.yaml")
    for key, value in settings.items():
        part = here
        for name in key.split("."):
            assert name in part, key
            part = part[name]
        assert key != "model" or (PROJECT / f"pipeline/recipes/{value}.yaml").is_file(), value
        assert key != "dataset" or value == "mine" or (PROJECT / f"pipeline/datasets/{value}.yaml").is_file(), value


def check_python(words: list[str]) -> None:
    """A module of the project that mentions every option, or code that compiles."""
    if words[0] == "-c":
        compile(words[1], "document", "exec")
        return
    assert words[0] == "-m", words
    path = PROJECT / f"{words[1].replace('.', '/')}.py"
    assert path.is_file(), path
    for option in (word for word in words[2:] if word.startswith("--")):
        assert f'"{option.partition("=")[0]}"' in path.read_text(), option


class Home(Clone):
    """A clone in which a person types; its environment stands in for `.venv`. `document` is what is read just now."""

    document = "README.md"

    def type(self, line: str) -> str:
        """Runs a line as bash does; what it prints."""
        # A benchmark of nothing need not wait for those that measure this machine.
        own = {"EDITOR": "true", "TMPDIR": str(self.home)}
        done = self._run(["bash", "-c", f". .venv/bin/activate && {line}"], **own)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy of the clone whose first run is done, with drawn pictures for CamVid's and for one's own."""
    place = tmp_path_factory.mktemp("typed")
    made = Home(Path(shutil.copytree(clone.folder, place / "segcore", symlinks=True)), place / "home")
    shutil.copytree(clone.home, made.home, symlinks=True)
    # Other tests' CamVid is not this one, and a fetch that looks like theirs would not be run.
    shutil.rmtree(made.folder / ".dvc/cache/runs", ignore_errors=True)
    shutil.copytree(PROJECT / "docs", made.folder / "docs", ignore=shutil.ignore_patterns("results"))
    stand_in_for_the_environment(made.folder / ".venv")
    make_camvid(made.folder / "data/camvid", train=4, val=2, size=(64, 96))
    shrink_camvid(made.folder / "pipeline/datasets/camvid.yaml")
    own_pictures(made.home)
    made.git("add", "-A")
    made.git("commit", "-qm", "docs")
    footage(made.folder)
    return made


def stand_in_for_the_environment(venv: Path) -> None:
    """The environment of this test under the name that make and people use; `segcore` is the clone's."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n')
    script = venv / "bin/segcore"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m segcore "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (venv / ".ready").touch()
    os.utime(venv / ".ready", (2e9, 2e9))  # newer than what `make` would install


def shrink_camvid(path: Path) -> None:
    content = read_yaml(path)
    content["benchmark"] = {**content.get("benchmark", {}), **SMALL["benchmark"]}
    content["evaluate"] = {**content.get("evaluate", {}), **SMALL["evaluate"]}
    write_yaml(path, "", content)


def own_pictures(home: Path) -> None:
    for index in range(5):
        for folder, name in (("photos", f"{index}.jpg"), ("masks", f"{index}_mask.png")):
            (home / folder).mkdir(exist_ok=True)
            picture = np.full((64, 96, 3), 60 + index, np.uint8) if folder == "photos" else np.tile(
                np.repeat(np.arange(3, dtype=np.uint8), 32), (64, 1))  # fmt: skip
            cv2.imwrite(str(home / folder / name), picture)


def footage(folder: Path) -> None:
    """A photograph, a folder of them and a video."""
    (folder / "photographs").mkdir()
    video = cv2.VideoWriter(str(folder / "street.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    for name in ("photo.jpg", "photographs/a.jpg", "photographs/b.jpg"):
        picture = np.full((64, 96, 3), 90, np.uint8)
        cv2.imwrite(str(folder / name), picture)
        video.write(picture)
    video.release()


@pytest.mark.slow
@pytest.mark.parametrize("command", HERE, ids=str)
def test_it_runs(home, command):
    # Documents and experiments begin with the committed run, as README says.
    if home.document != command.document or command.line.startswith(("dvc exp run", "make sweep")):
        home.back()
    home.document = command.document
    home.type(command.short)
