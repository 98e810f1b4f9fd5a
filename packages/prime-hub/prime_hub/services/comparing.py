"""What changed between two versions of an environment: its files, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from packaging.version import Version as Number

from prime_hub.db.models import Environment, Version
from prime_hub.errors import NotFound
from prime_hub.services.archives import Entry
from prime_hub.services.catalogue import Catalogue
from prime_hub.services.kept import Kept
from prime_hub.services.line_diffs import Difference, Steps, TooEntangled, difference
from prime_hub.services.sources import Sources

MOST_FILES = 1000
"""Files that are named; those beyond are counted."""
MOST_COMPARED = 100
"""Files whose lines are compared."""
MOST_BYTES = 256 * 1024
MOST_BYTES_IN_ALL = 4 * 1024 * 1024
MOST_LINES = 5000
"""Lines of differences that are told, of all files together."""
MOST_STEPS = 4_000_000
"""Work of one comparison: about a second of one processor."""
MOST_WORDS, MOST_CHARACTERS = 200, 500
"""Of what is said of a version: items of a list, and the length of each."""

AT_ONCE = 2
KEPT_CHARACTERS = 4_000_000
"""Of comparisons that are kept for the next who asks."""

BINARY = "binary"
TOO_LARGE = "too_large"
TOO_MANY = "too_many"
ENTANGLED = "entangled"


@dataclass(frozen=True)
class FileChange:
    """A file that is not the same. `why` says why the lines of one that `changed` are not told."""

    path: str
    status: str
    """`added`, `removed` or `changed`."""
    size_before: int | None
    size_after: int | None
    lines: Difference | None = None
    why: str | None = None


@dataclass(frozen=True)
class FieldChange:
    """Something that is said of the version, and what it was."""

    name: str
    removed: list[str]
    added: list[str]


@dataclass(frozen=True)
class Comparison:
    """What changed. `counts` is of all files by status, `left_out` how many of them are not in `files`."""

    before: Version
    after: Version
    fields: list[FieldChange]
    files: list[FileChange]
    counts: dict[str, int]
    left_out: int


_Files = tuple[list[FileChange], dict[str, int], int]
"""What changed in the files: as in `Comparison`."""


@dataclass
class _Room:
    """What is left to be told."""

    steps: Steps = field(default_factory=lambda: Steps(MOST_STEPS))
    lines: int = MOST_LINES


class Comparing:
    """Compares versions. Who may see an environment is asked before."""

    def __init__(self, catalogue: Catalogue, sources: Sources) -> None:
        self._catalogue = catalogue
        self._sources = sources
        self._at_work = asyncio.Semaphore(AT_ONCE)
        self._kept: Kept[_Files] = Kept(KEPT_CHARACTERS, 1, _weight)

    async def compare(self, environment: Environment, before: str, after: str) -> Comparison:
        """What changed from one version to another.

        Each is named as `Catalogue.version` takes it; `previous` for `before` is the one whose number is next below.
        Raises NotFound for a version that is not there, also where there is none before.
        """
        new = await self._catalogue.version(environment, after)
        if before == "previous":
            known = predecessors(await self._catalogue.versions(environment))
            if new.id not in known:
                raise NotFound(
                    f"There is no version before {new.version} of {environment.owner.slug}/{environment.name} "
                    "on this Hub.",
                    code="version_not_found",
                )
            before = known[new.id].version
        old = await self._catalogue.version(environment, before)
        files, counts, left_out = await self._kept.get((old.blob, new.blob), lambda: self._files(old, new))
        return Comparison(old, new, _fields(old, new), files, counts, left_out)

    async def _files(self, old: Version, new: Version) -> _Files:
        old_files, new_files = await self._sources.entries(old), await self._sources.entries(new)
        changes = list(_changes(old_files, new_files))
        counts = {status: sum(one.status == status for one in changes) for status in ("added", "removed", "changed")}
        # What differs within is told before what is only there or not.
        named = sorted(changes, key=lambda one: one.status != "changed")[:MOST_FILES]
        wanted = _wanted(named)
        async with self._at_work:
            texts = [await self._sources.contents(version, wanted) for version in (old, new)]
            files = await asyncio.to_thread(_compared, named, set(wanted), texts[0], texts[1])
        files.sort(key=lambda one: one.path)
        return files, counts, len(changes) - len(files)


def predecessors(versions: list[Version]) -> dict[str, Version]:
    """The version whose number is next below, by the ids of those that have one."""
    ordered = sorted(versions, key=lambda one: Number(one.version))
    return {after.id: before for before, after in pairwise(ordered)}


def _weight(found: _Files) -> int:
    """About how many characters a comparison takes."""
    lines = (line for one in found[0] if one.lines for hunk in one.lines.hunks for line in hunk.lines)
    return 1000 + sum(200 + len(one.path) for one in found[0]) + sum(100 + len(line.text) for line in lines)


def _changes(old: dict[str, Entry], new: dict[str, Entry]) -> Iterator[FileChange]:
    for path in sorted(old.keys() | new.keys()):
        one, other = old.get(path), new.get(path)
        if one is None and other is not None:
            yield FileChange(path, "added", None, other.size)
        elif other is None and one is not None:
            yield FileChange(path, "removed", one.size, None)
        elif one is not None and other is not None and one.digest != other.digest:
            yield FileChange(path, "changed", one.size, other.size)


def _wanted(named: list[FileChange]) -> dict[str, int]:
    """The files whose lines are compared, and how many bytes of each are read."""
    found: dict[str, int] = {}
    left = MOST_BYTES_IN_ALL
    for one in named:
        largest = max(one.size_before or 0, one.size_after or 0)
        both = (one.size_before or 0) + (one.size_after or 0)
        if one.status == "changed" and largest <= MOST_BYTES and both <= left and len(found) < MOST_COMPARED:
            found[one.path] = MOST_BYTES
            left -= both
    return found


def _compared(
    named: list[FileChange], wanted: set[str], old: dict[str, bytes], new: dict[str, bytes]
) -> list[FileChange]:
    room = _Room()
    return [
        one
        if one.status != "changed"
        else _with_lines(one, old.get(one.path), new.get(one.path), room)
        if one.path in wanted
        else _without(one, TOO_LARGE if _largest(one) > MOST_BYTES else TOO_MANY)
        for one in named
    ]


def _largest(change: FileChange) -> int:
    return max(change.size_before or 0, change.size_after or 0)


def _without(change: FileChange, why: str, lines: Difference | None = None) -> FileChange:
    return FileChange(change.path, change.status, change.size_before, change.size_after, lines, why)


def _with_lines(change: FileChange, old: bytes | None, new: bytes | None, room: _Room) -> FileChange:
    before, after = as_text(old or b""), as_text(new or b"")
    if before is None or after is None:
        return _without(change, BINARY)
    if room.lines <= 0:
        return _without(change, TOO_MANY)
    try:
        found = difference(before, after, room.steps)
    except TooEntangled:
        return _without(change, ENTANGLED)
    count = sum(len(hunk.lines) for hunk in found.hunks)
    if count > room.lines:
        return _without(change, TOO_MANY)
    room.lines -= count
    return FileChange(change.path, change.status, change.size_before, change.size_after, found)


def as_text(data: bytes) -> str | None:
    """A file's text; None for one that is none."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _fields(old: Version, new: Version) -> list[FieldChange]:
    before, after = told(old), told(new)
    return [
        FieldChange(
            name,
            [word for word in before[name] if word not in after[name]],
            [word for word in after[name] if word not in before[name]],
        )
        for name in before
        if before[name] != after[name] and set(before[name]) != set(after[name])
    ]


def told(version: Version) -> dict[str, list[str]]:
    """What is said of a version, each as a list of words; one that is not said is empty."""
    details = version.details
    urls = details.get("urls")
    said: dict[str, Any] = {
        "description": details.get("description"),
        "tags": details.get("tags"),
        "python": details.get("python_requires"),
        "dependencies": details.get("requires_dist"),
        "license": licence(details),
        "links": [f"{name}: {url}" for name, url in urls.items()] if isinstance(urls, dict) else None,
        "image": version.image,
        "image_digest": version.image_digest,
    }
    return {name: _words(value) for name, value in said.items()}


def licence(details: dict[str, Any]) -> Any:
    """What a version's details name as its licence."""
    found = details.get("license")
    return found.get("text") or found.get("file") if isinstance(found, dict) else found


def _words(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one)[:MOST_CHARACTERS] for one in values[:MOST_WORDS] if one not in (None, "", [])]
