"""Installing environments, from a Hub or from a folder, by direct reference and never by adding an index.

With a Hub as a further index a public package of the same name wins, or a Hub's package hides a public one. So wheels
are fetched here, checked against the Hub's hashes, and handed to the installer as `name @ file://…#sha256=…` (see
`prime_core.planning`); only third-party dependencies come from the index that the installer is configured with.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prime_core.api import APIClient
from prime_core.children import child_environment
from prime_core.connection import Connection
from prime_core.errors import InstallError
from prime_core.interpreters import Interpreter, inspect, target_python
from prime_core.planning import Plan, check_no_overwriting, make_plan
from prime_core.uv import run_uv, uv_environment
from prime_core.wheel import WheelFile, build_wheel, editable_wheel
from prime_core.wheelhouse import OURS, HubWheels, LocalWheels, Wheelhouse, keep

__all__ = ["Change", "InstallReport", "install_from_hub", "install_local", "parse_reference", "target_python"]

Installer = Literal["uv", "pip"]
INSTALL_SECONDS = 1800.0
# Its own copy of pip: in the standard library, or where a distribution that takes it out of there puts it.
_FIND_PIP = """
import ensurepip, pathlib, sysconfig
folders = [pathlib.Path(ensurepip.__file__).parent / "_bundled", pathlib.Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/")]
print(next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), ""))
"""


@dataclass(frozen=True)
class Change:
    """A distribution that was installed (`old` None), removed (`new` None) or replaced."""

    name: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.name} {self.new}"
        return f"{self.name} {self.old} → {self.new or 'removed'}"


@dataclass(frozen=True)
class InstallReport:
    """What an installation did: the environments (name → version), the interpreter, and every distribution that
    changed.
    """

    environments: dict[str, str]
    python: Path
    changes: list[Change] = field(default_factory=list)


def parse_reference(text: str) -> tuple[str, str, str]:
    """`owner/name[@version]` → (owner, name, version or "latest"). Raises InstallError."""
    found = re.fullmatch(r"([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)(?:@([\w.+!-]+))?", text.strip())
    if found is None:
        raise InstallError(f"'{text}' is not of the form OWNER/NAME or OWNER/NAME@VERSION.", "See 'prime env list'.")
    return found[1], found[2], found[3] or "latest"


def install_from_hub(
    connection: Connection, refs: Sequence[str], python: Path, installer: Installer = "uv", upgrade: bool = False
) -> InstallReport:
    """Install `owner/name[@version]`s from a Hub for `python`, with environments of the same owner that they require.

    `upgrade` also upgrades third-party dependencies. Raises InstallError (nothing was changed then, except where it
    says otherwise) and APIError.
    """
    wanted = [parse_reference(ref) for ref in refs]
    with APIClient(connection.base_url, connection.api_key) as client:
        source = HubWheels(client)
        return _install(_with_siblings(source, wanted), source, python, installer, upgrade)


def install_local(
    env_dir: Path, python: Path, installer: Installer = "uv", upgrade: bool = False, editable: bool = True
) -> InstallReport:
    """Install the environment of a folder for `python`; our own distributions come from `served_wheels_dir()`.

    With `editable` what is changed in the folder afterwards counts at once (a rebuilt `proj/.build.json` too); an
    environment whose layout does not allow it is installed as a copy. Raises PackagingError, InstallError.
    """
    with tempfile.TemporaryDirectory(prefix="prime-install-") as scratch:
        wheel = build_wheel(env_dir, Path(scratch) / "full")
        if editable and wheel.import_root is not None:
            wheel = editable_wheel(wheel, Path(scratch) / "editable")
        return _install([(keep(wheel), ())], LocalWheels(), python, installer, upgrade)


def _with_siblings(source: HubWheels, wanted: Sequence[tuple[str, str, str]]) -> list[tuple[WheelFile, set[str]]]:
    """The wheels of the wanted environments and, transitively, of those by the same owner that they require.

    An owner is trusted with the names of his own environments, as he is with their code.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    chosen: dict[str, tuple[WheelFile, set[str]]] = {}
    looked_up: set[tuple[str, str]] = set()
    left = [(owner, name, version, set[str]()) for owner, name, version in wanted]
    while left:
        owner, name, version, extras = left.pop(0)
        wheel, _ = source.environment(owner, name, version)
        key = canonicalize_name(wheel.metadata["name"])
        if key in chosen and chosen[key][0].sha256 != wheel.sha256:
            raise InstallError(
                f"{key} is asked for as {chosen[key][0].metadata['version']} and as {wheel.metadata['version']}.",
                "Install them into two virtual environments.",
            )
        chosen[key] = (wheel, extras | (chosen[key][1] if key in chosen else set()))
        looked_up.add((owner, key))
        for requirement in map(Requirement, wheel.metadata["requires_dist"]):
            dependency = canonicalize_name(requirement.name)
            if dependency in OURS or requirement.url or (owner, dependency) in looked_up:
                continue
            looked_up.add((owner, dependency))
            versions = source.versions(owner, dependency)
            if versions is not None:
                fitting = list(requirement.specifier.filter(versions))
                if not fitting:
                    raise InstallError(
                        f"{owner}/{name} needs {requirement}; {owner} has {', '.join(versions) or 'none'}.",
                        f"Ask for another version of {owner}/{name} with @VERSION.",
                    )
                left.append((owner, dependency, _highest(fitting), set(requirement.extras)))
    return list(chosen.values())


def _highest(versions: Iterable[str]) -> str:
    from packaging.version import Version

    return max(versions, key=Version)


def _install(
    environments: Sequence[tuple[WheelFile, Iterable[str]]],
    source: Wheelhouse,
    python: Path,
    installer: Installer,
    upgrade: bool,
) -> InstallReport:
    before = inspect(python)
    plan = make_plan(environments, source, before, upgrade)
    check_no_overwriting(plan, before)
    with tempfile.TemporaryDirectory(prefix="prime-install-") as scratch:
        if installer == "uv":
            _run_with_uv(plan, python, upgrade, Path(scratch))
        else:
            _run_with_pip(plan, before, upgrade, Path(scratch))
    after = inspect(python)
    wrong = _wrong(plan, before, after)
    if wrong:
        raise InstallError(
            f"{installer} installed {', '.join(wrong)} otherwise than asked into {after.prefix}.",
            "Look at its configuration, and install into a fresh virtual environment.",
        )
    names = {wheel.metadata["name"]: wheel.metadata["version"] for wheel, _ in environments}
    return InstallReport(names, python, _changes(before, after))


def _changes(before: Interpreter, after: Interpreter) -> list[Change]:
    found = []
    for name in sorted({*before.distributions, *after.distributions}):
        old, new = before.distributions.get(name), after.distributions.get(name)
        change = Change(name, old.version if old else None, new.version if new else None)
        if change.old != change.new:
            found.append(change)
    return found


def _wrong(plan: Plan, before: Interpreter, after: Interpreter) -> list[str]:
    """The names that are not as planned, told by the hash that is part of a cached wheel's path."""
    wrong = [name for name, version in plan.kept.items() if after.distributions[name].version != version]
    for name, wheel in plan.wheels.items():
        installed = after.distributions.get(name)
        if installed is None or wheel.sha256 not in str((installed.direct_url or {}).get("url")):
            wrong.append(name)
    for name in plan.guards:
        installed = after.distributions.get(name)
        if installed and not installed.direct_url and installed != before.distributions.get(name):
            wrong.append(name)
    return sorted(wrong)


def _lines(path: Path, lines: Iterable[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def _run_with_uv(plan: Plan, python: Path, upgrade: bool, scratch: Path) -> None:
    constraints = _lines(scratch / "constraints.txt", plan.constraints())
    # Required nowhere: what stays is not looked at, and no index is asked for it, also under --upgrade.
    overrides = _lines(scratch / "overrides.txt", (f'{name} ; python_version < "0"' for name in sorted(plan.kept)))
    requirements = _lines(scratch / "requirements.txt", plan.requirements())
    command = ["pip", "install", "--python", str(python), "--constraints", constraints, "--overrides", overrides]
    command += ["--upgrade"] if upgrade else []
    environment = uv_environment(child_environment())
    done = run_uv([*command, "--requirements", requirements], env=environment, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise _failed("uv", plan, done.stderr)


def _run_with_pip(plan: Plan, before: Interpreter, upgrade: bool, scratch: Path) -> None:
    python = before.python
    constraints = [*plan.constraints(), *(f"{name}=={version}" for name, version in sorted(plan.kept.items()))]
    options = ["--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off"]
    options += ["--constraint", _lines(scratch / "constraints.txt", constraints)]
    command, environment = _pip(python)
    requirements = _lines(scratch / "requirements.txt", plan.requirements())
    options += ["--upgrade"] if upgrade else []
    command += ["install", *options]
    _run_pip([*command, "--requirement", requirements], environment, plan)
    left = [name for name in _wrong(plan, before, inspect(python)) if name in plan.wheels]
    if left:
        # pip takes an installed distribution of the same version for the same, wherever it came from.
        again = _lines(scratch / "again.txt", (line for line in plan.requirements() if _name_of(line) in left))
        _run_pip([*command, "--force-reinstall", "--no-deps", "--requirement", again], environment, plan)


def _name_of(line: str) -> str:
    return re.split(r"[\[ @]", line, maxsplit=1)[0]


def _run_pip(command: list[str], environment: dict[str, str], plan: Plan) -> None:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"pip took longer than {INSTALL_SECONDS:g} seconds and was ended.") from None
    if done.returncode:
        raise _failed("pip", plan, done.stderr)


def _pip(python: Path) -> tuple[list[str], dict[str, str]]:
    """pip of the target, else its interpreter's own copy, else the pip of the interpreter it was made from
    or of the one that runs this.
    """
    environment = child_environment()
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
    return InstallError(
        f"{installer} could not install {names}; nothing was changed. It said:\n{said}",
        "Third-party packages come from the index that the installer is configured with: see that it can be reached.",
    )
