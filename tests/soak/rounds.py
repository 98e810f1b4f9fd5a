"""Rounds of SIGKILL: to the evaluator, the Hub or the runner, at a random moment of a sandbox's life.

After each round everything of it has to be gone one lease later, by the table, by the runner, and by what this host
shows: processes, folders, sockets, mounts, control groups, containers and networks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from prime_core.connection import Connection
from prime_hub.runner.runtimes.conformance.host import DOCKERFILE, SERVER, processes_with
from prime_sandboxes import ImageClient
from tests.conftest import RunningHub

VICTIMS = ("evaluator", "hub", "runner")
MOMENTS = ("create", "start", "exec", "delete")
LEASE = 4.0
GOES_ON_SECONDS = 60.0
GONE_SECONDS = 60.0


@dataclass(frozen=True)
class Round:
    """What was done, and how long after the last client's death everything of it was gone, in seconds."""

    victim: str
    moment: str
    clean_after: float


class Soak:
    """One Hub that is treated badly. `engine` is the socket of its container engine, where it has one."""

    def __init__(self, hub: RunningHub, folder: Path, seed: int, runtime: str, engine: str | None = None) -> None:
        self.hub = hub
        self._folder = folder
        self._random = random.Random(seed)
        self._runtime = runtime
        self._engine = engine
        self._mark = f"soak-{uuid.uuid4().hex[:12]}"
        self._image = self._build()
        self._before = self._surroundings()

    def _build(self) -> str:
        context = self._folder / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "server.py").write_text(SERVER)
        self.hub.wait_for_runner()
        with ImageClient(Connection(self.hub.url, self.hub.url, self.hub.token)) as images:
            build = images.build("soak", "latest", context)
        assert build.status == "COMPLETED", build
        return str(build.image)

    def round(self) -> Round:
        """One round. Raises AssertionError with what is left, or with what did not go on."""
        victim, moment = self._random.choice(VICTIMS), self._random.choice(MOMENTS)
        script = Path(__file__).with_name("evaluator.py")
        evaluator = subprocess.Popen(
            [sys.executable, str(script), self._image, f"{LEASE:g}", self._mark],
            env=self.hub.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            words = _words(evaluator)
            _until(words, moment, self._random.randint(1, 5), f"the evaluator never came to {moment}")
            time.sleep(self._random.random() * 0.08)
            self._kill(victim, evaluator)
            if victim != "evaluator":
                # What is left alive goes on by itself: three more sandboxes go through their whole life.
                _until(words, "deleted", 3, f"after the {victim} was killed at {moment} no sandbox could be had")
                time.sleep(self._random.random() * 0.3)
        finally:
            with contextlib.suppress(ProcessLookupError):
                evaluator.kill()
            evaluator.wait()
            assert evaluator.stdout is not None
            evaluator.stdout.close()
        began = time.monotonic()
        while left := self.left():
            assert time.monotonic() - began < GONE_SECONDS, f"{victim} killed at {moment}; left: {left}"
            time.sleep(0.1)
        return Round(victim, moment, time.monotonic() - began)

    def _kill(self, victim: str, evaluator: subprocess.Popen[str]) -> None:
        if victim == "evaluator":
            evaluator.send_signal(signal.SIGKILL)
        elif victim == "hub":
            self.hub.close_clients()
            self.hub.kill()
            time.sleep(self._random.random() * 0.5)
            self.hub.start()
        else:
            pid = self.hub.runner_pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    # What there is.

    def left(self) -> list[str]:
        """What is there that should not be; nothing when table, runner and host agree that all is gone."""
        found = []
        listed = self.hub.api.get("/sandbox", params={"is_active": True}).json()
        found += [f"the table: {item['id']} {item['status']}" for item in listed["sandboxes"]]
        found += [f"the runner: {item}" for item in self._of_the_runner()]
        found += [f"process {pid}" for pid in processes_with(self._mark)]
        found += sorted(self._surroundings() - self._before)
        return found

    def _of_the_runner(self) -> list[str]:
        socket = self.hub.data_dir / "runner" / "runner.json"
        try:
            path = json.loads(socket.read_text())["socket"]
            with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://runner", timeout=30) as http:
                rows = http.get("/sandboxes").json()["sandboxes"]
        except (OSError, ValueError, httpx.HTTPError) as error:
            return [f"it does not answer ({type(error).__name__})"]
        return [f"{row['id']} {row['status']}" for row in rows if row["status"] in ("queued", "starting", "running")]

    def _surroundings(self) -> set[str]:
        """Folders, sockets, mounts, control groups, containers and networks that sandboxes leave marks in."""
        runner = self.hub.data_dir / "runner"
        found = {f"folder {path}" for name in ("sandboxes", "sockets", "scratch") for path in _inside(runner / name)}
        found |= {f"mount {line.split()[1]}" for line in _lines("/proc/self/mounts") if str(runner) in line}
        found |= {f"socket {line.split()[-1]}" for line in _lines("/proc/net/unix") if _is_sandbox_socket(line, runner)}
        # Each runner has a name of its own for its groups, containers and networks, made from its folder's.
        digest = hashlib.sha256(os.fsencode(runner.resolve())).hexdigest()
        for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"):
            found |= {f"cgroup {path}" for path in Path(top, f"prime-{digest[:12]}").glob("*/") if path.is_dir()}
        return found | self._of_the_engine("container", "volume")

    def _of_the_engine(self, *kinds: str) -> set[str]:
        if self._engine is None:
            return set()
        runner = (self.hub.data_dir / "runner").resolve()
        owner = hashlib.sha256(f"{self._runtime}:{runner}".encode()).hexdigest()[:8]
        transport = httpx.HTTPTransport(uds=self._engine.removeprefix("unix://"))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as http:
            named = [name for item in http.get("/v1.40/containers/json?all=1").json() for name in item["Names"]]
            found = {
                "container": named,
                "volume": [item["Name"] for item in http.get("/v1.40/volumes").json().get("Volumes") or []],
                "network": [item["Name"] for item in http.get("/v1.40/networks").json()],
            }
        return {f"{kind} {name}" for kind in kinds for name in found[kind] if owner in name}

    def left_at_the_end(self) -> set[str]:
        """What is there although the Hub and its runner have ended: what all sandboxes of a runner share, too."""
        return self._surroundings() | self._of_the_engine("network")


def _is_sandbox_socket(line: str, runner: Path) -> bool:
    path = line.split()[-1]
    return str(runner) in path and "runner.sock" not in path


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def _words(evaluator: subprocess.Popen[str]) -> Iterator[str]:
    assert evaluator.stdout is not None
    for line in evaluator.stdout:
        yield line.strip()


def _until(words: Iterator[str], wanted: str, times: int, sentence: str) -> None:
    """Read on until a word came so often."""
    deadline, heard = time.monotonic() + GOES_ON_SECONDS, []
    for word in words:
        heard.append(word)
        times -= word == wanted
        if times <= 0:
            return
        assert time.monotonic() < deadline, f"{sentence}: {heard[-10:]}"
    raise AssertionError(f"{sentence}; it ended after {heard[-10:]}")
