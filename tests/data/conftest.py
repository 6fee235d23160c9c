"""Shared by the tests of downloads: a server with one file, and a way to it that does not wait."""

import pytest

from segcore.data.web import Web
from tests.data.webserver import CONTENT, Site, serving


@pytest.fixture
def site():
    with serving(Site()) as server:
        server.files["/a.zip"] = CONTENT
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "store" / "a.zip"


@pytest.fixture
def pauses():
    """Seconds that were to be waited."""
    return []


@pytest.fixture
def web(pauses):
    return Web(timeout=2, sleep=pauses.append)
