"""Shared by the evaluation tests."""

from __future__ import annotations

import pytest

from tests.evaluate.tiny import TinyNet


@pytest.fixture
def tiny() -> TinyNet:
    """The toy net of the goldens, with its counters at zero."""
    return TinyNet().eval()
