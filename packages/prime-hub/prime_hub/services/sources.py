"""What is in the source archives of versions: folders, files, and their bytes. Nothing is unpacked to disk."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prime_hub.db.models import Version
from prime_hub.errors import NotFound
from prime_hub.services.archives import CHUNK_BYTES, Entry, contents, count, entries, no_path, one_file
from prime_hub.services.blobs import BlobStore
from prime_hub.services.kept import Kept

Result = TypeVar("Result")

AT_ONCE = 3
"""How many archives are read at the same time; each takes a processor while it is."""
KEPT_ENTRIES, KEPT_ARCHIVES = 20_000, 3
"""Entries of archives that are kept, and how many archives' whatever their number."""
KEPT_COUNTS = 10_000
COUNTED_BYTES = 32 * 1024 * 1024
"""Unpacked bytes that are read for the numbers of files on one page."""


@dataclass(frozen=True)
class Part:
    """What lies in a folder: a file with its size, or a folder with the size and number of all files below it."""

    name: str
    path: str
    is_folder: bool
    size: int
    files: int


@dataclass(frozen=True)
class Folder:
    """A folder of a version, folders first. `size` and `files` are of all below it."""

    path: str
    parts: list[Part]

    @property
    def size(self) -> int:
        """Bytes of all files below it."""
        return sum(part.size for part in self.parts)

    @property
    def files(self) -> int:
        """How many files are below it."""
        return sum(part.files for part in self.parts)


@dataclass(frozen=True)
class File:
    """A file of a version, or its beginning."""

    path: str
    size: int
    data: bytes
    sha256: str


class Sources:
    """Reads source archives. An archive's bytes never change, so what is in it is kept for the next who asks."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._kept: Kept[dict[str, Entry]] = Kept(KEPT_ENTRIES, KEPT_ARCHIVES, len)
        self._counting: Kept[int] = Kept(0, 0, lambda taken: 1)
        self._counts: OrderedDict[str, int | None] = OrderedDict()
        self._reading = asyncio.Semaphore(AT_ONCE)

    async def entries(self, version: Version) -> dict[str, Entry]:
        """Every file of the version by its path. Raises NotFound when the bytes are gone."""
        return await self._kept.get(version.blob or "", lambda: self._entries(version))

    async def _entries(self, version: Version) -> dict[str, Entry]:
        found = await self._read(version, entries)
        self._counted(version, len(found))
        return found

    async def counts(self, versions: Iterable[Version]) -> dict[str, int]:
        """How many files versions hold, by their ids; for those that are known already, and more as far as the
        bytes that their archives unpack to allow.
        """
        left = COUNTED_BYTES
        found: dict[str, int] = {}
        for version in versions:
            key = version.blob or ""
            if key not in self._counts and 0 < version.size <= left:
                left -= await self._counting.get(key, functools.partial(self._count, version, left))
            count = self._counts.get(key)
            if count is not None:
                found[version.id] = count
        return found

    async def _count(self, version: Version, most: int) -> int:
        """Count a version's files, and tell how many bytes that took. What is gone or is too much has no number."""
        try:
            number, taken = await self._read(version, lambda path: count(path, most))
        except NotFound:
            return 0
        if number is not None or most == COUNTED_BYTES:
            self._counted(version, number)
        return taken

    def _counted(self, version: Version, number: int | None) -> None:
        self._counts[version.blob or ""] = number
        while len(self._counts) > KEPT_COUNTS:
            self._counts.popitem(last=False)

    async def look(self, version: Version, inside: str, most: int) -> File | Folder:
        """A file, at most so many bytes of it, or a folder; "" is the folder of all. Raises NotFound."""
        inside = "/".join(part for part in inside.split("/") if part not in ("", "."))
        known = await self.entries(version)
        entry = known.get(inside)
        if entry is None:
            return _folder(known, inside)
        data = await self.contents(version, {inside: most})
        return File(inside, entry.size, data.get(inside, b""), entry.digest.hex())

    async def inspect(self, version: Version, inside: str, most: int) -> dict[str, Any]:
        """The same as `env inspect` shows it (hub.md §3.6). Raises NotFound."""
        found = await self.look(version, inside, most)
        if isinstance(found, File):
            return {
                "kind": "file",
                "path": found.path,
                "content": found.data.decode("utf-8", "replace"),
                "truncated": found.size > most,
                "total_bytes": found.size,
            }
        rows = [
            {
                "name": part.name,
                "path": part.path,
                "is_directory": part.is_folder,
                "size": None if part.is_folder else part.size,
            }
            for part in found.parts
        ]
        return {"kind": "directory", "path": found.path, "entries": rows}

    async def contents(self, version: Version, wanted: dict[str, int]) -> dict[str, bytes]:
        """The beginnings of several files (path → most bytes). Raises NotFound when the archive is gone."""
        return await self._read(version, lambda path: contents(path, wanted)) if wanted else {}

    async def raw(self, version: Version, inside: str) -> tuple[int, AsyncGenerator[bytes]]:
        """A file's size and its bytes in parts, for however long they are taken. Raises NotFound."""
        known = await self.entries(version)
        entry = known.get(inside)
        if entry is None:
            raise no_path(inside)
        return entry.size, self._parts(version, inside)

    async def _parts(self, version: Version, inside: str) -> AsyncGenerator[bytes]:
        async with self._blobs.local(version.blob or "") as path:
            opened = one_file(path, inside)
            await self._reading.acquire()
            try:
                try:
                    content = await _finished(opened.__enter__)
                finally:
                    self._reading.release()
                while chunk := await _finished(lambda: content.read(CHUNK_BYTES)):
                    yield chunk
            finally:
                opened.__exit__(None, None, None)

    async def _read(self, version: Version, read: Callable[[Path], Result]) -> Result:
        try:
            async with self._reading, self._blobs.local(version.blob or "") as path:
                return await asyncio.to_thread(read, path)
        except FileNotFoundError:
            raise NotFound("The bytes of this version are missing from this Hub's storage.") from None


async def _finished(call: Callable[[], Result]) -> Result:
    """Run in a thread, and wait for its end also when nobody wants the result any more."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


def _folder(known: dict[str, Entry], inside: str) -> Folder:
    """Raises NotFound where nothing lies below that path."""
    before = f"{inside}/" if inside else ""
    sizes: dict[tuple[str, bool], list[int]] = {}
    for path, entry in known.items():
        if path.startswith(before):
            first, slash, _ = path[len(before) :].partition("/")
            sizes.setdefault((first, bool(slash)), []).append(entry.size)
    if not sizes and inside:
        raise no_path(inside)
    parts = [Part(name, before + name, is_folder, sum(found), len(found)) for (name, is_folder), found in sizes.items()]
    return Folder(inside, sorted(parts, key=lambda part: (not part.is_folder, part.name)))
