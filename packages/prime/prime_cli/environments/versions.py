"""The next version number, and writing it into pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path

from packaging.version import InvalidVersion, Version

from prime_core.errors import PackagingError
from prime_core.files import write_atomic


class Bump(StrEnum):
    """Which part of a version number goes up (protocols/hub.md §3.2)."""

    patch = "patch"
    rc = "rc"
    post = "post"


def next_version(version: str, bump: Bump, newest_release: str | None = None) -> str:
    """The version after this one, in the normal form of PEP 440.

    patch: 0.1.0 → 0.1.1; rc: 0.1.0 → 0.1.0rc0 → 0.1.0rc1; post: 0.1.0 → 0.1.0.post0 → 0.1.0.post1. No candidate goes
    behind `newest_release`, which is the newest that was published: with 0.1.0, rc is 0.1.0 → 0.1.1rc0, and what follows
    a candidate of 0.1.0 follows 0.1.0. Raises PackagingError when it is not a version.
    """
    try:
        now = Version(version)
    except InvalidVersion:
        raise PackagingError(f"Version '{version}' in pyproject.toml is not a version number (PEP 440).") from None
    following = _raised(now, bump)
    newest = _spelt_like(now, newest_release) if newest_release else None
    if newest is not None and Version(following) <= newest and (bump is Bump.rc or now.is_prerelease):
        base = Version(_raised(newest, Bump.patch)) if bump is Bump.rc else newest
        following = _raised(base, bump)
    return following


def _spelt_like(now: Version, other: str) -> Version:
    """Another version, with at least as many numbers as `now`: 0.1 is written 0.1.0 where `now` is 0.1.0rc1."""
    version = Version(other)
    missing = len(now.release) - len(version.release)
    return Version(other.replace(version.base_version, version.base_version + ".0" * max(0, missing), 1))


def _raised(now: Version, bump: Bump) -> str:
    epoch = f"{now.epoch}!" if now.epoch else ""
    release = ".".join(str(part) for part in now.release)
    if bump is Bump.patch:
        major, minor, micro = (*now.release, 0, 0)[:3]
        return f"{epoch}{major}.{minor}.{micro + 1}"
    if bump is Bump.rc:
        number = now.pre[1] + 1 if now.pre and now.pre[0] == "rc" else 0
        return f"{epoch}{release}rc{number}"
    pre = "".join(str(part) for part in now.pre) if now.pre else ""
    return f"{epoch}{release}{pre}.post{0 if now.post is None else now.post + 1}"


def write_version(pyproject: Path, version: str) -> None:
    """Replace `[project].version`, and nothing else, in the file as its author wrote it.

    Raises PackagingError when the table has no `version = "…"` line of its own.
    """
    text = pyproject.read_bytes().decode("utf-8")
    table = re.search(r"^\[project\][^\S\n]*(?:#[^\n]*)?\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE)
    line = re.search(r"""^version\s*=\s*(["'])([^"'\n]*)\1""", table.group(1), re.MULTILINE) if table else None
    if table is None or line is None:
        raise PackagingError(
            f'{pyproject} has no line `version = "…"` under [project] to change.',
            "Write the new version there by hand.",
        )
    start = table.start(1) + line.start(2)
    changed = text[:start] + version + text[table.start(1) + line.end(2) :]
    wanted = tomllib.loads(text)
    wanted["project"]["version"] = version
    if tomllib.loads(changed) != wanted:  # the line stood in a text of several lines
        raise PackagingError(
            f"The version cannot be changed in {pyproject} without changing something else.",
            "Write the new version there by hand.",
        )
    write_atomic(pyproject, changed, mode=pyproject.stat().st_mode & 0o777)
