"""A real runner program on a real socket, and what tests need to build and watch what it does."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SERVER = """
import argparse, http.server, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("--host", default="0.0.0.0")
parser.add_argument("--port", type=int, default=8000)
given = parser.parse_args()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.getcwd().encode() if self.path == "/cwd" else b"ok")
    def log_message(self, *words):
        pass
print("listening", flush=True)
http.server.ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
"""
DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
COPY server.py .
EXPOSE 8000
CMD ["python", "server.py", "--host", "0.0.0.0", "--port", "8000"]
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Runner:
    """One runner program and a client of its socket."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._cache = cache
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None

    def start(self, *options: str) -> None:
        env = {**os.environ, "PRIME_CACHE_DIR": str(self._cache), "A_SECRET": "hidden", "AN_API_KEY": "hidden"}
        command = [
            sys.executable,
            "-m",
            "prime_hub.runner",
            "--dir",
            str(self.folder),
            "--runtime",
            "process",
            *(options or ("--idle-exit", "300")),
        ]
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 30
        while self.about().get("pid") != self._process.pid:
            assert self._process.poll() is None, (self.folder / "runner.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.connect()

    def about(self) -> dict:
        try:
            return json.loads((self.folder / "runner.json").read_text())
        except (OSError, ValueError):
            return {}

    def connect(self) -> None:
        self.disconnect()
        transport = httpx.HTTPTransport(uds=self.about()["socket"])
        self._http = httpx.Client(transport=transport, base_url="http://runner", timeout=90)

    def disconnect(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_exit(self) -> int:
        assert self._process is not None
        return self._process.wait(30)

    def stop(self) -> None:
        self.disconnect()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)

    def call(self, method: str, path: str, status: int = 200, **keywords) -> dict:
        assert self._http is not None
        reply = self._http.request(method, path, **keywords)
        assert reply.status_code == status, reply.text
        return reply.json()

    def raw(self, method: str, path: str, **keywords) -> httpx.Response:
        assert self._http is not None
        return self._http.request(method, path, **keywords)

    def raw_quietly(self, method: str, path: str) -> None:
        """A request whose runner may be killed meanwhile."""
        with contextlib.suppress(httpx.TransportError):
            self.raw(method, path)

    def begin_build(self, files: dict[str, str | bytes], **fields) -> str:
        build_id = uuid.uuid4().hex
        archive = self.folder.parent / f"{build_id}.tar.gz"
        write_archive(archive, files)
        self.call("POST", "/builds", 202, json={"id": build_id, "context": str(archive), **fields})
        return build_id

    def build(self, files: dict[str, str | bytes], **fields) -> dict:
        return self.call("GET", f"/builds/{self.begin_build(files, **fields)}?wait=55")

    def log(self, build_id: str) -> str:
        return self.call("GET", f"/builds/{build_id}/log")["text"]

    def server_image(self, **changes: str) -> str:
        """An image of a small HTTP server, with other files or another Dockerfile."""
        return self.image({"Dockerfile": DOCKERFILE, "server.py": SERVER, **changes})

    def image(self, files: dict[str, str | bytes]) -> str:
        built = self.build(files)
        assert built["status"] == "ready", built["error"] + self.log(built["id"])
        return built["digest"]

    def sandbox(self, digest: str, **fields) -> dict:
        """A sandbox that has started, or failed to. A start command that names no port gets one that is free:
        the image's own would have to be free on this machine, where other tests run too.
        """
        if "8000" not in str(fields.get("start_command", "8000")):
            fields.setdefault("port", free_port())
        sandbox_id = fields.pop("id", None) or uuid.uuid4().hex
        self.call("POST", "/sandboxes", 201, json={"id": sandbox_id, "digest": digest, **fields})
        return self.call("GET", f"/sandboxes/{sandbox_id}?wait=30")

    def exec(self, sandbox_id: str, command: str, **fields) -> dict:
        return self.call("POST", f"/sandboxes/{sandbox_id}/exec", json={"command": command, **fields})

    def until(self, sandbox_id: str, *statuses: str) -> dict:
        deadline = time.monotonic() + 30
        while (state := self.call("GET", f"/sandboxes/{sandbox_id}"))["status"] not in statuses:
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def healthy(self, sandbox_id: str, port: int = 8000, path: str = "/") -> str:
        reached = self.call("POST", f"/sandboxes/{sandbox_id}/expose", json={"port": port})
        deadline = time.monotonic() + 30
        while True:
            try:
                return httpx.get(f"http://{reached['host']}:{reached['port']}{path}").text
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.call("GET", f"/sandboxes/{sandbox_id}/logs")["logs"]
                time.sleep(0.05)

    @staticmethod
    def marked(sandbox_id: str) -> list[int]:
        """Processes of a sandbox, by its mark in their environment; zombies have none."""
        wanted = f"PRIME_SANDBOX_ID={sandbox_id}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
        return found

    @staticmethod
    def accepts(port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(5)
            return probe.connect_ex(("127.0.0.1", port)) == 0


def write_archive(target: Path, files: dict[str, str | bytes]) -> None:
    with tarfile.open(target, "w:gz") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="session")
def runner_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def runner(tmp_path: Path, runner_cache: Path) -> Iterator[Runner]:
    program = Runner(tmp_path / "runner", runner_cache)
    program.start()
    yield program
    program.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, runner_cache: Path) -> Iterator[Runner]:
    """A runner for the tests of one file that leave it as it was."""
    program = Runner(tmp_path_factory.mktemp("shared") / "runner", runner_cache)
    program.start()
    yield program
    program.stop()
