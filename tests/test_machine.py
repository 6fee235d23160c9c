"""What is asked of the machine."""

import ctypes

import torch

from segcore.machine import keep_memory


def test_freed_memory_is_kept_for_the_next_tensors_where_the_c_library_can():
    keep_memory()
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        return
    size = 48 << 20  # by default such a piece is a mapping of its own
    first = torch.ones(size, dtype=torch.uint8).data_ptr()
    assert torch.empty(size, dtype=torch.uint8).data_ptr() == first


def test_a_c_library_without_the_setting_is_no_fault(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_memory()
