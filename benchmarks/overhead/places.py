"""Where both sides live: virtual environments of a base install each, kept in .cache/bench for the next time."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from official.scratch import REQUIREMENTS, ROOT, Failed, run_uv, virtual_environment

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
        run_uv(["build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT / "packages" / name)])
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


def _place(name: str, install: Sequence[str], state: str) -> Place:
    python = virtual_environment(f"library-{name}", install, state)
    folder = python.parent.parent
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    mib = sum(file.stat().st_size for file in files) / 2**20
    return Place(name, python, mib, len(list(folder.glob("lib/python*/site-packages/*.dist-info"))))
