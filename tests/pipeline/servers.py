"""Real servers on the loopback interface that hold a DVC remote, each as long as its `with` block.

Where one cannot be had, the test that wants it is skipped and says why; `make test-sharing` installs those in Python.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
USER, PASSWORD = "ann", "SECRET"  # as in the examples


@dataclass
class Remote:
    """A server that stands for the one of an example in docs/share-results.md.

    Attributes:
        here: what takes the place of the example's addresses and names.
        cut: halves the object of a given md5 on the server; `delete`: deletes it there.
    """

    here: dict[str, str]
    cut: Callable[[str], None]
    delete: Callable[[str], None]


def key_of(md5: str) -> str:
    """Where DVC puts an object, under the remote's url."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def in_folder(store: Path, here: dict[str, str]) -> Remote:
    """A remote whose server keeps it in a folder of this machine."""

    def cut(md5: str) -> None:
        path = store / key_of(md5)
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(content[: len(content) // 2])

    return Remote(here, cut, lambda md5: (store / key_of(md5)).unlink(missing_ok=True))


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Remote]:
    """moto's S3 with a bucket `team`."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    bucket = boto3.resource(
        "s3",
        endpoint_url=address,
        aws_access_key_id=USER,
        aws_secret_access_key=PASSWORD,
        region_name="us-east-1",
    ).create_bucket(Bucket="team")

    def cut(md5: str) -> None:
        stored = bucket.Object(f"segcore/{key_of(md5)}")
        content = stored.get()["Body"].read()
        stored.put(Body=content[: len(content) // 2])

    def delete(md5: str) -> None:
        bucket.Object(f"segcore/{key_of(md5)}").delete()

    try:
        yield Remote({"https://s3.example.org": address}, cut, delete)
    finally:
        server.stop()


@contextlib.contextmanager
def ssh(folder: Path) -> Iterator[Remote]:
    """OpenSSH's server, for whoever runs the tests, with a key."""
    pytest.importorskip("dvc_ssh", reason="dvc-ssh is not installed")
    if not SSHD:
        pytest.skip("OpenSSH's sshd is not installed")
    folder.mkdir()
    with contextlib.suppress(OSError):  # root's sshd wants it
        os.makedirs("/run/sshd", exist_ok=True)
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    port = _free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "PermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_for_port(port, process)
            store = folder / "store"
            here = {"share.example.org/srv/segcore": f"127.0.0.1:{port}{store}", "ann": getpass.getuser()}
            yield in_folder(store, {**here, "~/.ssh/id_ed25519": str(folder / "key")})
        finally:
            process.terminate()


@contextlib.contextmanager
def webdav(folder: Path, *, read_only: bool = False) -> Iterator[Remote]:
    """WsgiDAV with a name and a password; its top folder is there, as DVC wants it."""
    pytest.importorskip("dvc_webdav", reason="dvc-webdav is not installed")
    app = pytest.importorskip("wsgidav.wsgidav_app", reason="wsgidav is not installed")
    wsgi = pytest.importorskip("cheroot.wsgi", reason="cheroot is not installed")
    store = folder / "segcore"
    store.mkdir(parents=True, exist_ok=True)
    settings = {
        "provider_mapping": {"/": {"root": str(folder), "readonly": read_only}},
        "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
        "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
        "verbose": 0,
    }
    server = wsgi.Server(("127.0.0.1", 0), app.WsgiDAVApp(settings))
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        address = f"webdav://127.0.0.1:{server.bind_addr[1]}"
        yield in_folder(store, {"webdavs://share.example.org": address})
    finally:
        server.stop()
        thread.join()


@contextlib.contextmanager
def http_read_only(store: Path) -> Iterator[Remote]:
    """A plain file server over a remote's folder, as anybody may read it."""
    handler = functools.partial(_Silent, directory=store)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield in_folder(store, {"https://share.example.org/segcore": f"http://127.0.0.1:{server.server_address[1]}"})
        server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_for_port(port: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {process.stderr.read().strip()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd does not answer")
