"""Where both sides live: virtual environments of a base install each, kept in .cache/bench for the next time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from official.scratch import INSTALL_SECONDS, REQUIREMENTS, ROOT, Failed
from speed.cli import tell

from prime_core.errors import InstallError
from prime_core.uv import uv_command, uv_environment

OFFICIAL = "verifiers==0.1.14"
OURS = ("prime-core", "prime-evals", "prime-sandboxes", "verifiers")
"""What `pip install verifiers` takes of ours, at most."""


@dataclass(frozen=True)
class Place:
    """A virtual environment; `mib` is what all of it takes on disk, bytecode and programs included."""

    name: str
    python: Path
    mib: float
    distributions: int


def places() -> list[Place]:
    """The official library's and ours. Raises Failed."""
    if sys.version_info >= (3, 14):
        raise Failed("The official library needs Python below 3.14: PRIME_SETUP_PYTHON=python3.13 sh script/setup")
    official = _place("official", [OFFICIAL, "-c", str(REQUIREMENTS)], REQUIREMENTS.read_bytes().decode())
    return [official, _place("ours", ["verifiers", *_wheels()], _state())]


def _wheels() -> list[str]:
    """Our own wheels, made anew, as options of an installation."""
    folder = ROOT / ".cache" / "bench" / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    for name in OURS:
        _run([*_uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT / "packages" / name)])
    # Named one by one, so that no other of that name is taken.
    return [
        "--no-config",
        "--find-links",
        str(folder),
        *(str(wheel) for wheel in sorted(folder.glob("*.whl")) if "sandboxes" not in wheel.name),
    ]


def _state() -> str:
    return "\n".join(
        hashlib.sha256(file.read_bytes()).hexdigest()
        for name in OURS
        for file in sorted((ROOT / "packages" / name).rglob("*"))
        if file.is_file() and file.suffix in (".py", ".toml")
    )


def _place(name: str, wanted: Sequence[str], state: str) -> Place:
    folder = ROOT / ".cache" / "bench" / f"library-{name}"
    python, stamp = folder / "bin" / "python", folder / ".made"
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    made = hashlib.sha256(f"{base}\n{wanted}\n{state}".encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == made and python.exists()):
        tell(f"Installing {name} into .cache/bench/library-{name} ...")
        _run([*_uv(), "venv", "--quiet", "--clear", "--python", base, str(folder)])
        _run([*_uv(), "pip", "install", "--quiet", "--python", str(python), *wanted])
        stamp.write_text(made)
    site = next((folder / "lib").glob("python*/site-packages"))
    files = [file for file in site.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    mib = sum(file.stat().st_size for file in files) / 2**20
    # Bytecode is there for both, so that no import writes it while it is timed.
    subprocess.run(
        [str(python), "-m", "compileall", "-q", "-j", "0", str(site)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Place(name, python, mib, len(list(site.glob("*.dist-info"))))


def _uv() -> list[str]:
    try:
        return uv_command()
    except InstallError as error:
        raise Failed(str(error)) from error


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    environment = dict(environment or uv_environment())
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise Failed(f"{' '.join(command[:6])} … failed:\n{done.stderr.strip()[-3000:]}")
