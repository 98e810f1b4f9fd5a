"""A Hub of its own for one runtime, with the benchmark's image; nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from official.scratch import Failed

from prime_core.connection import Connection
from prime_sandboxes import ImageClient

START_SECONDS = 60.0
SERVER = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
def health():
    return {"status": "healthy"}
"""
DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY server.py .
EXPOSE 8000
CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
"""
REQUIREMENTS = "fastapi>=0.115,<1\nuvicorn>=0.34,<1\n"


@dataclass(frozen=True)
class Place:
    """Where it is measured: the Hub, its image, the build context, and how long building the image took (seconds)."""

    runtime: str
    connection: Connection
    folder: Path
    context: Path
    image: str
    digest: str
    engine: str | None


@contextlib.contextmanager
def place(runtime: str, engine: str | None) -> Generator[Place]:
    """Start a Hub and build the image. Raises Failed."""
    folder = Path(tempfile.mkdtemp(prefix="prime-bench-"))
    command = [sys.executable, "-m", "prime_hub", "serve", "--data-dir", str(folder / "hub"), "--port", "0"]
    command += ["--runtime", runtime, *(["--runtime-option", f"engine={engine}"] if engine else [])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIME_")}
    log = folder / "hub.log"
    with log.open("wb") as output:
        hub = subprocess.Popen(command, env=kept, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        connection = _connection(folder / "hub", hub, log)
        context = folder / "context"
        context.mkdir()
        for name, text in (("Dockerfile", DOCKERFILE), ("server.py", SERVER), ("requirements.txt", REQUIREMENTS)):
            (context / name).write_text(text)
        with ImageClient(connection) as images:
            build = images.build("bench", "latest", context, port=8000)
        if build.status != "COMPLETED" or build.image is None or build.digest is None:
            raise Failed(f"The image could not be built with {runtime}: {build.error}")
        yield Place(runtime, connection, folder, context, build.image, build.digest, engine)
    finally:
        hub.terminate()
        hub.wait(60)
        _wait_for_runner(folder / "hub")
        shutil.rmtree(folder, ignore_errors=True)


def _connection(folder: Path, hub: subprocess.Popen[bytes], log: Path) -> Connection:
    deadline = time.monotonic() + START_SECONDS
    while hub.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            about = json.loads((folder / "hub.json").read_text())
            return Connection(about["url"], about["url"], (folder / "owner.token").read_text().strip())
        time.sleep(0.02)
    raise Failed(f"The Hub did not start: {log.read_text(errors='replace')[-2000:]}")


def _wait_for_runner(folder: Path) -> None:
    """The runner ends by itself, a little after its Hub; its folder is its own until then."""
    deadline = time.monotonic() + START_SECONDS
    while (folder / "runner" / "runner.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
