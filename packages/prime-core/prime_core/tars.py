"""Reading a `.tar.gz` of a stranger's member by member, in memory that does not depend on what it says of itself."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from prime_core.entries import shown
from prime_core.errors import PackagingError

UNREADABLE = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError)
"""What reading raises for an archive that is none, or not whole."""
CHUNK_BYTES = 1 << 20
# Long names and extended headers are read into memory whole and kept, so theirs are limits of their own.
MAX_HEADER_BYTES = 8 << 10
MAX_HEADERS_BYTES = 16 << 20
MAX_HEADERS_IN_A_ROW = 8
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def members_of(path: Path, max_bytes: int) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """Each member with its content, which is to be read before the next one is asked for (empty where it is no file).

    Raises PackagingError for what no archive of ours holds (sparse files, headers without measure) and for more than
    `max_bytes` out of the compression, padding and headers included; UNREADABLE and OSError.
    """
    with gzip.open(path, "rb") as packed:
        stream = cast(BinaryIO, _Bounded(packed, max_bytes))
        member_type = type("_Counted", (_Member,), {"headers": _Headers()})
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=member_type) as archive:
            while (member := archive.next()) is not None:
                # The library remembers all of them otherwise.
                archive.members = []  # ty: ignore[missing-attribute]
                yield member, cast(BinaryIO, archive.extractfile(member) if member.isreg() else io.BytesIO())
        # To the very end, where the checksum stands.
        while stream.read(CHUNK_BYTES):
            pass


class _Bounded:
    """A stream that ends the reading when more comes out of the compression than was allowed."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(CHUNK_BYTES if size < 0 else min(size, CHUNK_BYTES))
        self._left -= len(chunk)
        if self._left < 0:
            raise PackagingError(f"The archive unpacks to more than {self._limit} bytes; it was not unpacked.")
        return chunk


class _Headers:
    """The headers of one archive that are no members themselves."""

    def __init__(self) -> None:
        self._bytes = self._in_a_row = self._global = 0

    def count(self, member: tarfile.TarInfo) -> None:
        """Raises PackagingError when it is one too many: the library follows them by recursion and keeps the global ones."""
        if member.type not in _HEADERS:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._bytes += member.size
        self._global += member.type == tarfile.XGLTYPE
        if member.size > MAX_HEADER_BYTES:
            raise PackagingError("The archive holds a header that is too large; it was not unpacked.")
        if self._in_a_row > MAX_HEADERS_IN_A_ROW or self._bytes > MAX_HEADERS_BYTES or self._global > 1:
            raise PackagingError("The archive holds more headers than an archive needs; it was not unpacked.")


class _Member(tarfile.TarInfo):
    """A member that is refused before the library follows what its header asks for."""

    headers: _Headers

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            raise PackagingError("The archive holds an entry of a size below zero; it was not unpacked.")
        cls.headers.count(member)
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(member)
        return member

    def _refuse_sparse(self, member: tarfile.TarInfo, *_: object) -> None:
        raise _sparse(member)

    # The library's three forms of a map of holes, of any length, that an extended header announces.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _sparse(member: tarfile.TarInfo) -> PackagingError:
    return PackagingError(f"The archive's entry '{shown(member.name)}' is a sparse file; it was not unpacked.")
