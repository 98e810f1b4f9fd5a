"""The wire of `command_session.CommandSession`: Connect envelopes and the few protobuf messages (sandboxes.md §2.3).

What comes in is a stranger's: lengths, depths and numbers of fields are bounded, unknown fields are passed over.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_MESSAGE = 16 << 20
MAX_FIELDS = 50_000
COMPRESSED, END_OF_STREAM = 0x01, 0x02
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(Exception):
    """The bytes are no such message; `code` is Connect's word for the refusal."""

    def __init__(self, words: str, code: str = "invalid_argument") -> None:
        super().__init__(words)
        self.code = code


def envelope(payload: bytes, flags: int = 0) -> bytes:
    """One message of a stream."""
    return struct.pack(">BI", flags, len(payload)) + payload


def end_of_stream(error: tuple[str, str] | None = None) -> bytes:
    """The last envelope: `error` is a code and a sentence."""
    content = {} if error is None else {"error": {"code": error[0], "message": error[1]}}
    return envelope(json.dumps(content).encode(), END_OF_STREAM)


def only_message(body: bytes, compression: str) -> bytes:
    """The message of a request that streams exactly one. Raises Malformed."""
    if len(body) < 5:
        raise Malformed("The request ends within its first envelope.")
    flags, length = struct.unpack_from(">BI", body)
    if length > MAX_MESSAGE:
        raise Malformed(f"A message may have {MAX_MESSAGE} bytes.", "resource_exhausted")
    if flags & ~COMPRESSED:
        raise Malformed("The request's envelope has flags that no request has.")
    if len(body) != 5 + length:
        raise Malformed("The request is not exactly one envelope.")
    return unpacked(body[5:], compression if flags & COMPRESSED else "identity")


def unpacked(data: bytes, compression: str) -> bytes:
    """A message without its compression, which is `identity` or `gzip`. Raises Malformed."""
    if compression in ("", "identity"):
        return data
    if compression != "gzip":
        raise Malformed(f"The compression '{compression}' is not known here; use gzip or none.", "unimplemented")
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(data, MAX_MESSAGE)
    except zlib.error:
        raise Malformed("The message is not compressed as it says.") from None
    if inflate.unconsumed_tail:
        raise Malformed(f"A message may have {MAX_MESSAGE} bytes.", "resource_exhausted")
    if not inflate.eof:
        raise Malformed("The compressed message is cut off.")
    return plain


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (number, value) of a message's fields, as they stand. Raises Malformed."""
    at, seen = 0, 0
    while at < len(data):
        seen += 1
        if seen > MAX_FIELDS:
            raise Malformed(f"A message may have {MAX_FIELDS} fields.", "resource_exhausted")
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise Malformed("A field has the number 0.")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise Malformed(f"A field has the unknown kind {kind}.")
        if at + size > len(data):
            raise Malformed("The message is cut off.")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Malformed("The message is cut off.")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise Malformed("A number has more than ten bytes.")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise Malformed("A field is of another kind than it should be.")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError:
        raise Malformed("A text is not UTF-8.") from None


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise Malformed("A field is of another kind than it should be.")
    return value


@dataclass
class Selector:
    """Which command: by its session's name, or by its process number."""

    pid: int | None = None
    session: str | None = None

    @classmethod
    def read(cls, data: bytes) -> Selector:
        found = cls()
        for number, value in fields(data):
            if number == 1:
                found = cls(pid=_number(value))
            elif number == 3:
                found = cls(session=_text(value))
        return found


@dataclass
class Start:
    """StartRequest: the command's words, its folder and variables, and the session's name."""

    argv: list[str] = field(default_factory=lambda: [""])
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    pty: tuple[int, int] | None = None
    stdin: bool = False
    session: str | None = None

    @classmethod
    def read(cls, data: bytes) -> Start:
        """Raises Malformed."""
        found = cls()
        for number, value in fields(data):
            if number == 1:
                found._command(_bytes(value))
            elif number == 2:
                found.pty = _terminal(_bytes(value))
            elif number == 4:
                found.stdin = bool(_number(value))
            elif number == 5:
                found.session = _text(value) or None
        return found

    def _command(self, data: bytes) -> None:
        for number, value in fields(data):
            if number == 1:
                self.argv[0] = _text(value)
            elif number == 2:
                self.argv.append(_text(value))
            elif number == 3:
                entry = {key: _text(item) for key, item in fields(_bytes(value)) if key in (1, 2)}
                self.env[entry.get(1, "")] = entry.get(2, "")
            elif number == 4:
                self.working_dir = _text(value) or None
            elif number == 5:
                self.user = _text(value) or None


def _terminal(data: bytes) -> tuple[int, int]:
    """(rows, columns) of `PTY{1 size{1 cols, 2 rows}}`."""
    rows, columns = 24, 80
    for number, value in fields(data):
        if number == 1:
            for key, item in fields(_bytes(value)):
                columns = _number(item) if key == 1 else columns
                rows = _number(item) if key == 2 else rows
    return rows, columns


@dataclass
class Control:
    """SendInputRequest, SendSignalRequest, ConnectRequest: which command, what for it, and the request's own name."""

    selector: Selector = field(default_factory=Selector)
    data: bytes = b""
    signal: int = 0
    name: str | None = None

    @classmethod
    def read(cls, body: bytes) -> Control:
        """Raises Malformed."""
        found = cls()
        for number, value in fields(body):
            if number == 1:
                found.selector = Selector.read(_bytes(value))
            elif number == 2 and isinstance(value, int):
                found.signal = value
            elif number == 2:
                found.data = next((_bytes(item) for key, item in fields(_bytes(value)) if key in (1, 2)), b"")
            elif number == 3:
                found.name = _text(value) or None
        return found


def _encoded_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(number: int, value: int) -> bytes:
    """A field with a number that is not negative."""
    return _encoded_varint(number << 3 | _VARINT) + _encoded_varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field with bytes, a text or a message."""
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(value)) + value


def _event(number: int, payload: bytes) -> bytes:
    """StartResponse and ConnectResponse alike: `{1 CommandSessionEvent{number: payload}}`, in its envelope."""
    return envelope(bytes_field(1, bytes_field(number, payload)))


def started(pid: int) -> bytes:
    """The event that it runs."""
    return _event(1, number_field(1, pid))


def printed(kind: int, data: bytes) -> bytes:
    """The event of output: kind 1 stdout, 2 stderr, 3 terminal."""
    return _event(2, bytes_field(kind, data))


def ended(code: int) -> bytes:
    """The event of its end; the code is a sint32."""
    status = f"exit status {code}".encode()
    zigzag = code << 1 if code >= 0 else (-code << 1) - 1
    return _event(3, number_field(1, zigzag) + number_field(2, 1) + bytes_field(3, status))


KEEPALIVE = _event(4, b"")


def listed(commands: list[dict[str, Any]]) -> bytes:
    """ListResponse, of the runner's list."""
    out = b""
    for item in commands:
        words = [str(word).encode() for word in item["argv"]]
        command = bytes_field(1, words[0]) + b"".join(bytes_field(2, word) for word in words[1:])
        session = bytes_field(1, command) + number_field(2, item["pid"] or 0) + bytes_field(4, item["key"].encode())
        out += bytes_field(1, session)
    return out
