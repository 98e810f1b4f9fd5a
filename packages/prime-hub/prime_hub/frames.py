"""A command's stream between runner, Hub and clients: frames of one byte kind, four bytes length, payload.

`s` JSON `{key, pid}` comes first, then `o` (stdout) and `e` (stderr) as they come and `k` (empty) while nothing does;
`x` is last: JSON `{exit_code}`, or `{exit_code: null, error: WORD, detail: SENTENCE}` where it did not end by itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

STARTED = b"s"
OUT = b"o"
ERR = b"e"
KEEPALIVE = b"k"
END = b"x"
KINDS = frozenset({STARTED, OUT, ERR, KEEPALIVE, END})
MEDIA_TYPE = "application/vnd.prime.frames"
MAX_PAYLOAD = 4 << 20

_HEAD = struct.Struct(">cI")


class BadFrames(Exception):
    """Not such a stream, or one that ended in the middle of a frame."""


def encode(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(kind, len(payload)) + payload


def plain(kind: bytes, content: dict[str, Any]) -> tuple[bytes, bytes]:
    """A frame with a JSON payload, not encoded yet."""
    return kind, json.dumps(content).encode()


class Decoder:
    """Takes a stream apart, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The (kind, payload) of every frame that is complete now. Raises BadFrames."""
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._rest)
            if kind not in KINDS or length > MAX_PAYLOAD:
                raise BadFrames("The stream of the command is not understood; are Hub and client of one version?")
            if len(self._rest) < _HEAD.size + length:
                return
            payload = bytes(self._rest[_HEAD.size : _HEAD.size + length])
            del self._rest[: _HEAD.size + length]
            yield kind, payload
