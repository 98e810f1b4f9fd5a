"""What BuildKit says of a build, as lines for a log.

The engine streams `moby.buildkit.trace` records: protocol buffers of BuildKit's `StatusResponse` (control.proto), of
which only these fields are read: vertexes = 1 {digest = 1, name = 3, cached = 4, started = 5, error = 7} and
logs = 3 {vertex = 1, msg = 4}.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Iterator

from prime_hub.runner.runtimes.base import BuildLog

KEPT_LINES = 20
_HIDDEN = ("[internal]", "copy /context", "exporting", "naming to", "writing image")


class Trace:
    """The steps of one build, written to its log as they begin."""

    def __init__(self, log: BuildLog) -> None:
        self._log = log
        self._names: dict[bytes, str] = {}
        self._tails: dict[bytes, deque[str]] = {}
        self._failed: bytes | None = None

    def read(self, record: str) -> None:
        """Take one record, base64. What cannot be read is passed over: it is for showing only."""
        try:
            content = base64.b64decode(record)
            for number, value in _fields(content):
                if number == 1 and isinstance(value, bytes):
                    self._vertex(value)
                elif number == 3 and isinstance(value, bytes):
                    self._line(value)
        except (binascii.Error, ValueError, IndexError):
            return

    def tail(self) -> list[str]:
        """The last lines of the step that failed."""
        return list(self._tails.get(self._failed or b"", ()))

    def _vertex(self, content: bytes) -> None:
        found = dict(_fields(content))
        digest, name = found.get(1), found.get(3)
        if not isinstance(digest, bytes) or not isinstance(name, bytes):
            return
        text = name.decode("utf-8", "replace")
        if 5 in found and digest not in self._names and not text.startswith(_HIDDEN):
            self._names[digest] = text
            self._log.write(f"{text}{' (cached)' if found.get(4) else ''}\n")
        if found.get(7):
            self._failed = digest

    def _line(self, content: bytes) -> None:
        found = dict(_fields(content))
        digest, message = found.get(1), found.get(4)
        if isinstance(digest, bytes) and isinstance(message, bytes):
            text = message.decode("utf-8", "replace")
            self._log.write(text)
            lines = (line for line in text.replace("\r", "\n").split("\n") if line.strip())
            self._tails.setdefault(digest, deque(maxlen=KEPT_LINES)).extend(lines)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: (number, integer or bytes). Raises ValueError, IndexError."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
        elif kind == 2:
            size, at = _varint(content, at)
            if at + size > len(content):
                raise ValueError("cut short")
            yield key >> 3, content[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("unknown kind of field")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not a number")
