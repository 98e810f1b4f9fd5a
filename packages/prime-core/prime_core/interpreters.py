"""The Python that environments are installed into, and what is installed there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_core.children import child_environment
from prime_core.errors import InstallError

INSPECT_SECONDS = 60.0
# Runs in the target, which may have nothing but a standard library.
_INSPECT = """
import importlib.metadata as metadata, json, platform, sys, sysconfig, urllib.parse
asked = set(json.load(sys.stdin))
found = {}

def folder_of(item, direct):
    if direct and "dir_info" in direct:
        return urllib.parse.unquote(direct.get("url", "").removeprefix("file://"))
    for path in item.files or [] if direct else []:
        if len(path.parts) == 1 and path.name.endswith("_source.pth"):
            try:
                return path.read_text().strip() or None
            except OSError:
                return None

for item in metadata.distributions():
    name = item.metadata["Name"]
    if not name or name in found:
        continue
    direct = item.read_text("direct_url.json")
    direct = json.loads(direct) if direct else None
    owned = [str(path).replace("\\\\", "/") for path in item.files or []] if asked else []
    found[name] = {
        "version": item.version,
        "direct_url": direct,
        "folder": folder_of(item, direct),
        "requires": item.requires or [],
        "owns": [path for path in owned if path in asked],
    }
paths = sysconfig.get_paths()
print(json.dumps({
    "folders": {name: paths[name] for name in ("purelib", "platlib", "scripts")},
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "python_full_version": platform.python_version(),
    "prefix": sys.prefix,
    "distributions": found,
}))
"""


@dataclass(frozen=True)
class Installed:
    """A distribution that is installed. `owns` are those of the asked paths that its RECORD lists; `folder` is the source
    folder that it stands for, if it does.
    """

    name: str
    version: str
    direct_url: dict[str, Any] | None = None
    folder: str | None = None
    requires: list[str] = field(default_factory=list)
    owns: list[str] = field(default_factory=list)

    def same_as(self, other: Installed | None) -> bool:
        """Whether that is the same version from the same place."""
        return other is not None and (self.version, self.direct_url) == (other.version, other.direct_url)

    @property
    def is_folder(self) -> bool:
        """Whether it was installed from a source folder, editable or not."""
        return bool(self.direct_url) and "dir_info" in (self.direct_url or {})


@dataclass(frozen=True)
class Interpreter:
    """A Python: its program, its version as markers have it, its distributions by normalised name, and the folders that
    things are installed into (`purelib`, `platlib`, `scripts`).
    """

    python: Path
    prefix: Path
    markers: dict[str, str]
    distributions: dict[str, Installed]
    folders: dict[str, Path]


def target_python(explicit: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The Python to install into: `explicit` (a program or a virtual environment's folder), else
    UV_PROJECT_ENVIRONMENT, VIRTUAL_ENV, the nearest `.venv` from the working directory upward, and last the one that
    runs this.

    The path is not resolved, because a virtual environment's python is a link. Raises InstallError when what is named
    is not there.
    """
    environ = os.environ if environ is None else environ
    if explicit:
        return _python_at(Path(explicit).expanduser(), f"--python {explicit}")
    for variable in ("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV"):
        if environ.get(variable):
            return _python_at(Path(environ[variable]), f"{variable}={environ[variable]}")
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".venv" / "pyvenv.cfg").is_file():
            return _python_at(folder / ".venv", str(folder / ".venv"))
    return Path(sys.executable)


def _python_at(path: Path, shown: str) -> Path:
    candidates = [path / "bin" / "python", path / "bin" / "python3", path / "Scripts" / "python.exe"]
    for candidate in candidates if path.is_dir() else [path]:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.absolute()
    raise InstallError(
        f"There is no Python at {shown}.",
        "Make a virtual environment there with 'uv venv', or name another with --python.",
    )


def inspect(python: Path, paths: Iterable[str] = ()) -> Interpreter:
    """What is installed for `python`, and who owns which of `paths` (relative to site-packages). Raises
    InstallError.
    """
    from packaging.utils import canonicalize_name

    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _INSPECT],
            input=json.dumps(sorted(paths)),
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=INSPECT_SECONDS,
            check=False,
        )
        content = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        raise InstallError(
            f"{python} does not run, or is not a Python 3.", "Name another with --python, or make one with 'uv venv'."
        ) from None
    distributions: dict[str, Installed] = {
        canonicalize_name(name): Installed(name, **fields) for name, fields in content["distributions"].items()
    }
    markers = {name: content[name] for name in ("python_version", "python_full_version")}
    folders = {name: Path(folder) for name, folder in content["folders"].items()}
    return Interpreter(python, Path(content["prefix"]), markers, distributions, folders)
