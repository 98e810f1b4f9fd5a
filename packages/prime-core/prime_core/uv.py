"""Running uv, the package manager: where its program is and the environment it needs (protocols/runtimes.md)."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from prime_core.errors import InstallError

_UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX", "UV_OFFLINE")


def uv_command() -> list[str]:
    """The command that runs uv: the `uv` distribution's program, else the one on PATH. Raises InstallError."""
    try:
        from uv import find_uv_bin

        return [find_uv_bin()]
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise InstallError("The program uv was not found.", "Install it with 'pip install uv', or use '--with pip'.")
    return [found]


def uv_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`base` (this process's environment) with what uv needs in any environment.

    The system's certificates, no progress bars, no downloads of Python, and pip's index when uv has none of its own,
    because uv does not read pip's configuration.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault("UV_SYSTEM_CERTS", "1")
    environment.setdefault("UV_NO_PROGRESS", "1")
    environment.setdefault("UV_PYTHON_DOWNLOADS", "never")
    if not any(environment.get(name) for name in _UV_INDEX_VARIABLES) and not _uv_has_configuration(environment):
        index = pip_index(environment)
        if index:
            environment["UV_DEFAULT_INDEX"] = index
    return environment


def _home(environment: Mapping[str, str]) -> Path | None:
    return Path(environment["HOME"]) if environment.get("HOME") else None


def _uv_has_configuration(environment: Mapping[str, str]) -> bool:
    home = _home(environment)
    settings = environment.get("XDG_CONFIG_HOME") or (home / ".config" if home else None)
    files = [Path("/etc/uv/uv.toml"), *([Path(settings) / "uv" / "uv.toml"] if settings else [])]
    if environment.get("UV_CONFIG_FILE"):
        files.append(Path(environment["UV_CONFIG_FILE"]))
    return any("index" in _read(file) for file in files)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def pip_index(environment: Mapping[str, str] | None = None) -> str | None:
    """The index that pip is configured with: PIP_INDEX_URL, else the last of its configuration files that names one."""
    environment = os.environ if environment is None else environment
    if environment.get("PIP_INDEX_URL"):
        return environment["PIP_INDEX_URL"]
    chosen = None
    for file in _pip_files(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(_read(file))
        except configparser.Error:
            continue
        for section in ("global", "install"):
            if parser.has_option(section, "index-url"):
                chosen = parser.get(section, "index-url").strip() or chosen
    return chosen


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    """pip's configuration files, the weakest first (https://pip.pypa.io, "Configuration")."""
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = _home(environment)
    shared = environment.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [*(Path(folder) / "pip" / "pip.conf" for folder in shared.split(":") if folder), Path("/etc/pip.conf")]
    if home:
        settings = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        files += [home / ".pip" / "pip.conf", settings / "pip" / "pip.conf"]
        files.append(home / "Library" / "Application Support" / "pip" / "pip.conf")
    files.append(Path(sys.prefix) / "pip.conf")
    return [*files, Path(named)] if named else files


def run_uv(
    arguments: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run uv and return what it said; `timeout` in seconds, `pass_fds` what it inherits. Raises InstallError when it is
    missing or takes too long.
    """
    command = [*uv_command(), *arguments]
    try:
        return subprocess.run(
            command,
            env=dict(env) if env is not None else uv_environment(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            pass_fds=pass_fds,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"'uv {arguments[0]}' took longer than {timeout:g} seconds and was ended.") from None
