"""The machine's own Hub: found by its address file, started in the background when needed, stopped with all it owns.

The Hub is another program (`python -m prime_hub`), never imported. One lock file keeps two commands from starting two.
"""

from __future__ import annotations

import fcntl
import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prime_core.children import hub_environment
from prime_core.errors import LocalHubError
from prime_core.files import write_atomic
from prime_core.paths import hub_data_dir

HOST = "127.0.0.1"
START_SECONDS = 120.0  # a machine may be busy; a Hub that fails says so at once
KILL_SECONDS = 5.0
LOG_TAIL_BYTES = 3000


@dataclass(frozen=True)
class HubAddress:
    """A Hub on this machine: where it listens, its process, its runner's process and its data folder."""

    url: str
    pid: int
    runner_pid: int | None
    data_dir: Path


def read_address(data_dir: Path | None = None) -> dict[str, Any]:
    """The address file `hub.json`, `{}` when there is none that can be read. It says where the Hub was, not that it
    runs.
    """
    try:
        content = json.loads(((data_dir or hub_data_dir()) / "hub.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def owner_token(data_dir: Path | None = None) -> str | None:
    """The token of the machine's owner, from the 0600 file that the Hub writes at its first start; None when there is
    none.
    """
    try:
        return ((data_dir or hub_data_dir()) / "owner.token").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _birth(pid: int) -> str | None:
    """What tells a process from a later one of the same number; None when it has ended, waited for or not."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if state in ("Z", "X") else fields[18]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip() or None


def _is_ours(pid: object) -> bool:
    """Whether `pid` is alive and runs prime_hub: a number may have been given to another program since."""
    if not isinstance(pid, int) or pid <= 1 or _birth(pid) is None:
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        command = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False).stdout
    return b"prime_hub" in command or b"prime-hub" in command


def _health(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """What GET /api/v1/health says, or None. Standard library, so that a look costs no import of httpx."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=timeout)
    try:
        connection.request("GET", "/api/v1/health")
        response = connection.getresponse()
        content = json.loads(response.read(100_000))
        return content if response.status == 200 and isinstance(content, dict) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def running(data_dir: Path | None = None) -> HubAddress | None:
    """The Hub of this data folder when it is alive and answers, else None."""
    data_dir = data_dir or hub_data_dir()
    saved = read_address(data_dir)
    url, pid = saved.get("url"), saved.get("pid")
    if not isinstance(url, str) or not isinstance(pid, int) or not _is_ours(pid):
        return None
    health = _health(url)
    if health is None or health.get("status") != "ok":
        return None
    if saved.get("hub_id") and health.get("hub_id") and saved["hub_id"] != health["hub_id"]:
        return None
    runner_pid = saved.get("runner_pid")
    return HubAddress(url.rstrip("/"), pid, runner_pid if isinstance(runner_pid, int) else None, data_dir)


@contextmanager
def _start_lock(data_dir: Path) -> Generator[None]:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data_dir / "start.lock").open("a")
    except OSError as error:
        raise LocalHubError(f"The Hub's data folder {data_dir} cannot be used: {error.strerror or error}.") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def log_tail(data_dir: Path | None = None, size: int = LOG_TAIL_BYTES, since: int = 0) -> str:
    """The last `size` bytes of `hub.log`, from a line's start and from byte `since` on; empty when there is none."""
    try:
        with ((data_dir or hub_data_dir()) / "hub.log").open("rb") as file:
            start = max(since, file.seek(0, os.SEEK_END) - size)
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return (text.partition("\n")[2] if start > since else text).strip()


def ensure_running(
    data_dir: Path | None = None,
    announce: Callable[[str], object] | None = None,
    port: int | None = None,
    options: Sequence[str] = (),
) -> HubAddress:
    """The Hub of this data folder, started in the background when it does not run; `announce` gets one line then.

    `options` are words of `python -m prime_hub serve` for that start.

    Raises LocalHubError with the tail of the Hub's log when it does not come up within START_SECONDS.
    """
    data_dir = (data_dir or hub_data_dir()).absolute()
    found = running(data_dir)
    if found:
        return found
    python = _hub_python(data_dir)
    with _start_lock(data_dir):
        found = running(data_dir)
        if found:
            return found
        before = _log_size(data_dir)
        process = _spawn(python, data_dir, port, options)
        found = _wait_for(process, data_dir, before)
    if announce:
        announce(f"Started your own Hub at {found.url} (data in {data_dir}; 'prime hub stop' ends it).")
    return found


def _hub_python(data_dir: Path) -> str:
    """The interpreter to start the Hub with: this one, or the one that ran it before, as its address file says."""
    if importlib.util.find_spec("prime_hub") is not None:
        return sys.executable
    before = read_address(data_dir).get("python")
    if isinstance(before, str) and Path(before).is_file():
        return before
    raise LocalHubError(
        "No Hub is configured, and this installation has none of its own to start.",
        "Install it with \"uv pip install 'prime[hub]'\", or name a Hub with 'prime config set-base-url URL'.",
    )


def _spawn(python: str, data_dir: Path, port: int | None, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [python, "-m", "prime_hub", "serve", "--data-dir", str(data_dir), *options]
    # Without one the Hub takes the port of its last run, or finds one; 0 is any free one.
    command += ["--port", str(port)] if port is not None else []
    with (data_dir / "hub.log").open("ab") as log:
        # The data folder as working directory: no `prime_hub` folder of the user's can be taken for the program.
        return subprocess.Popen(
            command,
            cwd=data_dir,
            # A server that outlives the command must not carry the user's other keys around.
            env=hub_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _log_size(data_dir: Path) -> int:
    try:
        return (data_dir / "hub.log").stat().st_size
    except OSError:
        return 0


def _wait_for(process: subprocess.Popen[bytes], data_dir: Path, log_start: int) -> HubAddress:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _failed(f"Your own Hub ended at its start (exit code {process.returncode}).", data_dir, log_start)
        found = running(data_dir) if read_address(data_dir).get("pid") else None
        if found:
            # It outlives this command, which therefore must not warn about a child left behind.
            process.returncode = 0
            return found
        time.sleep(0.05)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    raise _failed(f"Your own Hub did not answer within {START_SECONDS:g} seconds of its start.", data_dir, log_start)


def _failed(sentence: str, data_dir: Path, log_start: int) -> LocalHubError:
    tail = log_tail(data_dir, since=log_start)
    shown = f" The end of {data_dir / 'hub.log'}:\n{tail}" if tail else f" Its log is {data_dir / 'hub.log'}."
    return LocalHubError(sentence + shown, "See 'prime hub logs', or run it in the foreground with 'prime hub serve'.")


def _gone(pid: int, birth: str | None, seconds: float) -> bool:
    # Not by its command line, which a process loses before it is gone.
    deadline = time.monotonic() + seconds
    while birth is not None and _birth(pid) == birth:
        if time.monotonic() >= deadline:
            return False
        _reap(pid)
        time.sleep(0.05)
    return True


def _reap(pid: int) -> None:
    # In the process that started the Hub a dead child stays until it is waited for.
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError:
        pass


def _end(pid: int, timeout: float) -> None:
    """SIGTERM, and SIGKILL after `timeout` seconds. Raises LocalHubError when the process is another user's."""
    birth = _birth(pid)
    try:
        os.kill(pid, signal.SIGTERM)
        if not _gone(pid, birth, timeout):
            os.kill(pid, signal.SIGKILL)
            _gone(pid, birth, KILL_SECONDS)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise LocalHubError(
            f"The Hub's process {pid} belongs to another user and cannot be stopped from here."
        ) from None
    _reap(pid)


def stop(data_dir: Path | None = None, timeout: float = 20.0) -> bool:
    """Stop the Hub of this data folder, then its runner with all sandboxes; True when one of them ran.

    The address file stays, without pids, so that the next start takes the same port. Raises LocalHubError.
    """
    data_dir = data_dir or hub_data_dir()
    if not data_dir.is_dir():
        return False
    with _start_lock(data_dir):
        # The runner's number is read when the Hub has gone: one that was killed may have been replaced at the last moment.
        hub = _end_if_ours(read_address(data_dir).get("pid"), timeout)
        saved = read_address(data_dir)
        runner = _end_if_ours(_runner_pid(data_dir) or saved.get("runner_pid"), timeout)
        if saved.get("pid") or saved.get("runner_pid"):
            write_atomic(data_dir / "hub.json", json.dumps({**saved, "pid": None, "runner_pid": None}, indent=2) + "\n")
        return hub or runner


def _end_if_ours(pid: object, timeout: float) -> bool:
    if not isinstance(pid, int) or not _is_ours(pid):
        return False
    _end(pid, timeout)
    return True


def _runner_pid(data_dir: Path) -> int | None:
    try:
        pid = json.loads((data_dir / "runner" / "runner.json").read_text(encoding="utf-8")).get("pid")
    except (OSError, ValueError, AttributeError):
        return None
    return pid if isinstance(pid, int) else None
