"""Opening a wheel of a stranger's: a zip that every reader reads alike, in memory that does not depend on what it says.

Some installers read a zip from the front, some by the directory at its end; so a wheel is one piece, in which no byte belongs
to nothing, both say the same, and all of it unpacks to that. What is in its files is looked at by `prime_core.wheel_contents`.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from prime_core.entries import MAX_BYTES, MAX_ENTRIES, BadName, Entries, shown
from prime_core.errors import PackagingError

# 20,000 entries with names of 150 bytes; a directory is read into memory whole.
MAX_DIRECTORY_BYTES = 4 << 20
_END = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES = 20  # before the end, in the form for huge files
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR_BYTES = 24  # behind an entry, at most
_CHUNK_BYTES = 1 << 20
_ENCRYPTED = 0x41
_LENGTHS_BEHIND = 0x08
_UTF8 = 0x800
_HOW_WELL_PACKED = 0x06
_UNICODE_NAME = 0x7075
_LARGE = 0x0001  # the extra field of sizes that need eight bytes
_IN_EXTRA = 0xFFFFFFFF
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    EOFError,
    RuntimeError,
    ValueError,
)


@contextmanager
def open_wheel(path: Path, name: str | None = None) -> Generator[zipfile.ZipFile]:
    """The zip, all of whose entries are fit to be unpacked; `name` is what the wheel is called where that is not the path's.

    Raises PackagingError, also for what the block cannot read.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            count = _check_end(file, name)
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len(members) != count:
                    _refuse(name, "its directory does not hold as many entries as it says how many there are")
                _check_members(members, name)
                _check_one_piece(file, members, archive.start_dir, name)
                yield archive
    except _UNREADABLE as error:
        raise PackagingError(f"{shown(name)} is not a wheel: it is damaged ({shown(str(error))}).") from None


def _refuse(name: str, why: str) -> NoReturn:
    raise PackagingError(f"{shown(name)} is not used: {why}.")


def _not_whole(name: str) -> NoReturn:
    raise PackagingError(f"{shown(name)} is not a wheel: it is not one piece, from its first entry to its directory.")


def _check_end(file: BinaryIO, name: str) -> int:
    """How many entries it says there are. Before the library reads the directory, of whatever size that is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _LOCATOR_BYTES))
    tail = file.read()
    if len(tail) < _END.size:
        _not_whole(name)
    mark, disk, first, here, count, length, start, comment = _END.unpack(tail[-_END.size :])
    whole = mark == b"PK\5\6" and not (disk or first or comment) and here == count
    if not whole or tail.startswith(b"PK\6\7") or start + length + _END.size != size:
        _not_whole(name)
    if count > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        _refuse(name, f"it holds more than {MAX_ENTRIES} entries, or names that are too long")
    return count


def _check_members(members: list[zipfile.ZipInfo], name: str) -> None:
    entries, total = Entries(), 0
    for member in members:
        try:
            _check_member(member)
            entries.add(member.orig_filename, member.is_dir())
        except BadName as error:
            _refuse(name, f"its entry '{shown(member.orig_filename)}' {error}")
        total += member.file_size
        if total > MAX_BYTES:
            _refuse(name, f"it unpacks to more than {MAX_BYTES} bytes")


def _check_member(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if member.is_dir() else stat.S_IFREG):
        raise BadName("is a link or a device")
    if member.flag_bits & _ENCRYPTED:
        raise BadName("is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadName("is packed in a way that not every installer knows")
    if not member.flag_bits & _UTF8 and not member.orig_filename.isascii():
        raise BadName("has a name that is not text in UTF-8")
    if member.is_dir() and member.file_size:
        raise BadName("is a file and a folder at once")
    _fields(member.extra)


def _fields(extra: bytes) -> bytes | None:
    """The field of large sizes, where there is one. Raises BadName for what some readers go by and others do not."""
    large = None
    while len(extra) >= 4:
        field, length = struct.unpack_from("<2H", extra)
        if field == _UNICODE_NAME:
            raise BadName("has another name in an extra field")
        if 4 + length > len(extra) or (field == _LARGE and large is not None):
            raise BadName("is damaged: its extra fields make no sense")
        if field == _LARGE:
            large = extra[4 : 4 + length]
        extra = extra[4 + length :]
    return large


def _check_one_piece(file: BinaryIO, members: list[zipfile.ZipInfo], end: int, name: str) -> None:
    """That each entry begins where the one before it ends, says of itself what the directory says, and unpacks to that."""
    members = sorted(members, key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in members), end]
    if ends[0] != 0:
        _not_whole(name)
    for member, until in zip(members, ends[1:], strict=True):
        file.seek(member.header_offset)
        try:
            described = _check_header(file, member)
            behind = until - file.tell() - member.compress_size
            if not 0 <= behind <= (_DESCRIPTOR_BYTES if described else 0):
                _not_whole(name)
            _check_content(file, member)
            if described and file.read(behind) not in described:
                raise BadName("is damaged: what stands behind its bytes is something else than what its directory says")
        except BadName as error:
            _refuse(name, f"its entry '{shown(member.orig_filename)}' {error}")


def _check_header(file: BinaryIO, member: zipfile.ZipInfo) -> list[bytes]:
    """What may stand behind the entry's bytes: its lengths, where they do not stand before them. Raises BadName."""
    mark, _, flags, method, _, _, crc, packed, size, length, extra = _LOCAL.unpack(file.read(_LOCAL.size))
    name = file.read(length).decode("utf-8" if flags & _UTF8 else "cp437")
    large = _fields(file.read(extra))
    late = bool(flags & _LENGTHS_BEHIND)
    true = (member.file_size, member.compress_size)
    sizes = list(zip((size, packed), true, strict=True))
    if large is not None:
        # Here both stand in the field, whatever stands in their places.
        sizes = [pair for pair in sizes if pair[0] != _IN_EXTRA]
        sizes += zip(struct.unpack_from("<2Q", large), true, strict=True)
    same = all(said == number or (late and not said) for said, number in [(crc, member.CRC), *sizes])
    same = same and not (flags ^ member.flag_bits) & ~_HOW_WELL_PACKED and method == member.compress_type
    if mark != b"PK\3\4" or name != member.orig_filename or not same:
        raise BadName("is damaged: it is another one in its directory")
    lengths = struct.pack("<L2L" if large is None else "<L2Q", member.CRC, member.compress_size, member.file_size)
    return [lengths, b"PK\7\x08" + lengths] if late else []


def _check_content(file: BinaryIO, member: zipfile.ZipInfo) -> None:
    """That the entry's bytes are one whole stream of what the directory says. Raises BadName."""
    size = crc = 0
    for piece in _stored(file, member) if member.compress_type == zipfile.ZIP_STORED else _inflated(file, member):
        size, crc = size + len(piece), zlib.crc32(piece, crc)
        if size > member.file_size:
            break
    if (size, crc) != (member.file_size, member.CRC):
        raise BadName("is damaged: its bytes are others than its directory says")


def _stored(file: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    left = member.compress_size
    while piece := file.read(min(left, _CHUNK_BYTES)):
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    left, data, inflater = member.compress_size, b"", zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        if not data:
            data = file.read(min(left, _CHUNK_BYTES))
            left -= len(data)
        ended = not data
        piece = inflater.decompress(data, _CHUNK_BYTES)
        if ended and not piece and not inflater.eof:
            break
        data = inflater.unconsumed_tail
        yield piece
    if left or inflater.unused_data or not inflater.eof:
        raise BadName("is damaged: what is packed in it does not end where the entry does")
