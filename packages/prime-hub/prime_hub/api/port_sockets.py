"""WebSockets to ports of sandboxes, through the Hub's own port. The server's answer comes first: what it refuses is
refused with its own status, so that a client which then speaks plain HTTP to it knows.
"""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import APIRouter, WebSocket
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from prime_hub.api.port_headers import OURS, for_handshake
from prime_hub.api.ports import CONNECT_SECONDS, PREFIX, raw_path, target_of
from prime_hub.errors import HubError
from prime_hub.hub import Hub
from prime_hub.services.ports import Place

router = APIRouter(include_in_schema=False)

MAX_MESSAGE_BYTES = 64 << 20
"""One message, either way: four times what servers take by themselves, so that it is theirs to refuse."""
CLOSE_SECONDS = 5.0
_NORMAL, _GONE, _FAILED = 1000, 1001, 1011
# Said of a connection, and never on it.
_NOT_SENT = frozenset({1004, 1005, 1006, 1015})


class _Directly(connect):
    """Never to where the server sends us: that may be any address that this machine can reach."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@router.websocket(PREFIX + "{token}")
@router.websocket(PREFIX + "{token}/{path:path}")
async def proxy(token: str, client: WebSocket) -> None:
    """Open a WebSocket to the server, then the client's, and pass messages both ways until either closes."""
    hub: Hub = client.app.state.hub
    try:
        target = await target_of(client, token)
        path = raw_path(client, token).decode("latin-1")
        with hub.ports.place(target.exposure_id) as place:
            await _between(client, f"ws://{target.host}:{target.port}{path}", place)
    except HubError as error:
        await _refuse(client, error.status, error.detail)


async def _between(client: WebSocket, address: str, place: Place) -> None:
    try:
        server = await _Directly(
            address,
            subprotocols=[Subprotocol(name) for name in client.scope.get("subprotocols") or ()] or None,
            additional_headers=for_handshake(client.headers.raw),
            user_agent_header=client.headers.get("user-agent"),
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=CONNECT_SECONDS,
            close_timeout=CLOSE_SECONDS,
            # Whether the other side lives is for the two ends to find out.
            ping_interval=None,
            proxy=None,
        )
    except InvalidStatus as refused:
        status = refused.response.status_code
        await _refuse(client, status if status >= 400 else 502, "The sandbox's server takes no WebSocket here.")
        return
    except (OSError, TimeoutError, InvalidHandshake):
        await _refuse(client, 502, "The sandbox's server cannot be reached, or is no WebSocket server; is it up?")
        return
    try:
        await client.accept(subprotocol=server.subprotocol)
        await _passed_on(client, server, place)
    finally:
        await server.close()


async def _passed_on(client: WebSocket, server: ClientConnection, place: Place) -> None:
    up = asyncio.ensure_future(_up(client, server))
    down = asyncio.ensure_future(_down(client, server))
    shut = asyncio.ensure_future(place.closed.wait())
    try:
        await asyncio.wait({up, down, shut}, return_when=asyncio.FIRST_COMPLETED)
        if place.closed.is_set():
            await client.close(_GONE, "The port was closed.")
    finally:
        for task in (up, down, shut):
            task.cancel()
            # What breaks off on the one side has been told to the other.
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, WebSocketDisconnect, RuntimeError):
                await task


async def _up(client: WebSocket, server: ClientConnection) -> None:
    """From the client to the server, until the client closes."""
    while True:
        message = await client.receive()
        if message["type"] == "websocket.disconnect":
            await server.close(*_closing(message.get("code"), message.get("reason")))
            return
        data = message.get("bytes")
        await server.send(message["text"] if data is None else data)


async def _down(client: WebSocket, server: ClientConnection) -> None:
    """From the server to the client, until the server closes."""
    try:
        async for data in server:
            await (client.send_text(data) if isinstance(data, str) else client.send_bytes(data))
    except ConnectionClosed:
        pass
    code, reason = _closing(server.close_code, server.close_reason)
    await client.close(code, reason)


def _closing(code: int | None, reason: str | None) -> tuple[int, str]:
    """What to close the other side with."""
    if code is None or code in _NOT_SENT:
        return _GONE if code == 1006 else _NORMAL, ""
    if not 1000 <= code < 5000:
        return _FAILED, ""
    return code, (reason or "").encode()[:123].decode("utf-8", "ignore")


async def _refuse(client: WebSocket, status: int, sentence: str) -> None:
    answer = PlainTextResponse(sentence, status)
    answer.raw_headers.extend(OURS)
    with contextlib.suppress(RuntimeError):
        await client.send_denial_response(answer)
