"""A WebSocket for one request and one reply at a time, on the Sans-I/O layer of `websockets`.

The library's own asyncio connection buffers, pings and iterates for the general case; a session needs none of it, and
without it a message costs two thirds (`script/bench openenv`). No task and no thread per connection: replies arrive
in a callback, and one timer per connection, armed again only when it has fired, watches over the time limit.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections import deque
from typing import Any

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import WebSocketURI, parse_uri

MAX_MESSAGE_BYTES = 100 * 1024 * 1024


class Refused(Exception):
    """The server answered the upgrade with this HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Closed(Exception):
    """The connection is over; the text is its close code and reason, empty when there are none."""


class WebSocket(asyncio.Protocol):
    """One connection. `open_websocket` makes it; `request` and `receive` are for one task at a time."""

    def __init__(self, uri: WebSocketURI) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES)
        self._transport: Any = None
        self._handshake: asyncio.Future[None] = self._loop.create_future()
        self._handshake.add_done_callback(_seen)
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._inbox: deque[str | bytes] = deque()
        self._parts: list[Any] = []
        self._waiter: asyncio.Future[str | bytes] | None = None
        self._closed: Closed | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def request(self, text: str, seconds: float) -> str | bytes:
        """Send a message and return the next one that comes, or one that has come already (`unasked`).

        Raises: TimeoutError after `seconds`, Closed. After a timeout or a cancellation the reply may still come, so
        the connection has to be aborted.
        """
        if self._protocol.state is OPEN:
            self._protocol.send_text(text.encode())
            self._flush()
        return await self.receive(seconds)

    def unasked(self) -> str | bytes | None:
        """A message that has come although nobody waited for one; None when there is none."""
        return self._inbox.popleft() if self._inbox else None

    async def receive(self, seconds: float) -> str | bytes:
        """The next message. Raises: TimeoutError, Closed."""
        if self._inbox:
            return self._inbox.popleft()
        if self._closed is not None:
            raise self._closed
        self._deadline = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)
        self._waiter = waiter = self._loop.create_future()
        return await waiter

    async def close(self) -> None:
        """Say goodbye and wait until the server has closed the connection."""
        if self._protocol.state is OPEN:
            self._protocol.send_close()
            self._flush()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        await asyncio.shield(self._lost)

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
            else:
                self._answered(upgraded=self._protocol.handshake_exc is None)
        self._flush()
        if self._protocol.parser_exc is not None and self._closed is None:
            self._end(Closed(f" ({type(self._protocol.parser_exc).__name__}: {self._protocol.parser_exc})"))

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._answered()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._answered()
        self._end(Closed(""))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lost.done():
            self._lost.set_result(None)

    # Inside

    async def shake_hands(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        await self._handshake

    def _answered(self, upgraded: bool = False) -> None:
        """The server has answered the upgrade, or never will."""
        if self._handshake.done():
            return
        error: Exception | None = self._protocol.handshake_exc
        if upgraded:
            self._handshake.set_result(None)
        elif isinstance(error, InvalidStatus):
            self._handshake.set_exception(Refused(error.response.status_code))
        else:
            self._handshake.set_exception(error or ConnectionError("the connection was closed"))

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY or opcode is Opcode.CONT:
            message: Any = frame.data
            if self._parts or not frame.fin:
                self._parts.append(message)
                if not frame.fin:
                    return
                message, self._parts = b"".join(self._parts), []
            waiter, self._waiter = self._waiter, None
            if waiter is not None and not waiter.done():
                waiter.set_result(message)
            else:
                self._inbox.append(message)
        elif opcode is Opcode.CLOSE:
            received = self._protocol.close_rcvd
            code, reason = (received.code, received.reason) if received is not None else (1005, "")
            self._end(Closed(f" (code {code}{': ' + reason if reason else ''})"))

    def _end(self, closed: Closed) -> None:
        if self._closed is None:
            self._closed = closed
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(self._closed)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof() and not self._transport.is_closing():
                self._transport.write_eof()
            else:
                self._transport.close()

    def _look_at_the_time(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._loop.time() >= self._deadline:
            self._waiter = None
            waiter.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)


def _seen(handshake: asyncio.Future[None]) -> None:
    """Whoever gives up between connecting and shaking hands leaves an error behind that nobody else asks for."""
    if not handshake.cancelled():
        handshake.exception()


@functools.lru_cache(maxsize=64)
def _parsed(uri: str) -> WebSocketURI:
    # A user alone, as tokens are often given, has an empty password, as for HTTP.
    try:
        return parse_uri(re.sub(r"^(wss?://[^/?#:@]+)@", r"\1:@", uri))
    except InvalidURI as error:  # its text holds the whole address, passwords included
        raise ValueError(error.msg) from None


@functools.cache
def tls_context() -> ssl.SSLContext:
    """For servers at https: whom this machine trusts, SSL_CERT_FILE included. Read once, which takes a while."""
    return ssl.create_default_context()


async def open_websocket(url: str, *, socket_path: str | None = None, seconds: float = 10.0) -> WebSocket:
    """Connect to `url` (http:// or https://, the path included), through the unix socket at `socket_path` if given.

    Raises: Refused (the server answered, with no WebSocket), OSError (TimeoutError included), ValueError (no such
    address), WebSocketException.
    """
    loop = asyncio.get_running_loop()
    uri = _parsed("ws" + url.removeprefix("http"))
    made: list[WebSocket] = []

    def protocol() -> WebSocket:
        made.append(WebSocket(uri))
        return made[-1]

    try:
        async with asyncio.timeout(seconds):
            if socket_path is not None:
                await loop.create_unix_connection(protocol, socket_path)
            else:
                tls = tls_context() if uri.secure else None
                await loop.create_connection(protocol, uri.host, uri.port, ssl=tls)
            await made[-1].shake_hands()
    except BaseException:
        for socket in made:
            socket.abort()
        raise
    return made[-1]


__all__ = ["MAX_MESSAGE_BYTES", "Closed", "Refused", "WebSocket", "WebSocketException", "open_websocket", "tls_context"]
