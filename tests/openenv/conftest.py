"""Real OpenEnv servers as child processes, and a source that starts them as the sandbox source would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from prime_hub.runner.processes import listening
from verifiers.openenv.source import Address, Room, RunningServer

HERE = Path(__file__).parent


@dataclass
class Child:
    """One server process; a `RunningServer`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    started: float = field(default_factory=time.monotonic)
    socket_path: str | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"exit code {code}"

    async def logs(self) -> str:
        return self.log.read_text(errors="replace")

    async def listening(self) -> list[Address] | None:
        return [Address(found.host, found.port) for found in listening([self.pid])]

    async def stop(self) -> None:
        # Another stop may be waiting in a thread, and reap it in this very moment.
        with contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)


class ChildSource:
    """A `ServerSource` of uvicorn children of this process."""

    starts = True

    def __init__(self, folder: Path, command: list[str] | None = None, limit: int | None = None, **env: str) -> None:
        self.folder, self.command, self.limit, self.env = folder, command, limit, env
        self.children: list[Child] = []

    @property
    def alive(self) -> list[Child]:
        return [child for child in self.children if child.process.poll() is None]

    async def start(self) -> Child:
        return self.spawn()

    def spawn(self) -> Child:
        port = free_port()
        log = self.folder / f"{port}.log"
        uvicorn = [sys.executable, "-m", "uvicorn", "server:app", "--host", "127.0.0.1", "--port", "{port}"]
        command = [part.replace("{port}", str(port)) for part in self.command or uvicorn]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.env},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        child = Child(process, f"http://127.0.0.1:{port}", log)
        self.children.append(child)
        return child

    async def room(self, server: RunningServer) -> Room | None:
        return None

    async def aclose(self) -> None:
        return None

    def kill(self) -> None:
        for child in self.children:
            if child.process.poll() is None:
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_healthy(url: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url + "/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} never became healthy")


def server_text(name: str) -> str:
    """The text of a server by name: "counter", or the seed's own "seed_gym" and "seed_mcp", verbatim."""
    if name == "seed_gym":
        return (HERE / "seed" / "gym_server.txt").read_text()
    if name == "seed_mcp":
        return (HERE / "seed" / "mcp_server.txt").read_text() + (HERE / "servers" / "game.txt").read_text()
    return (HERE / "servers" / f"{name}.py").read_text()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ChildSource]]:
    """`serve("counter", CAPACITY="2")` gives a source of such servers; all are gone after the test."""
    sources = []

    def make(name: str, *, command: list[str] | None = None, limit: int | None = None, **env: str) -> ChildSource:
        folder = tmp_path / f"{name}-{len(sources)}"
        folder.mkdir()
        (folder / "server.py").write_text(server_text(name))
        source = ChildSource(folder, command, limit, **env)
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.kill()


@pytest.fixture
def running(serve: Callable[..., ChildSource]) -> Callable[..., str]:
    """`running("seed_gym")` is the URL of such a server, healthy."""

    def start(name: str, **options: str) -> str:
        url = serve(name, **options).spawn().url
        wait_healthy(url)
        return url

    return start
