"""Shared by every test: an environment of nobody's in particular, and real Hubs.

Nothing of the developer's own configuration reaches a test: HOME is an empty folder, and no PRIME_* or OPENAI_*
variable is set. What only saves time stays: the caches of uv and pip and the sandbox layers.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import databases, nursery, stores

if TYPE_CHECKING:
    import httpx

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0
MOST_IN_A_GROUP = 40
# What these look at is before the database or beside it, so another database would show nothing more.
NOT_OF_THE_DATABASE = {
    *("test_connect", "test_control_plane", "test_doctor", "test_environment_pages", "test_fields", "test_gateway"),
    *("test_hostile", "test_inward", "test_logs", "test_machine", "test_ports", "test_readmes"),
    *("test_runner_care", "test_spares", "test_words"),
}


def _isolate() -> None:
    """Once, before anything of ours is imported."""
    real_home = Path(os.environ.get("HOME") or "~").expanduser()
    for name in list(os.environ):
        if name.startswith(("PRIME_", "OPENAI_", "ANTHROPIC_")) and not (
            name.startswith("PRIME_TEST_") or name == "PRIME_HUB_WHEELS"
        ):
            del os.environ[name]
    # The one that every machine has; lanes play the same tests on others.
    os.environ["PRIME_HUB_RUNTIME"] = os.environ.get("PRIME_TEST_RUNTIME") or "process"
    for name in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        os.environ.pop(name, None)
    caches = Path(os.environ.pop("XDG_CACHE_HOME", "") or real_home / ".cache")
    os.environ.setdefault("UV_CACHE_DIR", str(caches / "uv"))
    os.environ.setdefault("PIP_CACHE_DIR", str(caches / "pip"))
    for settings in (real_home / ".config/pip/pip.conf", real_home / ".pip/pip.conf"):
        if settings.is_file():
            os.environ.setdefault("PIP_CONFIG_FILE", str(settings))
    settings = real_home / ".config/uv/uv.toml"
    if settings.is_file():
        os.environ.setdefault("UV_CONFIG_FILE", str(settings))
    os.environ["PRIME_CACHE_DIR"] = str(ROOT / ".cache" / "tests")
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(ROOT / ".cache" / "hypothesis")
    os.environ["PRIME_DISABLE_VERSION_CHECK"] = "1"
    os.environ["NO_COLOR"] = "1"
    os.environ["COLUMNS"] = "200"


_isolate()


STRICT = os.environ.get("PRIME_TEST_STRICT") == "1"


@functools.cache
def _index_problem() -> str | None:
    """Why the tests that install packages cannot run, None when they can."""
    from prime_core.uv import uv_command, uv_environment

    asked = subprocess.run(
        [*uv_command(), "pip", "compile", "--quiet", "--no-cache", "--no-header", "-"],
        input="packaging",
        env=uv_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return None if asked.returncode == 0 else f"no package index answers: {asked.stderr.strip()[-200:]}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not STRICT and item.get_closest_marker("index") and (problem := _index_problem()):
        pytest.skip(problem)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is about SQLite's file is not about a Hub on Postgres; tests that share something slow run together."""
    elsewhere = [databases.on_postgres() and "sqlite", stores.on_s3() and "disk"]
    if any(elsewhere):
        left_out = [
            item
            for item in items
            if any(mark and item.get_closest_marker(mark) for mark in elsewhere)
            or (databases.on_postgres() and item.path.stem in NOT_OF_THE_DATABASE)
        ]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    seen: collections.Counter[str] = collections.Counter()
    for item in items:
        if item.get_closest_marker("xdist_group") is None and _shares(item):
            # A long module is several groups, so that no worker has all of it.
            group = f"{item.path.relative_to(ROOT)}-{seen[str(item.path)] // MOST_IN_A_GROUP}"
            seen[str(item.path)] += 1
            item.add_marker(pytest.mark.xdist_group(group))


def _shares(item: pytest.Item) -> bool:
    """Whether it uses a fixture that others of its module use, too: each worker would make that anew."""
    known = getattr(item, "_fixtureinfo", None)
    return known is not None and any(found[-1].scope == "module" for found in known.name2fixturedefs.values() if found)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """With PRIME_TEST_STRICT=1 a skipped test is a failed one: nothing may be missing where everything should be."""
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which PRIME_TEST_STRICT=1 does not allow: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own empty HOME."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(path))
    return path


def alive(pid: int | None) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    if not pid:
        return False
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def end(pid: int | None, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> None:
    """Signal a process and wait until it is gone; SIGKILL when it does not go."""
    if pid is None:
        return
    for attempt in (number, signal.SIGKILL):
        try:
            os.kill(pid, attempt)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
            if not alive(pid):
                return
            time.sleep(0.02)
    raise AssertionError(f"process {pid} cannot be ended")


def end_runner(pid: int | None) -> None:
    """End a runner. Numbers are given again: one that ended long ago may be another program's now, which is left alone."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return
    if b"prime_hub.runner" in command:
        end(pid)


class RunningHub:
    """A real Hub process on a free port of 127.0.0.1, with its own data folder and its own runner."""

    def __init__(
        self,
        data_dir: Path,
        options: tuple[str, ...] = (),
        before: Callable[[], object] | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.log_file = data_dir.with_name(data_dir.name + ".log")
        self._options = options
        self._before = before
        self._clients: list[httpx.Client] = []
        self._api: httpx.Client | None = None
        self.process: subprocess.Popen[bytes] | nursery.Forked | None = None
        self.borrowed = variables is not None
        """Whether its database and its blobs are those of another Hub, which has made them."""
        self.variables = {**databases.make(data_dir), **stores.make(data_dir)} if variables is None else variables
        """Environment variables of the Hub's own programs, by which it finds both."""
        self.start()

    @property
    def address(self) -> dict[str, Any]:
        """What hub.json says now."""
        return json.loads((self.data_dir / "hub.json").read_text())

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return self.address["url"]

    @property
    def token(self) -> str:
        """The local owner's API token."""
        return (self.data_dir / "owner.token").read_text().strip()

    @property
    def owner(self) -> str:
        """The local owner's slug."""
        return self.api.get("/user/whoami").json()["data"]["slug"]

    @property
    def runner_pid(self) -> int | None:
        """The runner's process id, None when there is no runner."""
        try:
            return json.loads((self.data_dir / "runner" / "runner.json").read_text()).get("pid")
        except (OSError, ValueError):
            return None

    @property
    def log(self) -> str:
        """What the Hub has written so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def api(self) -> httpx.Client:
        """A client of `/api/v1` with the owner's token."""
        if self._api is None:
            self._api = self.client(self.token)
        return self._api

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """Another client of `/api/v1`; without a token it is nobody's."""
        import httpx

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60, trust_env=False, **options)
        self._clients.append(client)
        return client

    def add_user(self, name: str) -> str:
        """Make an account as `prime hub user add` does, without the second that a program takes; returns its token."""
        return databases.add_user(self.data_dir, name)

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """One statement (`:name` for values) on the Hub's database: its rows, or how many rows it changed."""
        return databases.sql(self.data_dir, statement, **values)

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Environment variables with which our commands talk to this Hub."""
        return {
            **os.environ,
            "PRIME_API_BASE_URL": self.url,
            "PRIME_FRONTEND_URL": self.url,
            "PRIME_API_KEY": token or self.token,
        }

    def wait_for_runner(self) -> dict[str, Any]:
        """Until the runner is ready; returns what /health says of it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            state = self.api.get("/health").json()["runner"]
            if state["state"] == "ready":
                return state
            time.sleep(0.05)
        raise AssertionError(f"the runner is not ready: {self.log}")

    def start(self) -> None:
        """Start the process and wait until it has written its address."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        port = self.address["url"].rsplit(":", 1)[1] if (self.data_dir / "hub.json").exists() else "0"
        arguments = ["serve", "--data-dir", str(self.data_dir), "--port", port, *self._options]
        environment = {**os.environ, **self.variables}
        if self._before is None:
            self.process = nursery.start(arguments, environment, self.log_file)
        else:
            with self.log_file.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "prime_hub", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=self._before,
                    env=environment,
                )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the Hub ended with {self.process.returncode}: {self.log}")
            if (self.data_dir / "hub.json").exists() and self.address["pid"] == self.process.pid:
                return
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the Hub did not start: {self.log}")

    def stop(self) -> int:
        """SIGTERM to the Hub alone; its runner goes on. Returns the exit code."""
        assert self.process is not None
        self.close_clients()
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the Hub alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close_clients(self) -> None:
        """Close every client made here; the next use makes new ones."""
        self._api = None
        while self._clients:
            self._clients.pop().close()

    def close(self) -> None:
        """End the Hub and then its runner, with all sandboxes, and leave no process behind."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            self.close_clients()
            end_runner(self.runner_pid)
            if not self.borrowed:
                databases.drop(self.data_dir)
                stores.drop(self.data_dir)


HubFactory = Callable[..., RunningHub]


@pytest.fixture
def start_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubFactory]:
    """Start a Hub with options: `start_hub("--frontend-url", URL, data_dir=…, before=…)`. All are ended after the test.

    `before` runs in the Hub's process before the program, for resource limits.
    """
    started: list[RunningHub] = []

    def start(
        *options: str,
        data_dir: Path | None = None,
        before: Callable[[], object] | None = None,
        variables: dict[str, str] | None = None,
    ) -> RunningHub:
        hub = RunningHub(data_dir or tmp_path_factory.mktemp("hub"), options, before, variables)
        started.append(hub)
        return hub

    yield start
    for hub in started:
        hub.close()


@pytest.fixture
def hub(start_hub: HubFactory) -> RunningHub:
    """A fresh Hub for one test."""
    return start_hub()


@pytest.fixture(scope="module")
def module_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """One Hub for all tests of a module, where a fresh one for each would only cost time."""
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    yield hub
    hub.close()
