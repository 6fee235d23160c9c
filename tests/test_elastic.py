"""Processes that die, report an error, fall silent or are asked to stop, on one node and on two."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import together
from tests.tiny_training import prepare, run

PROJECT = Path(__file__).parent.parent
# Seconds; a busy machine is no failure.
LIMIT = 600


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model file of two processes that nothing disturbed."""
    folder = prepare(tmp_path_factory.mktemp("whole"))
    together(2, run, folder, "whole")
    return (folder / "whole" / "model.pt").read_bytes()


@pytest.fixture
def start():
    """Starts commands, and leaves none behind."""
    started = []

    def make(*words, cwd=PROJECT, **environment):
        given = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)],
            cwd=cwd,
            env=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield make
    for process in started:
        # The number of one that has ended may be another's by now.
        left = _descendants(process.pid) if process.poll() is None else []
        process.kill()
        for each in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.communicate()


def _descendants(pid: int) -> list[int]:
    """Processes it started, and those these started; a stopped one that is forgotten keeps its parent's pipes open."""
    try:
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_descendants(child))]


def _end(process) -> tuple[int, str]:
    """Exit code, and what was said on stderr."""
    _, errors = process.communicate(timeout=LIMIT)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def _model(folder: Path) -> bytes:
    return (folder / "launched" / "model.pt").read_bytes()


def test_a_killed_process_is_started_again_with_the_others_and_nothing_changes(start, tmp_path, whole):
    folder = prepare(tmp_path)
    code, said = _end(start("tests.tiny_training", folder, "cpu:2", "SIGKILL:1:20"))
    assert code == 0 and _model(folder) == whole
    assert "process 1 was ended by SIGKILL" in said and "started again from what is saved (1 of 3)" in said


def test_an_error_is_said_once_and_starts_nothing_again(start, tmp_path):
    code, said = _end(start("tests.tiny_training", prepare(tmp_path), "cpu:2", "error:1:5"))
    assert code == 1 and said.count("x.png: cannot be read") == 1 and "started again" not in said


@pytest.mark.parametrize("devices", ["cpu", "cpu:2"])
def test_an_error_in_a_loaders_process_ends_the_run(start, tmp_path, devices):
    folder = prepare(tmp_path)
    shutil.rmtree(folder / "images" / "train")
    code, said = _end(start("tests.tiny_training", folder, devices))
    assert code == 1 and said.count("no such file; mend the list or its root") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_saves_and_the_same_command_goes_on(start, tmp_path, whole, number):
    folder = prepare(tmp_path)
    code, said = _end(start("tests.tiny_training", folder, "cpu:2", f"parent-{number.name}:0:10"))
    assert code == 128 + number and said.count("the same command goes on there") == 1
    assert not (folder / "launched" / "model.pt").exists()
    code, _ = _end(start("tests.tiny_training", folder, "cpu:2"))
    assert code == 0 and _model(folder) == whole


def _node(start, folder: Path, name: str, port: int, *disturbances: str, restarts: int = 3, timeout: int = 120):
    """torchrun's agent as on a node of its own; the folder with the state is shared."""
    (folder / name).mkdir()
    agent = ["torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1, "--max-restarts", restarts, "--rdzv-id", 1]
    agent += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    settings = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "SEGCORE_TIMEOUT": str(timeout)}
    return start(*agent, "-m", "tests.tiny_training", folder, "cpu", *disturbances, cwd=folder / name, **settings)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("disturbances", [(), ("SIGKILL:1:20",)])
def test_two_nodes_train_as_two_processes_of_one(start, tmp_path, whole, disturbances):
    folder, port = prepare(tmp_path), _port()
    nodes = [_node(start, folder, name, port, *disturbances) for name in ("a", "b")]
    assert [node.wait(LIMIT) for node in nodes] == [0, 0]
    assert _model(folder) == whole


@pytest.mark.slow
def test_a_lost_node_ends_the_other_with_a_line(start, tmp_path, whole):
    folder, port = prepare(tmp_path), _port()
    nodes = [_node(start, folder, name, port, "SIGSTOP:1:20", restarts=0, timeout=40) for name in ("a", "b")]
    first = nodes[0] if _leads(folder, nodes[0]) else nodes[1]
    _, said = first.communicate(timeout=LIMIT)
    assert first.returncode and "has not answered for 40 s ($SEGCORE_TIMEOUT); started again" in said
    for rank in (0, 1):  # the machine that froze is switched off
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((folder / "launched" / f"pid-{rank}").read_text()), signal.SIGKILL)
    for node in nodes:
        node.kill()
    (folder / "a").rename(folder / "a-before")
    (folder / "b").rename(folder / "b-before")
    port = _port()
    again = [_node(start, folder, name, port) for name in ("a", "b")]
    assert [node.wait(LIMIT) for node in again] == [0, 0]
    assert _model(folder) == whole


def _leads(folder: Path, agent: subprocess.Popen) -> bool:
    """Whether the agent started the first of all processes."""
    note, end = folder / "launched" / "pid-0", time.monotonic() + LIMIT
    while not note.exists() or not note.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    status = Path(f"/proc/{note.read_text()}/status").read_text()
    return f"PPid:\t{agent.pid}\n" in status
