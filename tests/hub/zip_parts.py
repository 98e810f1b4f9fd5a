"""The parts of a zip one by one, which say of themselves what a test wants."""

from __future__ import annotations

import struct
import zlib


def directory(name: bytes, size: int, packed: int, crc: int, at: int, method: int = 8) -> bytes:
    """One record of a central directory."""
    head = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0x800, method, 0, 33, crc, packed, size, len(name), 0, 0, 0, 0, 0, at
    )
    return head + name


def local(name: bytes, size: int, packed: int, crc: int, method: int = 8) -> bytes:
    """A member's own header."""
    return struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0x800, method, 0, 33, crc, packed, size, len(name), 0) + name


def end(count: int, size: int, at: int, comment: bytes = b"") -> bytes:
    """The record at the end of a zip."""
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, at, len(comment)) + comment


def built(members: list[tuple[str, bytes, int, int]], count: int | None = None) -> bytes:
    """A zip of (name, packed bytes, size that is said, CRC), as said."""
    body, records = b"", b""
    for name, packed, size, crc in members:
        raw = name.encode()
        records += directory(raw, size, len(packed), crc, len(body))
        body += local(raw, size, len(packed), crc) + packed
    return body + records + end(len(members) if count is None else count, len(records), len(body))


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zeros(times: int) -> bytes:
    """64 MiB of zeros, this many times, as one deflated stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(64 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * times + packer.flush()
