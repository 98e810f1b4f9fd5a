"""Broken environments, made of a sound one and what is wrong; and servers of theirs as plain programs of this interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from prime_core.project import project_dir, read_project
from prime_hub.runner.processes import listening
from verifiers.checking import Target, of_folder
from verifiers.openenv.building import manifest_of
from verifiers.openenv.source import Address, Room, RunningServer

BROKEN = Path(__file__).parent / "broken"
BASE = "base"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Program:
    """A server process; `ports` are the ports that its start command names, by those that it has here."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    ports: dict[int, int]
    command: str
    started: float = field(default_factory=time.monotonic)
    socket_path: str | None = None

    async def ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"exit code {code}"

    async def logs(self) -> str:
        return self.log.read_text(errors="replace")

    async def listening(self) -> list[Address]:
        found = listening([self.process.pid])
        return [
            Address(one.host, self.ports.get(one.port, one.port), meant_everywhere="0.0.0.0" in self.command)
            for one in found
        ]

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.wait)


class Programs:
    """A `ServerSource` that runs a project's start command with this interpreter, as the process runtime does: ports are
    others, and the network is a proxy (or one that refuses everything).
    """

    starts = True
    limit: int | None = None

    def __init__(self, folder: Path, command: str, port: int, proxy: str, refusing: str) -> None:
        self.folder, self.command, self.port, self.proxy, self.refusing = folder, command, port, proxy, refusing
        self.programs: list[Program] = []

    async def start(self) -> Program:
        return self.spawn()

    def spawn(self) -> Program:
        ports: dict[int, int] = {}
        words = []
        for word in self.command.split():
            if word.isdigit():
                here = free_port()
                ports[here] = int(word)
                word = str(here)
            words.append({"uvicorn": f"{sys.executable} -m uvicorn", "0.0.0.0": "127.0.0.1"}.get(word, word))
        asked = next((here for here, named in ports.items() if named == self.port), None) or free_port()
        log = self.folder / f"{asked}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                " ".join(words).split(),
                cwd=self.folder,
                env={**os.environ, "HTTP_PROXY": self.proxy, "http_proxy": self.proxy, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.programs.append(Program(process, f"http://127.0.0.1:{asked}", log, ports, self.command))
        return self.programs[-1]

    async def room(self, server: RunningServer) -> Room | None:
        return None

    async def aclose(self) -> None:
        return None

    async def usage(self, server: Program) -> tuple[int, int]:
        """Memory (their part of what they share) and number of the processes of the program's group."""
        memory = count = 0
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if os.getpgid(int(place.name)) == server.process.pid:
                    text = (place / "smaps_rollup").read_text()
                    memory += next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
                    count += 1
        return memory, count

    async def network_reason(self) -> str | None:
        return None

    def without_network(self) -> Programs:
        return Programs(self.folder, self.command, self.port, self.refusing, self.refusing)

    @property
    def alive(self) -> list[Program]:
        return [program for program in self.programs if program.process.poll() is None]


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status)  # ty: ignore[unresolved-attribute]
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"digits")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxies() -> Iterator[tuple[str, str]]:
    """The addresses of two HTTP proxies: one answers whatever is asked for, one refuses it, as a sandbox's own does."""
    servers = []
    for status in (200, 403):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
        server.status = status  # ty: ignore[unresolved-attribute]
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    yield tuple(f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """`made("no_readme")`: that environment's folder: the sound one with the broken one's files over it."""

    def make(name: str) -> Path:
        folder = tmp_path / "environments" / "guess"
        shutil.copytree(BROKEN / BASE, folder)
        shutil.copyfile(folder / "proj" / "game.py", folder / "proj" / "sound_game.py")
        if name != BASE:
            shutil.copytree(BROKEN / name, folder, dirs_exist_ok=True)
        removed = folder / "REMOVED"
        if removed.is_file():
            for gone in removed.read_text().split():
                (folder / gone).unlink()
            removed.unlink()
        return folder

    return make


@pytest.fixture
def played(proxies: tuple[str, str]) -> Iterator[Callable[[Path], Target]]:
    """`played(folder)`: the target of an environment whose servers are plain programs; all are gone after the test."""
    sources: list[Programs] = []

    def make(folder: Path) -> Target:
        target = of_folder(folder, python=Path(sys.executable))
        project = read_project(project_dir(folder))
        target.prepare = None
        target.manifest = manifest_of(project, folder.name, project.contract or "gym", "", "guess:latest", None)
        source = Programs(project.root, target.manifest.start_command, project.port, *proxies)
        sources.append(source)
        target.source = source
        return target

    yield make
    left = [program for source in sources for program in source.alive]
    for program in left:
        os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait()
    assert not left, "the check left servers running"
