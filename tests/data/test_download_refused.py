"""Downloads from servers and onto disks that refuse: patience where it helps, one line with the remedy where not."""

import errno
import io
import os
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from segcore.data import download as module
from segcore.data.download import download
from segcore.data.web import Web
from segcore.errors import DataError, SegcoreError
from tests.data.webserver import CONTENT, SHA256, cut, fetch, leftovers, page, refused, silence, status

PROJECT = Path(__file__).parents[2]


class TestPatience:
    def test_pauses_grow_and_end(self, site, target, web, pauses, capsys):
        site.spoil("/a.zip", *[status(500)] * 5)
        refused(site, target, web, "500 Internal Server Error")
        assert pauses == [1, 2, 4, 8] and "a.zip: the server answers 500" in capsys.readouterr().err

    @pytest.mark.parametrize("code", [429, 503])
    def test_the_pause_that_the_server_asks_for(self, code, site, target, web, pauses):
        site.spoil("/a.zip", status(code, Retry_After="7"), status(code, Retry_After="0"), status(code))
        fetch(site, target, web)
        assert pauses == [7, 0, 4]

    def test_a_pause_until_a_date(self, site, target, web, pauses):
        site.spoil("/a.zip", status(429, Retry_After=formatdate(time.time() + 60, usegmt=True)))
        fetch(site, target, web)
        assert 50 < pauses[0] <= 60

    def test_a_pause_that_is_too_long(self, site, target, web, pauses):
        site.spoil("/a.zip", status(429, Retry_After="3600"))
        refused(site, target, web, "429 Too Many Requests; it asks to come back in 3600 s")
        assert pauses == []

    @pytest.mark.parametrize("code", [403, 404, 410])
    def test_a_refusal_is_not_asked_twice(self, code, site, target, web):
        site.spoil("/a.zip", status(code))
        refused(site, target, web, f"answers {code}")
        assert len(site.asked) == 1

    def test_a_silent_server(self, site, target, pauses):
        site.spoil("/a.zip", silence(0.4), silence(0.4, after=1000))
        fetch(site, target, Web(timeout=0.1, sleep=pauses.append))
        assert target.read_bytes() == CONTENT and len(pauses) == 2

    def test_nobody_there(self, target, web, pauses):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
        with pytest.raises(DataError, match="Connection refused"):
            download([url], target, web=web)
        assert pauses == [1, 2, 4, 8]

    def test_mirrors_in_order(self, site, target, web):
        site.files["/mirror/a.zip"] = CONTENT
        urls = [site.url + path for path in ("/gone.zip", "/mirror/a.zip", "/a.zip")]
        download(urls, target, web=web)
        assert [path for _, path, _ in site.asked] == ["/gone.zip", "/mirror/a.zip"]

    def test_every_mirror_that_failed_is_named_with_its_reason(self, site, target, web):
        site.spoil("/a.zip", page())
        with pytest.raises(DataError, match="404 Not Found.* nor from .*web page came"):
            download([site.url + "/gone.zip", site.url + "/a.zip"], target, web=web)


class TestWrongThings:
    def test_another_checksum(self, site, target, web):
        site.files["/a.zip"] = CONTENT[:-1] + b"x"
        refused(site, target, web, "sha256:[0-9a-f]* came instead of sha256:", checksum=SHA256)
        assert leftovers(target) == []

    def test_another_size_than_known(self, site, target, web):
        refused(site, target, web, "300000 bytes lie there instead of 5", size=5)
        assert site.sent in (0, len(CONTENT)) and leftovers(target) == []

    def test_more_declared_than_ever_comes(self, site, target, web):
        site.spoil("/a.zip", *[lambda r, c: r.reply(200, c, {"Content-Length": "300001"})] * 5)
        site.ranges = False
        refused(site, target, web, "the connection ended after 300000 of 300001 bytes")

    @pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/zip"])
    def test_a_web_page_in_place_of_the_file(self, kind, site, target, web):
        site.spoil("/a.zip", page(kind))
        refused(site, target, web, "a web page came instead of the file")
        assert len(site.asked) == 1 and leftovers(target) == []

    def test_a_web_page_does_not_cost_what_has_arrived(self, site, target, web):
        site.spoil("/a.zip", cut(100_000), page("application/zip"))
        refused(site, target, web, "a web page")
        fetch(site, target, web)
        assert target.read_bytes() == CONTENT and site.sent == len(CONTENT)

    def test_nothing(self, site, target, web):
        site.files["/a.zip"] = b""
        refused(site, target, web, "nothing came instead of the file")

    def test_an_address_of_another_kind(self, target, web):
        with pytest.raises(DataError, match="not an address of http, https or file"):
            download(["ftp://127.0.0.1/a.zip"], target, web=web)

    def test_a_checksum_of_another_kind(self, site, target, web):
        with pytest.raises(DataError, match="a checksum is md5:…, sha1:… or sha256:…"):
            fetch(site, target, web, checksum="crc32:00000000")

    def test_offline_asks_nobody(self, site, target, web, monkeypatch):
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        message = refused(site, target, web, "SEGCORE_OFFLINE forbids to ask http")
        assert site.asked == [] and site.url in message
        target.parent.mkdir()
        target.write_bytes(b"put there by hand")
        fetch(site, target, web)
        assert target.read_bytes() == b"put there by hand"


class TestDisk:
    def test_too_little_room_is_said_before(self, site, target, web, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(DataError, match=r"a\.zip needs 0\.3 MB, 0\.0 MB are free; make room"):
            fetch(site, target, web)

    def test_full_in_the_middle_keeps_what_is_there(self, site, target, web, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(module, "open", open_on_full_disk, raising=False)
            with pytest.raises(DataError, match="No space left on device; make room and run again"):
                fetch(site, target, web)
        had = target.with_name("a.zip.part").stat().st_size
        assert had == 100_000 and not target.exists() and len(site.asked) == 1, "a full disk is no broken line"
        fetch(site, target, web, checksum=SHA256)
        assert target.read_bytes() == CONTENT and site.asked[-1][2] == f"bytes={had}-"

    def test_a_folder_that_may_not_be_written(self, site, target, web, monkeypatch):
        def forbid(path, *_, **__):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr("segcore.files.open", forbid, raising=False)
        with pytest.raises(DataError, match="Permission denied; make .*store and what it holds readable and writable"):
            fetch(site, target, web)
        assert site.asked == []

    def test_a_file_where_the_folder_belongs(self, site, target, web):
        target.parent.write_text("in the way")
        with pytest.raises(DataError, match="something else lies where a file or a folder belongs"):
            fetch(site, target, web)

    def test_another_process_is_at_it(self, site, target, web):
        script = (
            "import sys, time; from pathlib import Path; from segcore.files import exclusive\n"
            "with exclusive(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(30)"
        )
        command = [sys.executable, "-c", script, str(target.with_name(".a.zip.lock"))]
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            process.stdout.readline()
            with pytest.raises(SegcoreError, match=f"another process is downloading it.*{process.pid}"):
                fetch(site, target, web)
            process.kill()
        assert site.asked == []
        fetch(site, target, web)


class AlmostFull(io.FileIO):
    """A file on a disk that has room for 100,000 bytes of it."""

    def write(self, block):
        left = 100_000 - self.tell()
        super().write(block[:left])
        if len(block) > left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(block)


def open_on_full_disk(path, mode="r", **options):
    return AlmostFull(path, "ab") if mode == "ab" else open(path, mode, **options)
