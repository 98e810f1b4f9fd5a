"""Small real things for these tests: environments on disk, wheels, and web servers on loopback."""

from __future__ import annotations

import hashlib
import http.server
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_core.api import APIClient
from prime_core.metadata import read_metadata
from prime_core.packaging import (
    archive_files,
    build_wheel,
    content_hash,
    describe_wheel,
    sha256_of,
    write_source_archive,
)

PYPROJECT = """\
[project]
name = "{name}"
version = "{version}"
description = "Made for a test"
tags = ["games", "eval"]
dependencies = {dependencies}
"""
MODULE = (
    "from pathlib import Path\n\nHERE = Path(__file__).parent\n\n\ndef load_environment():\n    return {result!r}\n"
)


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write these files below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def make_environment(
    base: Path,
    name: str = "my-env",
    version: str = "0.1.0",
    dependencies: tuple[str, ...] = (),
    more: str = "",
    files: dict[str, str] | None = None,
) -> Path:
    """A standard environment in the seed's layout; `more` goes to the end of pyproject.toml."""
    module = name.replace("-", "_")
    project = PYPROJECT.format(name=name, version=version, dependencies=list(dependencies))
    return write_files(
        base / module,
        {
            "pyproject.toml": project + more,
            "README.md": f"# {name}\n",
            f"{module}.py": MODULE.format(result=name),
            **(files or {}),
        },
    )


def make_openenv(base: Path, name: str = "my-env", **options: Any) -> Path:
    """An OpenEnv environment in the seed's flat layout, built."""
    files = {
        "proj/Dockerfile": 'FROM python:3.11-slim\nCOPY server.py .\nCMD ["uvicorn", "server:app", "--port", "8000"]\n',
        "proj/server.py": f"# the server of {name}\n",
        "proj/requirements.txt": "fastapi\n",
        "proj/.build.json": '{"image": "x"}\n',
    }
    return make_environment(base, name, files=files, **options)


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    requires: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
    says: str = "",
) -> Path:
    """A valid pure-Python wheel; `says` ends up in its module, so that two wheels of one version can differ."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {line}" for line in requires),
    ]
    content = {
        f"{module}/__init__.py": f"VERSION = {version!r}\nSAYS = {says!r}\n",
        **(files or {}),
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in content.items():
            archive.writestr(zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0)), text)
    return path


@dataclass
class Seen:
    """One request that a server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What a server says: a JSON text or bytes."""

    status: int = 200
    body: bytes | str = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """A web server of a test: its address and what it was asked."""

    url: str
    seen: list[Seen]


@contextmanager
def serve(answer: Callable[[Seen], Answer]) -> Iterator[Site]:
    """A web server on a free port of 127.0.0.1 that answers as `answer` says, as long as the block lasts."""
    seen: list[Seen] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Seen(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            seen.append(request)
            given = answer(request)
            content = given.body.encode() if isinstance(given.body, str) else given.body
            self.send_response(given.status)
            for name, value in {"Content-Length": str(len(content)), **given.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any

        def log_message(self, *_: object) -> None:
            return

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            # A client that goes away in the middle is part of some tests.
            return

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_address[1]}", seen)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve_index(folder: Path) -> Iterator[Site]:
    """A package index (PEP 503) of the wheels in `folder`, whatever is there at the time."""

    def answer(request: Seen) -> Answer:
        parts = [part for part in request.path.split("/") if part]
        wheels = sorted(folder.glob("*.whl"))
        if parts[:1] == ["files"]:
            return Answer(body=(folder / parts[1]).read_bytes(), headers={"Content-Type": "application/zip"})
        found = [wheel for wheel in wheels if wheel.name.split("-")[0].replace("_", "-") == parts[-1]]
        if not found:
            return Answer(404, "no such project")
        links = "".join(
            f'<a href="/files/{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>\n'
            for wheel in found
        )
        return Answer(body=f"<!DOCTYPE html><html><body>{links}</body></html>", headers={"Content-Type": "text/html"})

    with serve(answer) as site:
        yield Site(f"{site.url}/simple/", site.seen)


def publish(client: APIClient, env_dir: Path, wheel: Path | None = None, visibility: str | None = None) -> str:
    """Publish a folder (with another wheel than its own, when given) by the six calls of a push; the reference."""
    metadata = read_metadata(env_dir)
    with tempfile.TemporaryDirectory() as scratch:
        built = describe_wheel(wheel) if wheel else build_wheel(env_dir, Path(scratch))
        archive = write_source_archive(env_dir, Path(scratch) / "source.tar.gz")
        digest = content_hash(archive_files(env_dir))
        about = {
            "description": metadata.description,
            "tags": metadata.tags,
            "requires_dist": built.metadata["requires_dist"],
        }
        answer = client.post("/environmentshub/resolve", {"name": metadata.name, "visibility": visibility or "PUBLIC"})[
            "data"
        ]
        base = f"/environmentshub/{answer['id']}"
        common = {"content_hash": digest, "semantic_version": metadata.version, "metadata": about}
        body = {**common, "filename": built.path.name, "sha256": built.sha256, "size": built.size}
        made = client.post(f"{base}/wheels", body)["data"]
        if made["upload_url"]:
            client.upload(made["upload_url"], built.path)
            client.post(f"{base}/wheels/{made['wheel_id']}/finalize")
        body = {**common, "filename": "source.tar.gz", "sha256": sha256_of(archive)}
        made = client.post(f"{base}/versions", body)["data"]
        client.upload(made["upload_url"], archive)
        assert client.post(f"{base}/versions/{made['version_id']}/finalize")["data"]["success"]
    return f"{answer['owner']['name']}/{metadata.name}"
