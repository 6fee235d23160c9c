"""Downloads over lines that break at any place: the file comes whole, and nothing travels twice."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.data import download as module
from segcore.data.download import download
from segcore.data.web import Web
from tests.data.webserver import CONTENT, SHA256, Site, cut, fetch, leftovers, refused, serving, silence, status

PROJECT = Path(__file__).parents[2]


class TestWhole:
    @pytest.mark.parametrize("checksum", ["", SHA256, SHA256.upper().replace("SHA256", "sha256")])
    def test_it_comes_once_and_leaves_nothing_beside_it(self, checksum, site, target, web):
        for _ in range(2):
            fetch(site, target, web, checksum=checksum, size=len(CONTENT))
        assert target.read_bytes() == CONTENT and leftovers(target) == [] and len(site.asked) == 1

    @pytest.mark.parametrize("algorithm", ["md5", "sha1"])
    def test_other_checksums_that_sites_list(self, algorithm, site, target, web):
        fetch(site, target, web, checksum=f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}")
        assert target.read_bytes() == CONTENT

    def test_a_server_that_does_not_say_how_long_it_is(self, site, target, web):
        site.spoil("/a.zip", lambda request, content: request.reply(200, content, {"Content-Length": ""}))
        fetch(site, target, web, checksum=SHA256)
        assert target.read_bytes() == CONTENT

    def test_a_file_address(self, tmp_path, target):
        (tmp_path / "origin").write_bytes(CONTENT)
        download([(tmp_path / "origin").as_uri()], target, checksum=SHA256)
        assert target.read_bytes() == CONTENT

    def test_progress_goes_to_stderr_with_eta(self, site, target, web, capsys):
        site.files["/a.zip"] = bytes(3_000_000)
        fetch(site, target, web)
        out, err = capsys.readouterr()
        assert not out and "a.zip (MB): 3/3" in err and "eta" in err and "MB/s" in err


class TestInterrupted:
    def test_what_has_arrived_does_not_travel_twice(self, site, target, web, pauses):
        site.spoil("/a.zip", cut(100_000), cut(50_000), cut(1))
        fetch(site, target, web, checksum=SHA256)
        assert target.read_bytes() == CONTENT and site.sent == len(CONTENT)
        assert [asked[2] for asked in site.asked] == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]
        assert pauses == [1, 2, 4] and leftovers(target) == []

    def test_an_attempt_that_brings_much_counts_as_none(self, site, target, web, pauses, monkeypatch):
        monkeypatch.setattr(module, "_WORTH_WHILE", 10_000)
        site.spoil("/a.zip", *[cut(20_000)] * 12)
        fetch(site, target, web)
        assert target.read_bytes() == CONTENT and pauses == [1] * 12

    @given(st.lists(st.integers(0, 120_000), max_size=4))
    @settings(max_examples=15)
    def test_wherever_it_breaks(self, cuts):
        with serving(Site()) as site, tempfile.TemporaryDirectory() as folder:
            site.files["/a.zip"] = CONTENT
            site.spoil("/a.zip", *map(cut, cuts))
            fetch(site, Path(folder) / "a.zip", Web(sleep=lambda _: None))
            assert (Path(folder) / "a.zip").read_bytes() == CONTENT and site.sent == len(CONTENT)

    def test_given_up_and_gone_on_with_later(self, site, target, web):
        site.spoil("/a.zip", cut(100_000), *[status(503)] * 4)
        refused(site, target, web, "503 Service Unavailable")
        assert leftovers(target) == ["a.zip.part", "a.zip.part.json"]
        fetch(site, target, web)
        assert target.read_bytes() == CONTENT and site.sent == len(CONTENT)

    def test_killed_and_gone_on_with(self, site, target, web):
        site.spoil("/a.zip", silence(30, after=200_000))
        script = "import sys; from segcore.data.download import download; download([sys.argv[1]], sys.argv[2])"
        command = [sys.executable, "-c", script, site.url + "/a.zip", str(target)]
        with subprocess.Popen(command, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}) as process:
            part, deadline = target.with_name("a.zip.part"), time.monotonic() + 30
            while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        had = part.stat().st_size
        site.sent = 0
        fetch(site, target, web, checksum=SHA256)
        assert had > 0 and target.read_bytes() == CONTENT and site.sent == len(CONTENT) - had
        assert leftovers(target) == []

    def test_all_was_there_when_it_was_killed(self, site, target, web):
        site.spoil("/a.zip", cut(100_000), *[status(503)] * 4)
        refused(site, target, web, "503")
        with open(target.with_name("a.zip.part"), "ab") as part:
            part.write(CONTENT[100_000:])
        asked = len(site.asked)
        fetch(site, target, web, checksum=SHA256)
        assert target.read_bytes() == CONTENT and len(site.asked) == asked

    def test_a_server_that_cannot_begin_in_the_middle(self, site, target, web):
        site.ranges = False
        site.spoil("/a.zip", cut(100_000))
        fetch(site, target, web, checksum=SHA256)
        assert target.read_bytes() == CONTENT and site.sent == len(CONTENT) + 100_000

    @pytest.mark.parametrize("heeds", [True, False], ids=["If-Range heeded", "If-Range ignored"])
    def test_another_version_by_then(self, heeds, site, target, web):
        site.if_range = heeds
        other = CONTENT[::-1]

        def change(request, content):
            site.serve(request, content, 100_000)
            site.files["/a.zip"] = other

        site.spoil("/a.zip", change)
        fetch(site, target, web)
        assert target.read_bytes() == other

    def test_another_size_without_any_validator(self, site, target, web):
        site.validators = {}

        def change(request, content):
            site.serve(request, content, 100_000)
            site.files["/a.zip"] = CONTENT[:200_000][::-1]

        site.spoil("/a.zip", change)
        fetch(site, target, web)
        assert target.read_bytes() == CONTENT[:200_000][::-1]

    def test_shorter_than_what_is_here(self, site, target, web):
        def change(request, content):
            site.serve(request, content, 200_000)
            site.files["/a.zip"] = CONTENT[:1000]

        site.if_range = False
        site.spoil("/a.zip", change)
        fetch(site, target, web)
        assert target.read_bytes() == CONTENT[:1000]

    def test_a_weak_validator_is_no_condition(self, site, target, web):
        site.validators = {"ETag": 'W/"1"', "Last-Modified": formatdate(0, usegmt=True)}
        asked = []

        def note(request, content):
            asked.append(request.headers["If-Range"])
            site.serve(request, content)

        site.spoil("/a.zip", cut(1000), note)
        fetch(site, target, web)
        assert asked == [site.validators["Last-Modified"]] and target.read_bytes() == CONTENT

    def test_pieces_of_two_versions_are_found_out_and_fetched_anew(self, site, target, web):
        site.validators = {"ETag": '"careless"'}

        def change(request, content):
            site.serve(request, content[::-1], 100_000)

        site.spoil("/a.zip", change)
        fetch(site, target, web, checksum=SHA256)
        assert target.read_bytes() == CONTENT

    def test_a_damaged_note_is_no_note(self, site, target, web):
        site.spoil("/a.zip", cut(100_000), *[status(503)] * 4)
        refused(site, target, web, "503")
        target.with_name("a.zip.part.json").write_text("{")
        fetch(site, target, web)
        assert target.read_bytes() == CONTENT and site.asked[-1][2] is None
