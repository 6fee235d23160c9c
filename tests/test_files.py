"""Files that are whole or absent, and locks that end with their process."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segcore.errors import SegcoreError
from segcore.files import atomic_write, exclusive, write_json

PROJECT = Path(__file__).parents[1]
# Holds the lock while a forked child, as a loader's process is, outlives it.
HOLDER = """
import os, sys, time
from pathlib import Path
from segcore.files import exclusive
with exclusive(Path(sys.argv[1]), "taken"):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print("holding", flush=True)
    time.sleep(20)
"""


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_json_refuses_what_is_no_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_lock_excludes_others_and_ends_with_its_process_not_with_its_children(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, cwd=PROJECT)
    try:
        assert holder.stdout.readline() == b"holding\n"
        expected = rf"taken already \(process {holder.pid}\)"
        with pytest.raises(SegcoreError, match=expected), exclusive(lock, "taken already"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        time.sleep(0.1)
        with exclusive(lock, "still taken, by the child"):
            pass
    finally:
        holder.kill()
