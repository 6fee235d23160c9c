"""`make doctor`: what this machine has for the chain, what is missing, and what to do about it.

Exit code 1 where something will fail, 0 where it will only be slow, or stay unmeasured.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from pipeline.settings import PARAMS, image_root, params, project_root
from segcore.deploy.export import require
from segcore.errors import SegcoreError
from segcore.machine import cpu_has_bf16, free_disk, free_memory

if TYPE_CHECKING:
    from dvc.repo import Repo

GIB = 2**30
# Seconds for a remote to answer.
PATIENCE = 20
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
    yield from _storage()
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
        remedy = "without, `dvc exp run` ends in an `unexpected error`; " + ", ".join(
            f'`git config --global {key} "…"`' for key in missing
        )
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
    cards = ", ".join(f"{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)" for gpu in names)
    return Finding("GPU", "ok", f"{cards}, CUDA {torch.version.cuda}")


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


def _storage() -> Iterator[Finding]:
    """DVC's cache, and every remote that is configured."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield _links(Path(repo.cache.local_cache_dir), repo.cache.local.cache_types)
            for name in repo.config["remote"]:
                yield _remote(name, lambda name=name: _look(repo, name))
            if not repo.config["core"].get("remote"):
                yield Finding(
                    "DVC remote", "doubt", "none is the default", "nothing can be shared; `dvc remote add -d`"
                )
    except DvcException as error:
        yield Finding("DVC", "wrong", str(error).splitlines()[0], "clone the project; .dvc/ belongs to it")


def _links(cache: Path, wanted: Sequence[str]) -> Finding:
    from dvc_objects.fs.generic import test_links
    from dvc_objects.fs.local import localfs

    cache.mkdir(parents=True, exist_ok=True)
    here = project_root() / f".doctor-{os.getpid()}"
    try:
        kinds = test_links([kind for kind in wanted if kind != "copy"], localfs, str(cache), localfs, str(here))
    except OSError as error:
        return Finding("DVC cache", "wrong", f"{cache}: {error.strerror}", "`dvc cache dir` takes another folder")
    if not kinds:
        return Finding("DVC cache", "doubt", f"{cache}, copied", "every checkpoint is stored twice; same disk needed")
    return Finding("DVC cache", "ok", f"{cache}, {kinds[0]}")


def _look(repo: Repo, name: str) -> tuple[str, bool]:
    """Where a remote is, and whether something is there."""
    remote = repo.cloud.get_remote(name)
    return f"{remote.fs.protocol}: {remote.path}", remote.fs.exists(remote.path)


def _remote(name: str, look: Callable[[], tuple[str, bool]]) -> Finding:
    topic, answers = f"DVC remote {name}", queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(look())
        except Exception as error:  # every storage has exceptions of its own, for credentials too
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except queue.Empty:
        return Finding(topic, "doubt", f"no answer within {PATIENCE} s", "look at its address, network and server")
    if isinstance(answer, Exception):
        said = (str(answer) or type(answer).__name__).splitlines()[0]
        return Finding(topic, "doubt", said, "package, address and credentials: docs/share-results.md")
    place, there = answer
    if there:
        return Finding(topic, "ok", place)
    return Finding(topic, "doubt", f"{place} is not there yet", "the first `dvc push` makes it")


def _account() -> Finding:
    if image_root("cityscapes").is_dir():
        return Finding("Cityscapes", "ok", f"in {image_root('cityscapes')}")
    missing = [name for name in ("CITYSCAPES_USERNAME", "CITYSCAPES_PASSWORD") if not os.environ.get(name)]
    if missing:
        text = f"neither in the data store nor {' and '.join(missing)} set"
        return Finding("Cityscapes", "doubt", text, "docs/reproduce-cityscapes.md")
    return Finding("Cityscapes", "ok", "not in the data store; credentials are set, `fetch` downloads it")


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
