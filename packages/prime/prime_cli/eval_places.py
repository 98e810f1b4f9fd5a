"""In which interpreter each environment of an evaluation is, and what is installed first so that it is in one.

What is missing goes into the interpreter in use. What does not go together with what is installed there gets a virtual
environment of its own, in the cache: `evaluations/OWNER--NAME@VERSION--verifiers-VERSION`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from prime_cli.asking import confirm
from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import InstallConflict, InstallError, PrimeError
from prime_core.paths import cache_dir
from prime_core.references import Reference, parse_reference

if TYPE_CHECKING:
    from prime_core.installing import InstallReport
    from verifiers.cli.eval_arguments import Arguments
    from verifiers.cli.eval_look import Look

LOOK_SECONDS = 120.0
READY = "ready"
"""The file in a virtual environment of the cache that is written last."""


@dataclass(frozen=True)
class _Need:
    """What has to be installed for the environment `env_id`: a version of the Hub, or the folder of a local one."""

    env_id: str
    reference: Reference | None
    folder: Path | None
    sentence: str

    def __str__(self) -> str:
        return str(self.reference) if self.reference else f"{self.env_id} ({self.folder})"


@dataclass(frozen=True)
class Places:
    """The interpreter of each run; `changed` when something was installed into the one in use."""

    pythons: list[Path]
    changed: bool


def find_places(runs: Sequence[Arguments], target: Path, own: bool, yes: bool, out: Output) -> Places:
    """Where each run is played; installs what is missing after asking, or with `yes`. All names are resolved before
    anything is installed. `own`: `target` is the interpreter that runs this. Raises PrimeError, and typer.Abort for a no.
    """
    asked = list(dict.fromkeys((run.env_id, run.env_dir_path) for run in runs))
    looks = dict(zip(asked, _look(asked, target, own), strict=True))
    missing = [need for key, look in looks.items() if (need := _need(key[0], look)) is not None]
    if not yes and not sys.stdin.isatty():
        _refuse([need.sentence for need in missing if need.reference is not None])
        missing = []  # a folder is played as it lies; loading it says what it lacks
    if not missing:
        return Places([target] * len(runs), False)
    resolved = _resolved(missing, target, out)
    if not all(_has_own(need) for need in missing):
        what = " and ".join(f"{need} requires {need.sentence}" if need.folder else str(need) for need in missing)
        confirm(f"Not installed: {what}. Install into {target}?", yes)
    found: dict[str, Path] = {}
    done: list[str] = []
    with saying(lambda: f"{', '.join(done)}: installed; nothing else was changed" if done else "nothing was changed"):
        for need in missing:
            found[need.env_id] = _install(need, resolved.get(need.env_id), target, out)
            done.append(str(need))
    return Places([found.get(run.env_id, target) for run in runs], target in found.values())


def _look(asked: Sequence[tuple[str, str]], target: Path, own: bool) -> list[Look]:
    from verifiers.cli.eval_look import Look, look

    if own:
        return [look(env_id, base) for env_id, base in asked]
    try:
        done = subprocess.run(
            [target, "-P", "-m", "verifiers.cli.eval_look"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
            timeout=LOOK_SECONDS,
        )
        return [Look(**one) for one in json.loads(done.stdout.strip().splitlines()[-1])]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        # An older verifiers, which cannot be asked; the evaluation itself says what is missing.
        return [Look(True) for _ in asked]


def _need(env_id: str, look: Look) -> _Need | None:
    """What is missing of an environment. Raises PrimeError when it cannot be had from anywhere."""
    if look.found:
        return _Need(env_id, None, Path(look.folder), ", ".join(look.unmet)) if look.unmet else None
    if "/" not in env_id:
        raise PrimeError(look.sentence)
    return _Need(env_id, parse_reference(env_id), None, look.sentence)


def _refuse(sentences: Sequence[str]) -> None:
    if sentences:
        raise PrimeError("\n".join(sentences), "Or add --yes to have it installed.")


def _resolved(missing: Sequence[_Need], target: Path, out: Output) -> dict[str, str]:
    """The version of each that the Hub gives. Raises APIError, InstallError: then nothing has been installed."""
    references = {need.env_id: need.reference for need in missing if need.reference is not None}
    if not references:
        return {}
    from prime_core.api import APIClient
    from prime_core.choosing import choose
    from prime_core.connection import connect
    from prime_core.interpreters import inspect
    from prime_core.wheelhouse import HubWheels

    connection = connect(require_auth=False, announce=out.note)
    installed, versions = inspect(target), {}
    with APIClient(connection.base_url, connection.api_key) as client:
        source = HubWheels(client)
        for env_id, reference in references.items():
            chosen = choose(source, [reference], installed, upgrade=False, no_upgrade=False, prerelease=False)
            by_name = {
                canonicalize_name(wheel.metadata["name"]): wheel.metadata["version"] for wheel, _ in chosen.wheels
            }
            versions[env_id] = by_name[canonicalize_name(reference.name)]
    return versions


def _install(need: _Need, version: str | None, target: Path, out: Output) -> Path:
    """Install it; the interpreter that has it then. Raises InstallError, APIError."""
    if version is not None and need.reference is not None:
        ready = _own_folder(need, version)
        if (ready / READY).is_file():
            return ready / "bin" / "python"
    from prime_cli.environments.install import show_changes

    out.note(f"Installing {need} into {target}")
    try:
        show_changes(_into(target, need, version, out), out)
        return target
    except InstallConflict as error:
        folder = _own_folder(need, version)
        out.note(f"{error.message} It gets a virtual environment of its own: {folder}")
    with _only_one(folder):
        python = folder / "bin" / "python"
        if (folder / READY).is_file() and python.exists():
            return python
        from prime_core.uv import run_uv

        shutil.rmtree(folder, ignore_errors=True)
        made = run_uv(["venv", "--quiet", "--python", str(target), str(folder)])
        if made.returncode != 0:
            raise InstallError(f"No virtual environment can be made in {folder}: {made.stderr.strip()}")
        show_changes(_into(python, need, version, out), out)
        (folder / READY).write_text("")
    return python


def _into(python: Path, need: _Need, version: str | None, out: Output) -> InstallReport:
    from prime_core.connection import connect
    from prime_core.installing import install_from_hub, install_local

    if need.reference is None:
        return install_local(need.folder or Path(), python, whole=True, announce=out.note)
    pinned = f"{need.reference.owner}/{need.reference.name}@{version}" if version else str(need.reference)
    return install_from_hub(connect(require_auth=False), [pinned], python, whole=True, announce=out.note)


def _own_folder(need: _Need, version: str | None) -> Path:
    """The virtual environment of its own. A folder's is another one as soon as its pyproject.toml changes."""
    from verifiers import __version__

    if need.reference is not None:
        name = f"{need.reference.owner.lower()}--{canonicalize_name(need.reference.name)}@{version}"
    else:
        folder = (need.folder or Path()).resolve()
        digest = hashlib.sha256(str(folder).encode() + b"\0" + (folder / "pyproject.toml").read_bytes())
        name = f"local--{canonicalize_name(folder.name)}@{digest.hexdigest()[:12]}"
    return cache_dir() / "evaluations" / f"{name}--verifiers-{__version__}"


def _has_own(need: _Need) -> bool:
    """Whether it was agreed to earlier that it gets a virtual environment of its own."""
    if need.reference is None:
        return (_own_folder(need, None) / READY).is_file()
    pattern = f"{need.reference.owner.lower()}--{canonicalize_name(need.reference.name)}@*/{READY}"
    return any((cache_dir() / "evaluations").glob(pattern))


@contextmanager
def _only_one(folder: Path) -> Generator[None]:
    """One program at a time makes the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
