"""What is asked of the machine."""

import ctypes
import subprocess
import sys

import pytest

from segcore.machine import keep_memory

# A piece of 480 MiB: in which part of the process it lies, and how large the heap is when it is free again.
KEPT = """
import torch
from segcore.machine import keep_memory
{}
def heap():
    line = next(line for line in open("/proc/self/maps") if line.endswith("[heap]\\n"))
    return range(*(int(end, 16) for end in line.split()[0].split("-")))
before = len(heap())
print(torch.ones(480 << 20, dtype=torch.uint8).data_ptr() in heap(), len(heap()) - before > 240 << 20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no such setting")
@pytest.mark.parametrize(("setting", "kept"), [("keep_memory()", "True True"), ("", "False False")])
def test_freed_memory_is_kept_for_the_next_tensors(setting: str, kept: str):
    """In a process of its own, for the setting stays for its life."""
    code = KEPT.format(setting)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kept


def test_a_c_library_without_the_setting_is_no_fault(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory()
