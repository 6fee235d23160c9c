"""Cityscapes with an account, from a site that asks for the login and misbehaves; and who gets to see the password."""

import functools
import traceback
import zipfile
from dataclasses import replace

import pytest

from segcore.data import sources
from segcore.data.cityscapes_account import Account, download_packages, find_account
from segcore.data.minicity import MinicityRecipe, write_archives
from segcore.data.sources import DataRecipe, fetch
from segcore.errors import DataError
from tests.data.webserver import CITYSCAPES, WORD, CityscapesSite, cut, page, serving, status

NAMES = tuple(CITYSCAPES)
CITY = DataRecipe("cityscapes", "both from the site", NAMES, account="cityscapes")
ACCOUNT = Account("user@example.org", WORD)
FILES, LOGIN = "/file-handling/", "/login"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    write_archives(folder, MinicityRecipe(train=2, val=1, height=64, width=128))
    return {name: (folder / name).read_bytes() for name in NAMES}


@pytest.fixture
def site(archives):
    with serving(CityscapesSite(archives)) as server:
        yield server


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No account of whoever runs the tests, and a home without one."""
    for part in ("USERNAME", "PASSWORD", "CREDENTIALS"):
        monkeypatch.delenv(f"CITYSCAPES_{part}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def with_account(monkeypatch, site):
    monkeypatch.setenv("CITYSCAPES_USERNAME", ACCOUNT.username)
    monkeypatch.setenv("CITYSCAPES_PASSWORD", ACCOUNT.password)
    monkeypatch.setattr(sources, "download_packages", functools.partial(download_packages, site=site.url))


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def bring(site, tmp_path, pauses):
    """Downloads packages into tmp_path/city."""

    def run(*names, account=ACCOUNT):
        download_packages(names or NAMES, tmp_path / "city", account, site=site.url, sleep=pauses.append)

    return run


def paths(site):
    return [path.partition("?")[0] for _, path, _ in site.asked]


class TestFetch:
    def test_from_an_account_to_files(self, site, with_account, tmp_path, capsys):
        files = fetch(CITY, tmp_path / "city", tmp_path / "memory.csv")
        assert len(files) == 6 and {file.path.split("/")[1] for file in files} == {"train", "val"}
        assert paths(site)[:3] == [LOGIN, LOGIN, "/downloads/"] and paths(site).count(FILES) == 2
        assert sum(method == "POST" for method, _, _ in site.asked) == 1
        asked = len(site.asked)
        assert fetch(CITY, tmp_path / "city", tmp_path / "memory.csv") == files and len(site.asked) == asked
        said = "".join(capsys.readouterr())
        assert not any(secret in said for secret in (WORD, ACCOUNT.username))
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert written and not any(WORD.encode() in content for content in written)

    def test_archives_dropped_in_are_preferred(self, archives, site, with_account, tmp_path):
        (tmp_path / "city").mkdir()
        (tmp_path / "city" / NAMES[0]).write_bytes(archives[NAMES[0]])
        assert len(fetch(CITY, tmp_path / "city", tmp_path / "memory.csv")) == 6
        assert paths(site).count(FILES) == 1
        asked = len(site.asked)
        (tmp_path / "other").mkdir()
        for name in NAMES:
            (tmp_path / "other" / name).write_bytes(archives[name])
        fetch(CITY, tmp_path / "other", tmp_path / "other.csv")
        assert len(site.asked) == asked, "nobody is asked for what is there"

    def test_without_account_both_ways_are_said(self, site, tmp_path):
        match = "not found in .*city; get both from the site and put them there; or set CITYSCAPES_USERNAME and .*600"
        with pytest.raises(DataError, match=match):
            fetch(CITY, tmp_path / "city", tmp_path / "memory.csv")

    def test_a_data_set_without_login_asks_for_no_account(self, site, with_account, tmp_path):
        with pytest.raises(DataError, match="get both from the site and put them there$"):
            fetch(replace(CITY, account=""), tmp_path / "city", tmp_path / "memory.csv")
        assert site.asked == []

    def test_test_images_come_on_request(self, tmp_path):
        folder = tmp_path / "city"
        folder.mkdir()
        ends = {"leftImg8bit": "_leftImg8bit.png", "gtFine": "_gtFine_labelIds.png"}
        for top, end in ends.items():
            with zipfile.ZipFile(folder / f"{top}_trainvaltest.zip", "w") as archive:
                for split in ("train", "val", "test"):
                    archive.writestr(f"{top}/{split}/a/a_000000_000000{end}", split)
        for wanted, count in ((False, 4), (True, 6)):
            assert len(fetch(replace(CITY, test=wanted), folder, tmp_path / "memory.csv")) == count
        for top in ends:
            (folder / f"{top}_trainvaltest.zip").unlink()
        assert len(fetch(replace(CITY, test=True), folder, tmp_path / "memory.csv")) == 6

    def test_offline_asks_nobody(self, site, with_account, tmp_path, monkeypatch):
        monkeypatch.setenv("SEGCORE_OFFLINE", "1")
        with pytest.raises(
            DataError, match=f"{NAMES[0]}.* not found in .*city, and SEGCORE_OFFLINE forbids to ask http"
        ):
            fetch(CITY, tmp_path / "city", tmp_path / "memory.csv")
        assert site.asked == []


class TestSite:
    def test_a_wrong_password_is_one_line_that_does_not_hold_it(self, site, bring, tmp_path):
        account = Account("user@example.org", "another-secret")
        with pytest.raises(DataError, match="refuses this user name or password") as caught:
            bring(account=account)
        told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        everything = "".join(told.format()) + repr(account) + str(account)
        assert "another-secret" not in everything and "user@example.org" not in everything
        assert site.refused == 1, "a wrong password is not tried again: accounts get locked"
        assert not (tmp_path / "city").exists()

    def test_a_login_that_ran_out_is_renewed_and_the_download_goes_on(self, archives, site, bring, tmp_path):
        def forget(request, content):
            site.serve(request, content, 1000)
            site.signed_in.clear()

        site.spoil(FILES, forget)
        bring(NAMES[1])
        assert (tmp_path / "city" / NAMES[1]).read_bytes() == archives[NAMES[1]]
        assert site.sent == len(archives[NAMES[1]]) and paths(site).count(LOGIN) == 4

    def test_a_page_to_log_in_instead_of_the_zip(self, archives, site, bring, tmp_path):
        site.spoil(FILES, page())
        bring(NAMES[1])
        assert (tmp_path / "city" / NAMES[1]).read_bytes() == archives[NAMES[1]] and paths(site).count(LOGIN) == 4

    def test_nothing_but_pages(self, site, bring, tmp_path):
        site.spoil(FILES, *[page()] * 9)
        with pytest.raises(DataError, match=f"a web page came instead of the file.*put it at .*{NAMES[1]}"):
            bring(NAMES[1])
        assert not (tmp_path / "city" / NAMES[1]).exists()

    def test_an_account_that_may_not(self, site, bring):
        site.spoil(FILES, *[status(302, Location="/licence")] * 9)
        with pytest.raises(DataError, match="the server answers 302 Found"):
            bring(NAMES[1])

    def test_broken_connections(self, archives, site, bring, tmp_path, pauses):
        site.spoil(FILES, cut(2000), cut(2000))
        bring(NAMES[1])
        assert (tmp_path / "city" / NAMES[1]).read_bytes() == archives[NAMES[1]]
        assert site.sent == len(archives[NAMES[1]]) and pauses == [1, 2]

    @pytest.mark.parametrize("path", [LOGIN, "/downloads/", "/md5-sum/", FILES])
    def test_a_busy_site(self, path, site, bring, pauses, tmp_path):
        site.spoil(path, status(429, Retry_After="9"), status(503))
        bring()
        assert all((tmp_path / "city" / name).is_file() for name in NAMES) and pauses == [9, 2]

    def test_a_site_that_is_down(self, site, bring, pauses):
        site.spoil(LOGIN, *[status(502)] * 5)
        with pytest.raises(DataError, match="502 Bad Gateway; try again later, or fetch .* by hand and put them into"):
            bring()
        assert pauses == [1, 2, 4, 8]

    def test_another_md5_than_listed(self, site, bring, tmp_path):
        site.spoil("/md5-sum/", lambda request, _: request.reply(200, b"0" * 32 + b"  x.zip\n"))
        with pytest.raises(DataError, match="md5:[0-9a-f]* came instead of md5:0000"):
            bring(NAMES[1])
        assert not (tmp_path / "city" / NAMES[1]).exists()

    def test_fewer_bytes_than_declared(self, site, bring):
        site.ranges = False
        site.spoil(FILES, *[lambda request, _: request.reply(200, b"PK" * 50, {"Content-Length": "99999"})] * 5)
        with pytest.raises(DataError, match="the connection ended after 100 of 99999 bytes"):
            bring(NAMES[1])

    def test_a_package_that_is_not_offered(self, archives, bring, site):
        site.archives = {NAMES[1]: archives[NAMES[1]]}
        with pytest.raises(DataError, match=f"does not offer {NAMES[0]} to this account"):
            bring(NAMES[0])

    @pytest.mark.parametrize(
        "text", [b"[]x", b'{"a": 1}', b'[{"name": "x"}]', b'[{"name": "x", "packageID": "y"}]', b"\xff"]
    )
    def test_a_list_of_another_form(self, text, site, bring):
        site.spoil("/downloads/", lambda request, _: request.reply(200, text))
        with pytest.raises(DataError, match="its list of packages has another form than it had"):
            bring()

    @pytest.mark.parametrize("text", [b"", b"soon", b"0" * 33])
    def test_an_md5_of_another_form(self, text, site, bring):
        site.spoil("/md5-sum/", lambda request, _: request.reply(200, text))
        with pytest.raises(DataError, match="its MD5 of a package has another form than it had"):
            bring()


class TestAccount:
    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        """Writes the file of the account and names it."""

        def run(text, mode=0o600):
            path = tmp_path / "account"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            path.chmod(mode)
            monkeypatch.setenv("CITYSCAPES_CREDENTIALS", str(path))

        return run

    def test_there_is_none(self):
        assert find_account() is None

    def test_from_the_environment(self, with_account):
        assert find_account() == ACCOUNT

    @pytest.mark.parametrize("text", ["username=u\npassword=a=b \n", "# mine\r\nPassword = a=b\r\n\r\nusername=u\r\n"])
    def test_from_a_file(self, text, write):
        write(text)
        assert find_account() == Account("u", "a=b")

    def test_from_the_file_at_home(self, tmp_path):
        path = tmp_path / "home/.config/segcore/cityscapes"
        path.parent.mkdir(parents=True)
        path.write_text("username=u\npassword=p\n")
        path.chmod(0o400)
        assert find_account() == Account("u", "p")

    def test_half_an_account(self, monkeypatch):
        monkeypatch.setenv("CITYSCAPES_USERNAME", "u")
        with pytest.raises(DataError, match="one of CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD is not set"):
            find_account()

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
    def test_a_file_that_others_may_read(self, mode, write):
        write("username=u\npassword=hidden\n", mode)
        with pytest.raises(DataError, match="others may read this password; chmod 600 /.*/account$"):
            find_account()

    @pytest.mark.parametrize("text", ["", "u\nhidden\n", "username=u\n", "username=u\npassword=\n", "\0\nhidden"])
    def test_a_file_without_the_two_lines(self, text, write):
        write(text)
        with pytest.raises(DataError, match="must hold the lines username=… and password=…") as caught:
            find_account()
        assert "hidden" not in str(caught.value)

    def test_a_file_that_is_no_text(self, write):
        write(b"\xff\xfe")
        with pytest.raises(DataError, match="not a UTF-8 text"):
            find_account()

    def test_a_file_that_is_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setenv("CITYSCAPES_CREDENTIALS", str(tmp_path / "nowhere"))
        with pytest.raises(DataError, match="nowhere: cannot be read .No such file"):
            find_account()
