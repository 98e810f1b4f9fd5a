"""Reading source archives (`.tar.gz`) without unpacking them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from prime_hub.errors import Invalid, NotFound, StorageFull
from prime_hub.services.blobs import storage_full

README_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024
TAR_BLOCK = 512
MANIFEST = "proj/.build.json"


@dataclass(frozen=True)
class Summary:
    """What the Hub keeps of an archive beside its bytes."""

    content_hash: str
    readme: str | None
    manifest: dict[str, Any] | None


def summarise(path: Path) -> Summary:
    """Check the archive's members and hash them. Raises Invalid with the reason an archive is refused, StorageFull."""
    from prime_core.errors import PackagingError
    from prime_core.packaging import read_archive

    try:
        content_hash, found = read_archive(path, {"README.md": README_BYTES, MANIFEST: README_BYTES})
    except PackagingError as error:
        if storage_full(error):  # what is not packed in order is unpacked to be hashed
            raise StorageFull(
                "The Hub's temporary folder is full: the source archive could not be checked and nothing was published. "
                "Free some space on the Hub's disk and run the command again."
            ) from error
        raise Invalid(f"The source archive was refused: {error}") from error
    readme = found.get("README.md")
    return Summary(content_hash, None if readme is None else _text(readme), _manifest(found.get(MANIFEST)))


def _text(data: bytes) -> str:
    """Text as both databases take it."""
    return data.decode("utf-8", "replace").replace("\0", "\ufffd")


def _manifest(data: bytes | None) -> dict[str, Any] | None:
    import json

    try:
        found = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Entry:
    """A file of an archive: its path, its size in bytes and its SHA-256."""

    path: str
    size: int
    digest: bytes


def entries(path: Path) -> dict[str, Entry]:
    """Every file of an archive by its path, in the order of paths. Raises NotFound where it cannot be read."""
    found: dict[str, Entry] = {}
    with _files(path) as files:
        for name, size, content in files:
            digest = hashlib.sha256()
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
            found.setdefault(name, Entry(name, size, digest.digest()))
    return dict(sorted(found.items()))


def count(path: Path, most: int) -> tuple[int | None, int]:
    """How many files an archive holds, and the bytes that were unpacked to know; None where that would be over `most`.

    Raises NotFound where it cannot be read.
    """
    names: set[str] = set()
    taken = 0
    with _files(path) as files:
        for name, size, _ in files:
            taken += TAR_BLOCK + size
            if taken > most:
                return None, most
            names.add(name)
    return len(names), taken


def contents(path: Path, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """The beginnings of the `wanted` files (path → most bytes) that there are. Raises NotFound."""
    found: dict[str, bytes] = {}
    with _files(path) as files:
        for name, _, content in files:
            if name in wanted and name not in found:
                found[name] = content.read(wanted[name])
                if len(found) == len(wanted):
                    break
    return found


@contextmanager
def one_file(path: Path, wanted: str) -> Generator[BinaryIO]:
    """A file of an archive, to be read. Raises NotFound."""
    with _files(path) as files:
        for name, _, content in files:
            if name == wanted:
                yield content
                return
    raise no_path(wanted)


def no_path(inside: str) -> NotFound:
    """The refusal for a path that is not in a version."""
    from prime_core.entries import shown

    return NotFound(f"There is no file or folder '{shown(inside)}' in this version.", code="path_not_found")


@contextmanager
def _files(path: Path) -> Generator[Generator[tuple[str, int, BinaryIO]]]:
    """The files of an archive with sizes and contents, each to be read before the next is asked for.

    It was checked when it came (`summarise`), so that what is odd in it now is a disk's doing, or an earlier Hub's.
    """
    from prime_core.entries import MAX_BYTES, MAX_ENTRIES, BadName, plain_name
    from prime_core.errors import PackagingError
    from prime_core.tars import UNREADABLE, members_of

    def plain() -> Generator[tuple[str, int, BinaryIO]]:
        for count, (member, content) in enumerate(members_of(path, 2 * MAX_BYTES)):
            if count > MAX_ENTRIES:
                return
            if not member.isreg():
                continue
            try:
                name = plain_name(member.name)
            except BadName:
                continue
            yield name, member.size, content

    try:
        with closing(plain()) as files:
            yield files
    except (*UNREADABLE, PackagingError) as error:
        raise NotFound("The source archive of this version cannot be read any more.") from error
