"""`prime env install`: your own environments from their folders, others from the Hub, into the interpreter in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prime_cli.environments.references import parse_reference
from prime_cli.output import Output
from prime_core.errors import InstallError

if TYPE_CHECKING:
    from prime_core.installing import InstallReport


def install(
    envs: Sequence[str], base: Path, python: str | None, installer: Literal["uv", "pip"], upgrade: bool, out: Output
) -> None:
    """Install each: `NAME` from `base`, `OWNER/NAME[@VERSION]` from the Hub. Raises PrimeError.

    Every name is looked at before anything is installed.
    """
    from prime_core.connection import connect
    from prime_core.installing import install_from_hub, install_local, target_python
    from prime_core.metadata import find_environment

    for env in envs:
        if "@" in env and "/" not in env:
            raise InstallError(
                f"'{env}' asks for a version, and only those of the Hub have several.",
                f"Name its owner, as in 'prime env install OWNER/{env}', or leave the version out.",
            )
    target = target_python(python)
    references = [parse_reference(env) for env in envs if "/" in env]
    folders = [find_environment(env, base) for env in envs if "/" not in env]
    out.note(f"Installing into {target}")
    if references:
        connection = connect(require_auth=False, announce=out.note)
        report = install_from_hub(connection, [str(one) for one in references], target, installer, upgrade)
        _show(report, out)
        versions = {_key(name): version for name, version in report.environments.items()}
        for one in references:
            out.success(f"Successfully installed {one.owner}/{one.name}@{versions[_key(one.name)]}")
    for folder in folders:
        report = install_local(folder, target, installer, upgrade)
        _show(report, out)
        for name, version in report.environments.items():
            out.success(f"Successfully installed {name} {version} from {folder}")


def _key(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _show(report: InstallReport, out: Output) -> None:
    """One line for every distribution that is new, gone or another version."""
    for change in report.changes:
        sign = "+" if change.old is None else "-" if change.new is None else "~"
        out.note(f"  {sign} {change}")
    if not report.changes:
        out.note("  nothing to change")
