"""Pretrained weights: where they come from, whether they are the ones that were meant, and what is said when not."""

import errno
import fnmatch
import hashlib

import pytest

from segcore.data import pretrained
from segcore.data.pretrained import Published, WeightsRecipe, fetch_weights, published
from segcore.data.web import Web
from segcore.errors import CheckpointError
from segcore.models import model_names
from tests.data.webserver import Site, cut, page, serving, status

CONTENT = b"PK weights" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site():
    with serving(Site()) as server:
        server.files = {"/b.pth": CONTENT, "/mirror/b.pth": CONTENT}
        yield server


@pytest.fixture
def fetch(tmp_path):
    """Fetches into tmp_path/store and tmp_path/out, without waiting."""

    def run(name="b.pth", url="", sha256=""):
        return fetch_weights(
            WeightsRecipe(name, url, sha256), tmp_path / "store", tmp_path / "out", Web(sleep=lambda _: None)
        )

    return run


@pytest.fixture
def put(tmp_path):
    """Puts a file into the store by hand."""

    def run(content=CONTENT, name="b.pth"):
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / name).write_bytes(content)

    return run


@pytest.fixture
def listed(monkeypatch, site):
    """Puts b.pth into the table, with an address that is gone and a mirror."""

    def run(sha256="", urls=("/gone/b.pth", "/mirror/b.pth")):
        row = Published("b.pth", "bisenetv2*", "somebody", sha256, tuple(site.url + path for path in urls))
        monkeypatch.setattr(pretrained, "published", lambda: {"b.pth": row})

    return run


class TestTable:
    def test_every_network_has_a_file_to_start_from(self):
        patterns = [row.networks for row in published().values()]
        without = [name for name in model_names() if not any(fnmatch.fnmatch(name, each) for each in patterns)]
        assert all(name.startswith("resnext101") for name in without), "its file was never published"
        assert all(fnmatch.filter(model_names(), pattern) for pattern in patterns)

    def test_digests_and_addresses_are_of_the_file_named(self):
        for name, row in published().items():
            assert all(url.startswith(("https://", "http://")) and url.endswith(f"/{name}") for url in row.urls)
            assert row.sha256 == "" or len(bytes.fromhex(row.sha256)) == 32
            if row.published_by == "torchvision":
                assert row.sha256.startswith(name.split("-")[1].removesuffix(".pth"))
            assert row.published_by

    def test_a_name_in_the_table_needs_no_address(self, fetch, listed, site, tmp_path):
        listed(SHA256)
        receipt = fetch("b.pth")
        assert receipt == {"pretrained": "b.pth", "url": site.url + "/gone/b.pth", "sha256": SHA256}
        assert [path for _, path, _ in site.asked] == ["/gone/b.pth", "/mirror/b.pth"]
        assert (tmp_path / "out/backbone.pth").read_bytes() == CONTENT

    def test_the_receipt_does_not_depend_on_who_fetched(self, fetch, listed, put):
        listed(SHA256)
        by_net = fetch("b.pth")
        put()
        assert fetch("b.pth") == by_net

    def test_an_address_of_the_recipe_s_own_is_of_another_file(self, fetch, listed, site):
        listed("0" * 64)
        assert fetch("b.pth", site.url + "/b.pth")["url"] == site.url + "/b.pth"

    def test_an_address_of_the_table_s_comes_first_and_keeps_digest_and_mirrors(self, fetch, listed, site):
        listed(SHA256, ("/mirror/b.pth", "/gone/b.pth"))
        assert fetch("b.pth", site.url + "/gone/b.pth")["url"] == site.url + "/gone/b.pth"
        assert [path for _, path, _ in site.asked] == ["/gone/b.pth", "/mirror/b.pth"]
        listed("0" * 64)
        with pytest.raises(CheckpointError, match="the recipe wants 0000"):
            fetch("b.pth", site.url + "/mirror/b.pth")

    def test_the_digest_of_the_table_counts(self, fetch, listed, site):
        listed("0" * 64)
        with pytest.raises(CheckpointError, match=f"sha256:{SHA256} came instead of sha256:0000"):
            fetch("b.pth")


class TestByHand:
    def test_a_file_without_address_is_asked_for_with_its_place(self, fetch, put, tmp_path):
        with pytest.raises(CheckpointError, match="no address to download it from") as caught:
            fetch("backbone.tar")
        assert str(tmp_path / "store/backbone.tar") in str(caught.value) and "()" not in str(caught.value)
        put(name="backbone.tar")
        assert fetch("backbone.tar")["pretrained"] == "backbone.tar"
        assert (tmp_path / "out/backbone.pth").read_bytes() == CONTENT

    def test_a_published_one_says_by_whom(self, fetch):
        with pytest.raises(CheckpointError, match="fetch it by hand from the README of .*STDC-Seg; put it there"):
            fetch("STDCNet813M_73.91.tar")

    def test_an_unknown_name_says_the_nearest(self, fetch):
        with pytest.raises(CheckpointError, match="did you mean 'backbone_v2.pth'"):
            fetch("backbone_v3.pth")

    @pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>download", b"\n <html>"])
    def test_what_is_no_weights_file(self, content, fetch, put):
        put(content)
        with pytest.raises(CheckpointError, match="is empty; remove it|is a web page and no weights file; remove it"):
            fetch()

    def test_a_name_that_carries_its_digest(self, fetch, put):
        put(name="resnet18-5c106cde.pth")
        put(name=f"own-{SHA256[:8]}.pth")
        put(name="own-12345678.pth")
        assert fetch(f"own-{SHA256[:8]}.pth")["sha256"] == SHA256
        with pytest.raises(CheckpointError, match="its name says 12345678…; remove it"):
            fetch("own-12345678.pth")
        with pytest.raises(CheckpointError, match="the recipe wants 5c106cde386e87d4"):
            fetch("resnet18-5c106cde.pth")

    def test_offline_says_where_it_belongs(self, fetch, put, site, monkeypatch, tmp_path):
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        with pytest.raises(CheckpointError, match="SEGCORE_OFFLINE forbids to ask .*put it at .*store/b.pth"):
            fetch("b.pth", site.url + "/b.pth")
        put()
        assert fetch("b.pth", site.url + "/b.pth")["sha256"] == SHA256 and site.asked == []


class TestFirstUse:
    def test_it_is_recorded_as_sha256sum_does(self, fetch, put, tmp_path):
        put()
        fetch()
        assert (tmp_path / "store/b.pth.sha256").read_text() == f"{SHA256}  b.pth\n"
        assert fetch()["sha256"] == SHA256

    def test_another_content_is_refused_until_the_record_goes(self, fetch, put, tmp_path):
        put()
        fetch()
        put(b"other")
        with pytest.raises(
            CheckpointError, match=f"but {SHA256} when it was first used .*b.pth.sha256.; put that file"
        ):
            fetch()
        (tmp_path / "store/b.pth.sha256").unlink()
        fetch()

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
    def test_a_store_of_somebody_else_needs_no_record(self, number, fetch, put, monkeypatch, tmp_path):
        put()
        write = pretrained.atomic_write

        def forbid(path):
            if path.suffix == ".sha256":
                raise OSError(number, "forbidden")
            return write(path)

        monkeypatch.setattr(pretrained, "atomic_write", forbid)
        assert fetch()["sha256"] == SHA256 and not (tmp_path / "store/b.pth.sha256").exists()

    def test_a_full_disk_is_said(self, fetch, put, monkeypatch, tmp_path):
        put()

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(pretrained.shutil, "copyfile", full)
        with pytest.raises(CheckpointError, match="No space left on device; make room and run again"):
            fetch()
        assert not list((tmp_path / "out").iterdir())


class TestDownload:
    def test_a_broken_one_goes_on(self, fetch, site, tmp_path):
        site.spoil("/b.pth", cut(20_000))
        fetch("b.pth", site.url + "/b.pth", SHA256)
        assert site.sent == len(CONTENT)
        assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["b.pth", "b.pth.sha256"]

    def test_a_page_instead_of_the_file(self, fetch, site, tmp_path):
        site.spoil("/b.pth", page())
        with pytest.raises(CheckpointError, match="a web page came instead of the file.*put it at .*store/b.pth"):
            fetch("b.pth", site.url + "/b.pth")
        assert not (tmp_path / "out").exists()

    def test_a_server_that_forbids(self, fetch, site):
        site.spoil("/b.pth", status(403))
        with pytest.raises(CheckpointError, match="403 Forbidden"):
            fetch("b.pth", site.url + "/b.pth")
