"""What the proxy understands of HTTP: one request's head, how long its body is, and that nothing follows it.

A connection carries one request. What a client sends behind it is not passed on, so that it never reaches a server that
it was not meant for.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAD_BYTES = 65536
CHUNK_BYTES = 65536
CHUNK_LINE_BYTES = 8192
# Between two hops only, never passed on; `Proxy-Authorization` is nobody's business behind the proxy.
_HOP = frozenset(
    ("connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer")
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>\d{1,5})")


class Broken(Exception):
    """The other side ended, or speaks something else; there is nobody to tell."""


class Refused(Exception):
    """A reply of the proxy's own: its status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def reply(self) -> bytes:
        """The response."""
        words = {400: "Bad Request", 403: "Forbidden", 413: "Too Large", 502: "Bad Gateway", 503: "Unavailable"}
        body = (str(self) + "\n").encode("utf-8", "replace")
        head = (
            f"HTTP/1.1 {self.status} {words.get(self.status, 'Refused')}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nX-Refused-By: sandbox-egress\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


class Stream:
    """One side of an exchange: a non-blocking socket with what was read of it ahead, given up after `idle` seconds."""

    def __init__(self, connection: socket.socket, idle: float) -> None:
        self._socket = connection
        self.idle = idle
        self._loop = asyncio.get_running_loop()
        self._ahead = b""

    async def read(self, limit: int = CHUNK_BYTES, *, idle: bool = True) -> bytes:
        """Some bytes; b"" at the end. `idle` False waits without end. Raises OSError, TimeoutError."""
        if self._ahead:
            data, self._ahead = self._ahead[:limit], self._ahead[limit:]
            return data
        if not idle:
            return await self._loop.sock_recv(self._socket, limit)
        async with asyncio.timeout(self.idle):
            return await self._loop.sock_recv(self._socket, limit)

    async def read_until(self, mark: bytes, limit: int) -> bytes:
        """What comes up to and with `mark`. Raises Broken, Refused when it is longer than `limit`."""
        data = b""
        while (at := data.find(mark)) < 0:
            if len(data) > limit:
                raise Refused(413, f"The head of the request is longer than {limit} bytes.")
            more = await self.read()
            if not more:
                raise Broken
            data += more
        end = at + len(mark)
        self._ahead = data[end:] + self._ahead
        return data[:end]

    async def read_head(self) -> bytes:
        """A request's or a response's head, with the empty line. Raises Broken, Refused."""
        return await self.read_until(b"\r\n\r\n", HEAD_BYTES)

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError, TimeoutError."""
        async with asyncio.timeout(self.idle):
            await self._loop.sock_sendall(self._socket, data)

    async def finish(self) -> None:
        """Say that nothing more is sent, and take what still comes, so that the reply is not lost to a reset."""
        self.end_sending()
        while await self.read():
            pass

    def end_sending(self) -> None:
        """Say that nothing more is sent. Raises OSError."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go."""
        self._socket.close()


@dataclass(frozen=True)
class Request:
    """A request: where to, whether as a tunnel, and else the head to pass on and how its body is told apart.

    `length` None is a body in chunks.
    """

    host: str
    port: int
    tunnel: bool
    method: bytes = b"CONNECT"
    head: bytes = b""
    length: int | None = 0
    upgrade: bool = False

    @classmethod
    def read(cls, head: bytes) -> Request:
        """Understand a head. Raises Refused."""
        first, _, rest = head[:-2].partition(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Refused(400, "This is no HTTP/1.1 request.")
        try:
            target = words[1].decode("ascii")
        except UnicodeDecodeError:
            raise Refused(400, "The target of the request is not ASCII.") from None
        fields = _fields(rest)
        if words[0] == b"CONNECT":
            match = _AUTHORITY.fullmatch(target)
            if match is None:
                raise Refused(400, "CONNECT needs HOST:PORT.")
            return cls(match["v6"] or match["host"], _port(int(match["port"])), tunnel=True)
        return cls._plain(words[0], target, fields)

    @classmethod
    def _plain(cls, method: bytes, target: str, fields: list[tuple[str, bytes]]) -> Request:
        try:
            url = urlsplit(target)
            host, port = url.hostname, url.port
        except ValueError:
            raise Refused(400, "The target of the request is no URL.") from None
        if url.scheme != "http" or not host or re.search(r"[\s\\@]", url.netloc):
            raise Refused(400, "This is a proxy: it takes 'http://host/path' and, for anything else, CONNECT.")
        port = _port(80 if port is None else port)
        options = {
            word.strip().lower()
            for name, value in fields
            if name == "connection"
            for word in value.decode("latin-1").split(",")
        }
        upgrade = "upgrade" in options and any(name == "upgrade" for name, _ in fields)
        path = target.partition("//")[2].partition("#")[0]
        path = path[len(path.partition("/")[0].partition("?")[0]) :]
        dropped = (_HOP | options | {"host", "upgrade"}) - ({"upgrade"} if upgrade else set())
        shown = (f"[{host}]" if ":" in host else host) + ("" if port == 80 else f":{port}")
        lines = [
            b"%s %s HTTP/1.1" % (method, (path if path.startswith("/") else f"/{path}").encode("ascii")),
            f"Host: {shown}".encode("ascii"),
            *(name.encode() + b": " + value for name, value in fields if name not in dropped),
            b"Connection: upgrade" if upgrade else b"Connection: close",
        ]
        return cls(host, port, False, method, b"\r\n".join(lines) + b"\r\n\r\n", _body(fields), upgrade)


def _port(number: int) -> int:
    if not 0 < number < 65536:
        raise Refused(400, f"There is no port {number}.")
    return number


def _fields(text: bytes) -> list[tuple[str, bytes]]:
    """Header fields, names in lower case. Raises Refused for what two readers could read differently."""
    found = []
    for line in text.split(b"\r\n"):
        if not line:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or re.search(rb"[\r\n\0]", value):
            raise Refused(400, "The request has a header line that is none.")
        found.append((name.decode("ascii").lower(), value.strip(b" \t")))
    return found


def _body(fields: list[tuple[str, bytes]]) -> int | None:
    lengths = {value for name, value in fields if name == "content-length"}
    codings = [value.lower() for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths or codings != [b"chunked"]:
            raise Refused(400, "The request does not say clearly how long its body is.")
        return None
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not re.fullmatch(rb"\d{1,18}", length):
        raise Refused(400, "The request does not say clearly how long its body is.")
    return int(length)


async def exchange(request: Request, client: Stream, upstream: Stream) -> None:
    """Pass a request on and its response back. Raises OSError, TimeoutError, Broken, Refused (nothing sent yet)."""
    await upstream.send(request.head)
    if request.upgrade:
        await pump_both(client, upstream)
        return
    back = asyncio.ensure_future(_send_back(request, client, upstream))
    body = asyncio.ensure_future(_send_body(request, client, upstream))
    try:
        await asyncio.wait({back, body}, return_when=asyncio.FIRST_COMPLETED)
        # A server that no longer listens may have said why.
        if not back.done() and not isinstance(body.exception(), OSError):
            body.result()
            gone = asyncio.ensure_future(_until_gone(client))
            try:
                await asyncio.wait({back, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
            if not back.done():
                raise Broken
        await back
    finally:
        for task in (back, body):
            task.cancel()
        await asyncio.gather(back, body, return_exceptions=True)


async def _until_gone(client: Stream) -> None:
    """Return when the client has ended; what it sends behind its request is nobody's."""
    with contextlib.suppress(OSError):
        while await client.read(idle=False):
            pass


async def _send_body(request: Request, client: Stream, upstream: Stream) -> None:
    if request.length is None:
        await _send_chunks(client, upstream)
        return
    left = request.length
    while left:
        data = await client.read(min(left, CHUNK_BYTES))
        if not data:
            raise Broken
        left -= len(data)
        await upstream.send(data)


async def _send_chunks(client: Stream, upstream: Stream) -> None:
    while True:
        line = await client.read_until(b"\r\n", CHUNK_LINE_BYTES)
        match = re.match(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;|\r)", line)
        if match is None:
            raise Broken
        await upstream.send(line)
        left = int(match[1], 16)
        if left == 0:
            while True:
                line = await client.read_until(b"\r\n", CHUNK_LINE_BYTES)
                await upstream.send(line)
                if line == b"\r\n":
                    return
        left += 2
        while left:
            data = await client.read(min(left, CHUNK_BYTES))
            if not data:
                raise Broken
            left -= len(data)
            await upstream.send(data)


async def _send_back(request: Request, client: Stream, upstream: Stream) -> None:
    """The response, its head changed to say that the connection ends with it."""
    while True:
        try:
            head = await upstream.read_head()
        except (Broken, Refused):
            raise Refused(502, "The server answered with something that is no HTTP.") from None
        first, _, rest = head[:-2].partition(b"\r\n")
        match = re.match(rb"HTTP/1\.[01] (\d{3})(?: |$)", first)
        if match is None:
            raise Refused(502, "The server answered with something that is no HTTP.")
        if match[1].startswith(b"1"):
            await client.send(head)
            continue
        lines = [line for line in rest.split(b"\r\n") if line and not _told_of_connection(line)]
        await client.send(b"\r\n".join([first, *lines, b"Connection: close"]) + b"\r\n\r\n")
        break
    left = 0 if request.method == b"HEAD" or match[1] in (b"204", b"304") else _length(lines)
    while left != 0 and (data := await upstream.read()):
        data = data[:left]
        left = None if left is None else left - len(data)
        await client.send(data)


def _length(lines: list[bytes]) -> int | None:
    """How long a response says that its body is; None where only its end tells."""
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    values = [value for name, value in fields if name == b"content-length"]
    if any(name == b"transfer-encoding" for name, _ in fields) or len(values) != 1 or not values[0].isdigit():
        return None
    return int(values[0][:18])


def _told_of_connection(line: bytes) -> bool:
    return line.partition(b":")[0].strip().lower() in (b"connection", b"keep-alive", b"proxy-connection")


async def pump_both(one: Stream, other: Stream) -> None:
    """Pass bytes both ways until both have ended; a side that ends is told on. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    last = loop.time()

    async def pump(source: Stream, target: Stream) -> None:
        nonlocal last
        while data := await source.read(idle=False):
            last = loop.time()
            await target.send(data)
            last = loop.time()
        target.end_sending()

    async def watch() -> None:
        while (left := last + one.idle - loop.time()) > 0:  # noqa: ASYNC110 - quiet is what is waited for
            await asyncio.sleep(left)
        raise TimeoutError

    pumps = {asyncio.ensure_future(pump(one, other)), asyncio.ensure_future(pump(other, one))}
    watching = asyncio.ensure_future(watch())
    waiting = {*pumps, watching}
    try:
        while pumps & waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in (*pumps, watching):
            task.cancel()
        await asyncio.gather(*pumps, watching, return_exceptions=True)
