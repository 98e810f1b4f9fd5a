"""uv and pip, as installers of a plan: what they would remove, and the installation itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from prime_core.children import child_environment
from prime_core.errors import InstallError
from prime_core.interpreters import Interpreter, inspect
from prime_core.planning import Plan
from prime_core.uv import run_uv, uv_environment
from prime_core.wheelhouse import OURS

InstallerName = Literal["uv", "pip"]
INSTALL_SECONDS = 1800.0
# ` - my-env==0.1.0 (from file://…)`: what a dry run of uv says would go, or be put in anew.
_GOES = re.compile(r"^ [-~] ([A-Za-z0-9._-]+)==", re.MULTILINE)
_COMES = re.compile(r"^ [+~] ([A-Za-z0-9._-]+)==([^\s(]+)", re.MULTILINE)
# Its own copy of pip: in the standard library, or where a distribution that takes it out of there puts it.
_FIND_PIP = """
import ensurepip, pathlib, sysconfig
folders = [pathlib.Path(ensurepip.__file__).parent / "_bundled", pathlib.Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/")]
print(next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), ""))
"""


class Installer(Protocol):
    """One of the two, with one plan. `lock` is a descriptor that its processes inherit."""

    def removes(self) -> set[str]:
        """The normalised names of what an installation would remove or replace; changes nothing. Raises InstallError."""
        ...

    def brings(self) -> dict[str, str]:
        """What an installation would put in, name → version, as `removes` has found out."""
        ...

    def install(self) -> None:
        """Install the plan. Raises InstallError."""
        ...

    def uninstall(self, names: Sequence[str]) -> None:
        """Remove these distributions. Raises InstallError."""
        ...


def installer_for(
    name: InstallerName, plan: Plan, target: Interpreter, scratch: Path, upgrade: bool, prerelease: bool, lock: int
) -> Installer:
    """The installer of this name; `scratch` is a folder for its files."""
    kind = _Uv if name == "uv" else _Pip
    return kind(plan, target, scratch, upgrade, prerelease, lock)


class _Common:
    def __init__(
        self, plan: Plan, target: Interpreter, scratch: Path, upgrade: bool, prerelease: bool, lock: int
    ) -> None:
        self._plan, self._target, self._scratch = plan, target, scratch
        self._upgrade, self._prerelease, self._lock = upgrade, prerelease, lock
        self._brings: dict[str, str] = {}

    def brings(self) -> dict[str, str]:
        return self._brings

    def _file(self, name: str, lines: Iterable[str]) -> str:
        path = self._scratch / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)


class _Uv(_Common):
    def removes(self) -> set[str]:
        from packaging.utils import canonicalize_name

        said = self._run([*self._command(), "--dry-run"])
        self._brings = {str(canonicalize_name(name)): version for name, version in _COMES.findall(said)}
        return {str(canonicalize_name(name)) for name in _GOES.findall(said)}

    def install(self) -> None:
        self._run(self._command())

    def uninstall(self, names: Sequence[str]) -> None:
        self._run(["pip", "uninstall", "--python", str(self._target.python), *names])

    def _command(self) -> list[str]:
        plan = self._plan
        constraints = self._file("constraints.txt", plan.constraints())
        # Required nowhere: what stays is not looked at, and no index is asked for it, also under --upgrade.
        overrides = self._file("overrides.txt", (f'{name} ; python_version < "0"' for name in sorted(plan.kept)))
        command = ["pip", "install", "--python", str(self._target.python)]
        command += ["--constraints", constraints, "--overrides", overrides]
        command += ["--upgrade"] if self._upgrade else []
        command += ["--prerelease", "allow"] if self._prerelease else []
        return [*command, "--requirements", self._file("requirements.txt", plan.requirements())]

    def _run(self, command: list[str]) -> str:
        environment = uv_environment(child_environment())
        done = run_uv(command, env=environment, timeout=INSTALL_SECONDS, pass_fds=(self._lock,))
        if done.returncode:
            raise _failed("uv", self._plan, done.stderr)
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)


class _Pip(_Common):
    def removes(self) -> set[str]:
        from packaging.utils import canonicalize_name

        report = self._scratch / "report.json"
        self._run([*self._command(), "--dry-run", "--report", str(report)])
        rows = json.loads(report.read_text(encoding="utf-8")).get("install", [])
        self._brings = {str(canonicalize_name(row["metadata"]["name"])): row["metadata"]["version"] for row in rows}
        return set(self._brings)

    def install(self) -> None:
        self._run(self._command())
        wrong = wrongly_installed(self._plan, self._target, inspect(self._target.python))
        left = [name for name in wrong if name in self._plan.wheels]
        if left:
            # pip takes an installed distribution of the same version for the same, wherever it came from.
            again = self._file("again.txt", (line for line in self._plan.requirements() if _name_of(line) in left))
            self._run([*self._base(), "--force-reinstall", "--no-deps", "--requirement", again])

    def uninstall(self, names: Sequence[str]) -> None:
        self._run(["uninstall", "--disable-pip-version-check", "--no-input", "--quiet", "--yes", *names])

    def _base(self) -> list[str]:
        plan = self._plan
        constraints = [*plan.constraints(), *(f"{name}=={version}" for name, version in sorted(plan.kept.items()))]
        options = ["--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off"]
        options += ["--constraint", self._file("constraints.txt", constraints)]
        options += ["--upgrade"] if self._upgrade else []
        options += ["--pre"] if self._prerelease else []
        return ["install", *options]

    def _command(self) -> list[str]:
        return [*self._base(), "--requirement", self._file("requirements.txt", self._plan.requirements())]

    def _run(self, arguments: list[str]) -> None:
        command, environment = pip_command(self._target.python)
        try:
            done = subprocess.run(
                [*command, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=INSTALL_SECONDS,
                check=False,
                pass_fds=(self._lock,),
            )
        except subprocess.TimeoutExpired:
            raise InstallError(f"pip took longer than {INSTALL_SECONDS:g} seconds and was ended.") from None
        if done.returncode:
            raise _failed("pip", self._plan, done.stderr)


def wrongly_installed(plan: Plan, before: Interpreter, after: Interpreter) -> list[str]:
    """The names that are not as planned, told by the hash that is part of a cached wheel's path."""
    wrong = [
        name
        for name, version in plan.kept.items()
        if name not in after.distributions or after.distributions[name].version != version
    ]
    for name, wheel in plan.wheels.items():
        installed = after.distributions.get(name)
        if installed is None or wheel.sha256 not in str((installed.direct_url or {}).get("url")):
            wrong.append(name)
    for name in plan.guards:
        installed = after.distributions.get(name)
        if installed and not installed.direct_url and not installed.same_as(before.distributions.get(name)):
            wrong.append(name)
    return sorted(wrong)


def _name_of(line: str) -> str:
    return re.split(r"[\[ @]", line, maxsplit=1)[0]


def pip_command(python: Path) -> tuple[list[str], dict[str, str]]:
    """pip of the target, else its interpreter's own copy, else the pip of the interpreter it was made from
    or of the one that runs this; and its environment variables. Raises InstallError.
    """
    environment: dict[str, Any] = child_environment()
    if _has_pip(python):
        return [str(python), "-I", "-m", "pip"], environment
    bundled = _said(python, _FIND_PIP)
    if bundled:
        environment["PYTHONPATH"] = bundled
        return [str(python), "-P", "-m", "pip"], environment
    for other in (_said(python, "import sys; print(sys._base_executable)"), sys.executable):
        if other and _has_pip(other):
            return [other, "-I", "-m", "pip", "--python", str(python)], environment
    raise InstallError(
        f"There is no pip for {python}.", f"Leave '--with pip' out to use uv, or run '{python} -m ensurepip' first."
    )


def _has_pip(python: Path | str) -> bool:
    return subprocess.run([str(python), "-I", "-c", "import pip"], capture_output=True, check=False).returncode == 0


def _said(python: Path, code: str) -> str:
    """What a line of Python prints in that interpreter; empty when it fails."""
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _failed(installer: str, plan: Plan, stderr: str) -> InstallError:
    text = re.sub(r"\x1b\[[0-9;]*m", "", stderr)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    said = "\n".join(lines[-12:])[-2000:] or "it said nothing"
    names = ", ".join(name for name in plan.wheels if name not in OURS)
    what = f"install {names}" if names else "do that"
    return InstallError(
        f"{installer} could not {what}; nothing was changed. It said:\n{said}",
        "Third-party packages come from the index that the installer is configured with: see that it can be reached.",
    )
