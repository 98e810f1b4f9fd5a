"""`prime env pull` and `install` from a Hub that means harm: nothing is written outside, and memory stays small."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import PRIME, Prime
from tests.hub import hostile_archives, hostile_wheels

MIB = 1 << 20
MOST = 400 * MIB
# A program counts the memory of whoever started it as its own until it is running: so a small one starts it and looks.
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


class Mallory:
    """A Hub that answers with whatever it was given."""

    def __init__(self) -> None:
        self.detail: bytes = b"{}"
        self.file = b""
        self.encoding = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_file = self.path.startswith("/file")
                body = outer.file if is_file else outer.detail
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                if outer.encoding and not is_file:
                    self.send_header("Content-Encoding", outer.encoding)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # it has heard enough

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def gives(self, file: bytes, **detail: str) -> None:
        """Answer with this file as source and wheel of my-env 0.1.0."""
        self.file, digest = file, hashlib.sha256(file).hexdigest()
        own = {"id": "1", "name": "my-env", "semantic_version": "0.1.0", "package_url": f"{self.url}/file"}
        wheel = {"wheel_url": f"{self.url}/file", "wheel_filename": "tricky-0.1.0-py3-none-any.whl"}
        hashes = {"package_sha256": digest, "wheel_sha256": digest}
        versions = {"versions": [{"version": "0.1.0"}], "distributions": []}
        self.detail = json.dumps(
            {"data": {**own, **wheel, **hashes, **versions, **detail}, "distributions": []}
        ).encode()


@pytest.fixture
def mallory() -> Iterator[Mallory]:
    hub = Mallory()
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


def refused(prime: Prime, mallory: Mallory, *args: str) -> str:
    """Run a command that must fail in one sentence, with little memory; what it said."""
    before = {path for path in prime.cwd.parent.rglob("*") if prime.home not in path.parents}
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURED, PRIME, *args],
        cwd=prime.cwd,
        env=prime.environment(PRIME_API_BASE_URL=mallory.url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = ran.stderr
    assert ran.returncode == 1 and "Error: " in said and "Traceback" not in said, said
    assert int(ran.stdout) * 1024 < MOST
    assert {path for path in prime.cwd.parent.rglob("*") if prime.home not in path.parents} == before
    return said


@pytest.mark.parametrize(
    "kind",
    [
        "up",
        "absolute",
        "symbolic link outside",
        "sparse, new",
        "headers of headers",
        "ten gigabytes in one",
        "a million files",
    ],
)
def test_a_source_that_is_not_unpacked(prime: Prime, mallory: Mallory, kind: str) -> None:
    make, words = hostile_archives.REFUSED[kind]
    mallory.gives(make())
    assert words in refused(prime, mallory, "env", "pull", "mallory/my-env", "-t", "copy")


@pytest.mark.parametrize(
    "kind",
    [
        "up",
        "symbolic link",
        "a file between",
        "ten gigabytes",
        "a million entries",
        "METADATA of 100 MB",
        "a requirement that is none",
    ],
)
def test_a_wheel_that_is_not_installed(prime: Prime, mallory: Mallory, kind: str) -> None:
    make, words = hostile_wheels.REFUSED[kind]
    mallory.gives(make())
    assert words in refused(prime, mallory, "env", "install", "mallory/tricky@0.1.0")


def test_an_answer_of_ten_gigabytes(prime: Prime, mallory: Mallory) -> None:
    mallory.detail, mallory.encoding = hostile_wheels.zeros(160), "deflate"
    assert "is larger than" in refused(prime, mallory, "env", "pull", "mallory/my-env")


def test_the_folder_of_a_pull_is_not_the_hubs_to_name(prime: Prime, mallory: Mallory) -> None:
    mallory.gives(hostile_archives.packed(*hostile_archives.GOOD), name="../../outside")
    work = prime.cwd / "deep" / "deeper"
    work.mkdir(parents=True)
    prime.ok("env", "pull", "mallory/my-env", cwd=work, PRIME_API_BASE_URL=mallory.url)
    assert (work / "my_env" / "README.md").is_file()
    assert [path.name for path in prime.cwd.rglob("outside*")] == []


def test_a_wheels_name_leads_nowhere(prime: Prime, mallory: Mallory) -> None:
    mallory.gives(b"x", wheel_filename="../../../evil-0.1.0-py3-none-any.whl")
    assert "is not the name of a wheel" in refused(prime, mallory, "env", "install", "mallory/tricky@0.1.0")
