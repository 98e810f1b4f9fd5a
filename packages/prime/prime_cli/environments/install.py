"""`prime env install`: your own environments from their folders, others from the Hub, into the interpreter in use; and
`prime env uninstall`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import InstallError
from prime_core.references import parse_reference

if TYPE_CHECKING:
    from prime_core.installing import InstallReport


@dataclass(frozen=True)
class Options:
    """How to install; see `prime_core.installing.install_from_hub`."""

    installer: Literal["uv", "pip"] = "uv"
    upgrade: bool = False
    no_upgrade: bool = False
    prerelease: bool = False


def install(envs: Sequence[str], base: Path, python: str | None, options: Options, out: Output) -> None:
    """Install each: `NAME` from `base`, `OWNER/NAME[@VERSION]` from the Hub. Raises PrimeError.

    Every name is looked at before anything is installed.
    """
    done: list[str] = []
    with saying(lambda: f"{', '.join(done)}: installed; nothing else was changed" if done else "nothing was changed"):
        _install(envs, base, python, options, out, done)


def _install(
    envs: Sequence[str], base: Path, python: str | None, options: Options, out: Output, done: list[str]
) -> None:
    """`done` gets the names of what is installed, as it is."""
    from prime_core.connection import connect
    from prime_core.installing import install_from_hub, install_local, target_python

    for env in envs:
        if "@" in env and "/" not in env:
            raise InstallError(
                f"'{env}' asks for a version, and only those of the Hub have several.",
                f"Name its owner, as in 'prime env install OWNER/{env}', or leave the version out.",
            )
    target = target_python(python)
    references = [parse_reference(env) for env in envs if "/" in env]
    folders = [_folder(env, base) for env in envs if "/" not in env]
    out.note(f"Installing into {target}")
    if references:
        report = install_from_hub(
            connect(require_auth=False, announce=out.note),
            [str(one) for one in references],
            target,
            options.installer,
            options.upgrade,
            no_upgrade=options.no_upgrade,
            prerelease=options.prerelease,
            announce=out.note,
        )
        done += map(str, references)
        _show(report, out)
        versions = {_key(name): version for name, version in report.environments.items()}
        for one in references:
            out.success(f"Successfully installed {one.owner}/{one.name}@{versions[_key(one.name)]}")
    for folder in folders:
        report = install_local(
            folder, target, options.installer, options.upgrade, prerelease=options.prerelease, announce=out.note
        )
        done += report.environments
        _show(report, out)
        for name, version in report.environments.items():
            out.success(f"Successfully installed {name} {version} from {folder}")


def uninstall(envs: Sequence[str], python: str | None, installer: Literal["uv", "pip"], out: Output) -> None:
    """Remove environments by name; an owner before it is for the eye only. Raises InstallError."""
    from prime_core.installing import target_python
    from prime_core.installing import uninstall as remove

    target = target_python(python)
    names = [env.rpartition("/")[2].partition("@")[0] for env in envs]
    out.note(f"Removing from {target}")
    with saying("nothing was removed"):
        report = remove(names, target, installer, announce=out.note)
    _show(report, out)
    for change in report.changes:
        out.success(f"Successfully uninstalled {change.name} {change.old}")


def _folder(env: str, base: Path) -> Path:
    """The folder of a name without an owner. Raises PackagingError."""
    from prime_core.metadata import find_environment

    return find_environment(
        env,
        base,
        f"A name alone is a folder of {base.as_posix()} (--path names another, 'prime env init {env}' makes it); "
        f"from the Hub: prime env install OWNER/{env}",
    )


def _key(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def show_changes(report: InstallReport, out: Output) -> None:
    """One line for every distribution that is new, gone, of another version or from elsewhere than before."""
    for warning in report.warnings:
        out.warning(warning)
    for change in report.changes:
        sign = "+" if change.old is None else "-" if change.new is None else "~"
        out.note(f"  {sign} {change}")


def _show(report: InstallReport, out: Output) -> None:
    show_changes(report, out)
    if not report.changes:
        out.note("  nothing to change")
