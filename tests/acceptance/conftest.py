"""A person's machine in small: a home, a Hub, the two example environments built, published and installed in a clean venv."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import alive

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.index)
            item.add_marker(pytest.mark.timeout(300))
            # One worker runs them all, so that the images are built once.
            item.add_marker(pytest.mark.xdist_group("acceptance"))


@dataclass
class Machine:
    """A home of its own with a Hub in it; every command runs as a child process in its environment."""

    base: Path
    env: dict[str, str] = field(default_factory=dict)
    _mains: set[int] = field(default_factory=set)

    @property
    def work(self) -> Path:
        return self.base / "work"

    @property
    def hub_dir(self) -> Path:
        return self.base / "hub"

    def start(self, *command: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=cwd or self.work,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *command: str, cwd: Path | None = None, code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        child = self.start(*command, cwd=cwd, **env)
        try:
            out, err = child.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            pytest.fail(f"{command} hung\n{out}\n{err}")
        done = subprocess.CompletedProcess(command, child.returncode, out, err)
        if code is not None:
            assert done.returncode == code, (
                f"{command} ended with {done.returncode}\n--- stdout\n{out}\n--- stderr\n{err}"
            )
        return done

    def processes(self) -> dict[int, str]:
        """Every process that works in this machine's folders: pid to command line."""
        mark = str(self.base).encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark in command or mark in environment:
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def servers(self) -> set[int]:
        """The processes of sandboxes: what carries their mark, and the main ones by the runner's own records."""
        found = set()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                environment = (entry / "environ").read_bytes()
                if b"PRIME_SANDBOX_ID=" in environment and str(self.base).encode() in environment:
                    found.add(int(entry.name))
        for file in (self.hub_dir / "runner" / "sandboxes").glob("*/state.json"):
            with contextlib.suppress(OSError, ValueError):
                self._mains.add(int(json.loads(file.read_text()).get("pid") or 0))
        self._mains = {pid for pid in self._mains if alive(pid)}
        return found | self._mains

    def temporary(self) -> set[str]:
        return {str(path.relative_to(self.base / "tmp")) for path in (self.base / "tmp").rglob("*")}

    def sandbox_folders(self) -> set[str]:
        folder = self.hub_dir / "runner" / "sandboxes"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.base) in line]


def make_machine(base: Path) -> Machine:
    for name in ("home", "tmp", "work/environments"):
        (base / name).mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
    machine = Machine(
        base,
        {
            **kept,
            "HOME": str(base / "home"),
            "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "TMPDIR": str(base / "tmp"),
            "PRIME_HUB_DATA_DIR": str(base / "hub"),
            # Shared by all tests, as a developer's own caches would be.
            "PRIME_CACHE_DIR": os.environ["PRIME_CACHE_DIR"],
            "UV_CACHE_DIR": os.environ["UV_CACHE_DIR"],
            "PRIME_LEASE_SECONDS": "4",
            "PRIME_HUB_RUNTIME": os.environ["PRIME_HUB_RUNTIME"],
            "NO_COLOR": "1",
            "COLUMNS": "200",
        },
    )
    for name in ("openenv_cartpole", "openenv_echo"):
        shutil.copytree(
            ROOT / "environments" / name,
            machine.work / "environments" / name,
            ignore=shutil.ignore_patterns(".build.json", ".prime", "outputs", "__pycache__"),
        )
    return machine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = make_machine(tmp_path_factory.mktemp("m"))
    try:
        made.run("prime", "hub", "start", "--port", "0")
        made.run("prime", "login")
        yield made
    finally:
        made.run("prime", "hub", "stop", code=None)
    left = made.processes()
    assert not left, f"left running: {left}"


@pytest.fixture(scope="session")
def owner(machine: Machine) -> str:
    import json

    return json.loads(machine.run("prime", "whoami", "--output", "json").stdout)["slug"]


@pytest.fixture(scope="session")
def published(machine: Machine, owner: str) -> Path:
    """Both examples built and pushed, and installed from the Hub into a clean venv; the venv's folder."""
    for name in ("openenv-cartpole", "openenv-echo"):
        machine.run("prime", "env", "push", name)
    venv = machine.base / "venv"
    machine.run("uv", "venv", "--quiet", "--python", sys.executable, str(venv))
    for name in ("openenv-cartpole", "openenv-echo"):
        machine.run("prime", "env", "install", f"{owner}/{name}", VIRTUAL_ENV=str(venv))
    return venv
