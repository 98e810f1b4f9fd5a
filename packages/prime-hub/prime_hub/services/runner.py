"""Keeps a runner alive beside the Hub.

The runner is a program of its own, so that sandboxes outlive a Hub that is restarted or dies. The Hub starts it
detached, tells it every few seconds that it is there, and starts another when nobody answers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from prime_hub.errors import HubError, Unavailable
from prime_hub.services.runner_client import RunnerClient, RunnerDown
from prime_hub.settings import Settings

HEARTBEAT_SECONDS = 3.0
START_SECONDS = 20.0
IDLE_EXIT_SECONDS = 15
BEAT_SECONDS = 10.0  # for the answer to one
HUNG_SECONDS = 60.0
RETRY_SECONDS = (0.2, 1.0, 3.0, 10.0)
_SECRET = re.compile(
    r"(API_?KEY|ACCESS_KEY|ACCOUNT_KEY|STORAGE_KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|DATABASE_URL)($|_)", re.IGNORECASE
)

log = logging.getLogger("prime_hub.runner")

T = TypeVar("T")


class Runner:
    """The machine's runner as the Hub knows it. `info` is what it said of itself at the last heartbeat."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: RunnerClient | None = None
        self._socket: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._look = asyncio.Event()
        self._stopping = False
        self._unanswered = 0  # heartbeats in a row
        self.state = "starting"
        self.info: dict[str, Any] = {}
        self.on_change: Callable[[], None] = lambda: None
        self.on_ready: list[Callable[[], Awaitable[None]]] = []
        """Called after each runner, a new or the same, has been reached (again)."""

    def health(self) -> dict[str, Any]:
        """What /health says of it."""
        return {
            "state": self.state,
            "runtime": self.info.get("runtime"),
            "isolating": self.isolating,
            "enforces": list(self.info.get("enforces") or ()),
            "not_enforced": list(self.info.get("not_enforced") or ()),
        }

    @property
    def pid(self) -> int | None:
        """The runner's process id, once it is known."""
        return self.info.get("pid")

    @property
    def host(self) -> str:
        """The name of the runner's host."""
        return str(self.info.get("host") or "")

    @property
    def runtime(self) -> str:
        """The name of its runtime."""
        return str(self.info.get("runtime") or "")

    @property
    def images_kind(self) -> str:
        """Which images it can use: `venv` or `oci`."""
        return str(self.info.get("images_kind") or "")

    @property
    def isolating(self) -> bool:
        """Whether its sandboxes are walled off from the machine and from each other."""
        return bool(self.info.get("isolating"))

    @property
    def isolates_builds(self) -> bool:
        """Whether what runs while it builds an image is walled off as well."""
        return bool(self.info.get("isolates_builds"))

    async def client(self, wait: float = START_SECONDS + 5) -> RunnerClient:
        """The runner's client, once it is ready. Raises Unavailable, with the end of its log, when it does not come."""
        if not self._ready.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), wait)
        if self._client is None or not self._ready.is_set():
            tail = self._log_tail()
            what = "is not answering" if self._unanswered else "is not running"
            raise Unavailable(f"The Hub's runner {what}." + (f" Its log ends: {tail}" if tail else ""))
        return self._client

    def start(self) -> None:
        """Begin to supervise, in the background."""
        self._settings.runner_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._task = asyncio.create_task(self._supervise(), name="runner-supervisor")

    async def stop(self) -> None:
        """Let go: the runner ends by itself once nothing of it is alive, and keeps what is."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(HubError):
            try:
                await self._detach()
            except RunnerDown:
                # It was killed, and nobody has taken its place yet: without one, what it left would outlive its leases.
                if self._left_sandboxes():
                    await self._spawn()
                    await self._detach()
        if self._client is not None:
            await self._client.close()
        if self._process is not None and self._process.poll() is None:
            # It is meant to outlive this process, which therefore must not warn about a child left behind.
            self._process.returncode = 0

    async def _detach(self) -> None:
        if self._client is not None:
            await self._client.call("POST", "/detach", {"hub_pid": os.getpid()}, timeout=3)

    def _left_sandboxes(self) -> bool:
        folder = self._settings.runner_dir / "sandboxes"
        return folder.is_dir() and any(folder.iterdir())

    def _suspect(self) -> None:
        """Somebody got no answer: look now, and let those who need the runner wait until it is there again."""
        self._ready.clear()
        self._look.set()

    async def _supervise(self) -> None:
        failures = 0
        while not self._stopping:
            self._look.clear()
            try:
                await self._beat()
                failures = 0
                pause = HEARTBEAT_SECONDS
            except RunnerDown:
                self._lost()
                pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                await self._spawn()
                self._look.clear()  # set by the call that has just failed here
            except Unavailable as error:
                log.warning("%s", error)
                self._not_answering()
                pause = RETRY_SECONDS[0]
            except HubError as error:
                log.warning("the runner did not take the heartbeat: %s", error)
                self._unanswered = 0
                pause = HEARTBEAT_SECONDS
            except Exception:
                log.exception("the runner could not be supervised")
                pause = HEARTBEAT_SECONDS
            if self._process is not None:
                self._process.poll()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), pause)

    async def _beat(self) -> None:
        client = await self._connect()
        await client.call("POST", "/attach", {"hub_pid": os.getpid()}, timeout=BEAT_SECONDS)
        self._unanswered = 0
        if self._ready.is_set():
            return
        self.info = await client.call("GET", "/info")
        self.state = "ready"
        self._ready.set()
        log.info("runner %s is ready (runtime %s)", self.pid, self.runtime)
        self.on_change()
        for callback in self.on_ready:
            try:
                await callback()
            except Exception:
                log.exception("reconciling with the runner failed")

    def _lost(self) -> None:
        self._ready.clear()
        self._unanswered = 0
        if self.pid is not None:
            log.warning("the runner %s has gone; starting another", self.pid)
            self.info = {**self.info, "pid": None}
            self.state = "down"
            self.on_change()

    def _not_answering(self) -> None:
        """It is there and does not answer. For a while that may be the machine; then another one takes its place, which
        finds the sandboxes alive.
        """
        self._ready.clear()
        if self.state == "ready":
            self.state = "down"
            self.on_change()
        # Counted by what was asked: while this program or the whole machine stood still, nobody was silent.
        self._unanswered += 1
        # One that hung before this Hub came has told it nothing of itself.
        pid = self.pid or self._recorded("pid", int)
        if self._unanswered * BEAT_SECONDS >= HUNG_SECONDS and pid is not None and self._is_runner(pid):
            log.error("the runner %s has not answered for %g seconds; replacing it", pid, HUNG_SECONDS)
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _is_runner(self, pid: int) -> bool:
        """Whether that process is this Hub's runner still, and not another program of the same number."""
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"prime_hub.runner" in words and os.fsencode(self._settings.runner_dir) in words

    async def _connect(self) -> RunnerClient:
        socket = self._socket_path()
        if self._client is None or socket != self._socket:
            if self._client is not None:
                await self._client.close()
            self._socket, self._client = socket, RunnerClient(socket, self._suspect)
        return self._client

    def _socket_path(self) -> Path:
        # A data folder with a long name has its socket elsewhere (a unix socket's path is limited to some 100 bytes).
        return Path(self._recorded("socket", str) or self._settings.runner_dir / "runner.sock")

    def _recorded(self, name: str, kind: type[T]) -> T | None:
        """What the runner wrote down of itself at its start."""
        try:
            found = json.loads((self._settings.runner_dir / "runner.json").read_text()).get(name)
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, kind) else None

    async def _spawn(self) -> None:
        """Start a runner and wait until its socket answers, or it has ended, or the time is over."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [sys.executable, "-m", "prime_hub.runner", "--dir", str(self._settings.runner_dir)]
        command += ["--idle-exit", str(IDLE_EXIT_SECONDS)]
        if self._settings.runtime:
            command += ["--runtime", self._settings.runtime]
        for name, value in self._settings.runtime_options.items():
            command += ["--option", f"{name}={value}"]
        environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        environment["PRIME_HUB_LOG_FORMAT"] = self._settings.log_format
        with (self._settings.runner_dir / "runner.log").open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for
                command,
                cwd=self._settings.runner_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(HubError):
                client = await self._connect()
                await client.call("GET", "/info", timeout=2)
                return
            await asyncio.sleep(0.05)
        if self._process.poll() is not None:
            self.state = "down"
            log.error("the runner ended at its start (exit code %s): %s", self._process.returncode, self._log_tail())

    def _log_tail(self, size: int = 1500) -> str:
        try:
            with (self._settings.runner_dir / "runner.log").open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
                return " | ".join(stream.read().decode("utf-8", "replace").split("\n")).strip(" |")
        except OSError:
            return ""
