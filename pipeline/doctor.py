"""`make doctor`: what this machine has for the chain, what is missing, and what to do about it.

Exit code 1 where something will fail, 0 where it will only be slow, or stay unmeasured.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from pipeline.settings import PARAMS, image_root, params, project_root
from segcore.deploy.export import require
from segcore.errors import SegcoreError
from segcore.machine import cpu_has_bf16, free_disk, free_memory

GIB = 2**30
# Images, checkpoints of a few models, and the cache that holds both a second time.
ROOM = 20 * GIB
# A training of two loaders passes its batches through here.
SHARED_MEMORY = GIB
STYLES = {"ok": "green", "doubt": "yellow", "wrong": "red"}


class Finding(NamedTuple):
    """One line: `wrong` stops the chain, `doubt` does not."""

    topic: str
    state: Literal["ok", "doubt", "wrong"]
    text: str
    remedy: str = ""


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in the order in which a run needs it."""
    yield _python()
    yield from _packages()
    yield from _git()
    yield _params()
    yield _processor()
    yield _gpus()
    yield from _rooms()
    yield _links()
    yield _remote()
    yield _account()
    yield from _backends()


def _python() -> Finding:
    text = f"{platform.python_version()} in {sys.prefix}"
    old = sys.version_info < (3, 11)
    return Finding("Python", "wrong" if old else "ok", text, "3.11 or newer is needed" if old else "")


def _packages() -> Iterator[Finding]:
    pinned = dict(
        line.split("==") for line in Path("constraints.txt").read_text(encoding="utf-8").split() if "==" in line
    )
    found = {name: _version(name) for name in pinned}
    other = [
        f"{name} {found[name]} (tested: {pinned[name]})" for name in pinned if found[name] not in (None, pinned[name])
    ]
    if other:
        remedy = "numbers may differ in the last digits; `pip install -c constraints.txt -r requirements.txt`"
        yield Finding("packages", "doubt", ", ".join(other), remedy)
    else:
        yield Finding("packages", "ok", f"as in constraints.txt; torch {torch.__version__}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> Iterator[Finding]:
    if _output("git", "rev-parse", "--is-inside-work-tree") != "true":
        yield Finding("git", "wrong", "this folder is no git work tree", "clone the project; experiments are commits")
        return
    missing = [key for key in ("user.name", "user.email") if not _output("git", "config", key)]
    if missing:
        remedy = "`dvc exp run` fails without; " + ", ".join(f'`git config --global {key} "…"`' for key in missing)
        yield Finding("git", "wrong", f"{' and '.join(missing)} not set", remedy)
    else:
        yield Finding("git", "ok", f"{_output('git', 'config', 'user.name')}, {_output('git', '--version')}")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _params() -> Finding:
    try:
        wanted = params()
    except SegcoreError as error:
        return Finding("params.yaml", "wrong", str(error), f"edit {PARAMS}")
    return Finding("params.yaml", "ok", f"{wanted.model} on {wanted.dataset}, seed {wanted.seed}")


def _processor() -> Finding:
    free = free_memory(torch.device("cpu"))
    memory = "free memory unknown" if free is None else f"{free / GIB:.1f} GiB of memory free"
    text = f"{os.cpu_count()} cores, {memory}, bf16 {'yes' if cpu_has_bf16() else 'no'}"
    low = free is not None and free < 4 * GIB
    return Finding("CPU", "doubt" if low else "ok", text, "close other programs, or train in parts" if low else "")


def _gpus() -> Finding:
    if not torch.cuda.is_available():
        return Finding(
            "GPU", "doubt", "none that torch can use", "enough for minicity and CamVid; Cityscapes wants GPUs"
        )
    names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return Finding("GPU", "ok", ", ".join(f"{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)" for gpu in names))


def _rooms() -> Iterator[Finding]:
    places = {"disk of the project": project_root(), "disk of the data": image_root("any").parent}
    for topic, place in places.items():
        free = free_disk(place.resolve())
        few = free < ROOM
        remedy = f"Cityscapes with checkpoints wants {ROOM // GIB} GiB" if few else ""
        yield Finding(topic, "doubt" if few else "ok", f"{free / GIB:.0f} GiB free at {place.resolve()}", remedy)
    shared = Path("/dev/shm")
    if shared.is_dir() and (free := free_disk(shared)) < SHARED_MEMORY:
        yield Finding("shared memory", "doubt", f"{free / 2**20:.0f} MiB in {shared}", "enlarge it, or workers: 0")


def _links() -> Finding:
    cache = project_root() / ".dvc" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache) as file:
        link = project_root() / f".doctor-{os.getpid()}"
        try:
            os.link(file.name, link)
        except OSError:
            return Finding("DVC cache", "doubt", "no links to it", "every checkpoint is stored twice")
        link.unlink()
    return Finding("DVC cache", "ok", f"{cache.resolve()}, linked")


def _remote() -> Finding:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            remote = repo.cloud.get_remote()
            place, there = f"{remote.name}: {remote.path}", remote.fs.exists(remote.path)
    except (DvcException, OSError, ImportError) as error:
        return Finding(
            "DVC remote", "doubt", str(error).splitlines()[0], "nothing can be shared; `dvc remote add` or .dvc/config"
        )
    if there:
        return Finding("DVC remote", "ok", place)
    return Finding("DVC remote", "doubt", f"{place} is not there yet", "the first `dvc push` makes it")


def _account() -> Finding:
    if image_root("cityscapes").is_dir():
        return Finding("Cityscapes", "ok", f"in {image_root('cityscapes')}")
    return Finding("Cityscapes", "doubt", "not in the data store", "docs/reproduce-cityscapes.md")


def _backends() -> Iterator[Finding]:
    for name in ("onnxruntime", "openvino", "tensorrt"):
        try:
            require(name)
        except SegcoreError as error:
            yield Finding(name, "doubt", "not here", f"{error}; its speed stays `not measured`")
        else:
            yield Finding(name, "ok", _version(name) or "here")
    compiler = next(filter(shutil.which, ("g++", "clang++", "c++")), None)
    remedy = "" if compiler else "train.compile needs one on a CPU"
    yield Finding("C++ compiler", "ok" if compiler else "doubt", compiler or "none", remedy)


def main() -> None:
    """Prints the table."""
    table, found = Table(box=None), list(findings())
    for title in ("", "", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in found:
        mark = f"[{STYLES[finding.state]}]{finding.state}[/]"
        table.add_row(finding.topic, mark, *(text.replace("[", r"\[") for text in finding[2:]))
    Console().print(table)
    sys.exit(any(finding.state == "wrong" for finding in found))


if __name__ == "__main__":
    main()
