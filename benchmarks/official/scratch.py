"""Where all of them play: a Hub in a temporary home with the games' images; for the official client a virtual environment.

The virtual environment stays in .cache/bench for the next time; of the rest nothing is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prime_core.api import APIClient
from prime_core.errors import APIError, InstallError
from prime_core.uv import uv_command, uv_environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ENVIRONMENT = HERE.parent / "environments" / "ten_steps"
REQUIREMENTS = HERE / "requirements.txt"
INSTALL_SECONDS = 900
COMMAND_SECONDS = 300
STOP_SECONDS = 60


class Failed(Exception):
    """A step of the benchmark did not work; the text says which, and what it printed."""


def official_python() -> Path:
    """The interpreter of the official client's virtual environment, made now when there is none of these requirements."""
    if sys.version_info >= (3, 14):
        raise Failed("The official client needs Python below 3.14: PRIME_SETUP_PYTHON=python3.13 sh script/setup")
    return virtual_environment("official", ["-r", str(REQUIREMENTS)], REQUIREMENTS.read_text())


def virtual_environment(name: str, install: Sequence[str], state: str) -> Path:
    """The interpreter of `.cache/bench/NAME`, with what `install` (arguments of an installer) names; made anew when that or
    `state` is another one than before. Raises Failed.
    """
    folder = ROOT / ".cache" / "bench" / name
    python, stamp = folder / "bin" / "python", folder / ".made"
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    wanted = hashlib.sha256("\n".join([base, *install, state]).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        return python
    print(f"Installing into .cache/bench/{name} (once) ...", file=sys.stderr, flush=True)
    run_uv(["venv", "--quiet", "--clear", "--python", base, str(folder)])
    run_uv(["pip", "install", "--quiet", "--python", str(python), "--compile-bytecode", *install])
    stamp.write_text(wanted)
    return python


def run_uv(arguments: Sequence[str]) -> None:
    """Run uv outside of any virtual environment. Raises Failed."""
    try:
        uv, environment = uv_command(), uv_environment()
    except InstallError as error:
        raise Failed(str(error)) from error
    environment.pop("VIRTUAL_ENV", None)
    _run([*uv, *arguments], environment, INSTALL_SECONDS)


@dataclass(frozen=True)
class Scratch:
    """A Hub that runs, with the images of the projects, whose copies lie in `folder`. `variables` is what a client's
    process gets as its environment; a login to the Hub is in its HOME, where both clients look for it.
    """

    folder: Path
    variables: Mapping[str, str]
    url: str
    key: str

    def copy_of(self, project: Path) -> Path:
        """Where the copy of a project is, which has its image's manifest."""
        return self.folder / project.name

    def sandboxes(self) -> int:
        """How many sandboxes the Hub has started so far, ended ones too."""
        try:
            with APIClient(self.url, self.key) as api:
                return int(api.get("/sandbox", {"per_page": 1})["total"])
        except APIError as error:
            raise Failed(f"The Hub does not say how many sandboxes it has started: {error}") from error


@contextlib.contextmanager
def scratch(
    projects: Sequence[Path] = (ENVIRONMENT,), prepare: Callable[[Path], None] = lambda _: None
) -> Generator[Scratch]:
    """Start a Hub in a temporary home and build the projects' images there; stop it and remove everything at the end.

    `prepare` is given the copy of each project before its image is built. Raises Failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="prime-bench-"))
    variables = _variables(folder)
    prime, build = (str(Path(sys.executable).parent / name) for name in ("prime", "vf-build"))
    try:
        (folder / "home").mkdir()
        url = _run([prime, "hub", "start", "--port", "0"], variables, COMMAND_SECONDS).strip()
        _run([prime, "login"], variables, COMMAND_SECONDS)
        for project in projects:
            copy = folder / project.name
            shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            prepare(copy)
            _run([build, project.name.replace("_", "-"), "-p", str(folder)], variables, COMMAND_SECONDS)
        key = (folder / "hub" / "owner.token").read_text().strip()
        yield Scratch(folder, variables, url, key)
    finally:
        try:
            _run([prime, "hub", "stop"], variables, STOP_SECONDS)
        except Failed as error:
            print(f"The Hub in {folder} could not be stopped: {error}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _variables(folder: Path) -> dict[str, str]:
    """The environment with a home of its own and nothing that names another Hub; package caches stay where they are."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    dropped = ("PRIME_", "OPENAI_", "HF_", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    kept.setdefault("UV_CACHE_DIR", str(cache / "uv"))
    pip = Path.home() / ".config" / "pip" / "pip.conf"
    if pip.is_file():
        kept.setdefault("PIP_CONFIG_FILE", str(pip))
    return {
        **kept,
        "HOME": str(folder / "home"),
        "PRIME_HUB_DATA_DIR": str(folder / "hub"),
        "PRIME_CACHE_DIR": os.environ.get("PRIME_CACHE_DIR") or str(ROOT / ".cache" / "prime"),
        "PRIME_DISABLE_VERSION_CHECK": "1",  # no look at a package index by the official client
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _run(command: list[str], variables: Mapping[str, str], seconds: float) -> str:
    """What it printed. Raises Failed when it does not end well, or not within `seconds`."""
    shown = " ".join(Path(word).name if word.startswith("/") else word for word in command[:6])
    try:
        done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"'{shown} …' did not end within {seconds:.0f} seconds.") from error
    if done.returncode != 0:
        raise Failed(
            f"'{shown} …' failed with exit code {done.returncode}:\n{(done.stderr or done.stdout).strip()[-4000:]}"
        )
    return done.stdout
