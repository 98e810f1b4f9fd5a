"""Ports of sandboxes for clients on other machines: HTTP and WebSocket through the Hub's own port.

The address holds a signed token, `/ports/EXPOSURE.EXPIRY.MAC/…`: whoever has it reaches that one port, until the port is
closed or its sandbox has ended. Nothing else of the Hub can be reached with it. For a port of a team's sandbox the token
also has the account to which it was told, `EXPOSURE.ACCOUNT.EXPIRY.MAC`, and holds as long as that is in the team.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection

from prime_hub.api.deps import base_url, on_this_machine
from prime_hub.api.port_headers import Headers, Redirected, for_client, for_server
from prime_hub.db.models import Account, Exposure, Sandbox
from prime_hub.disconnects import CLIENT_GONE
from prime_hub.errors import BadGateway, Conflict, NotFound
from prime_hub.hub import Hub
from prime_hub.services.ports import Place, Target
from prime_hub.streaming import Stream

router = APIRouter(tags=["ports"], include_in_schema=False)

PREFIX = "/ports/"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
CONNECT_SECONDS = 10.0
ONLY_HTTP = (
    "This client is not on the Hub's machine, so the port is reached through the Hub, which passes HTTP and WebSocket "
    "on; a server of another protocol can be reached from the Hub's machine only."
)


def token_of(hub: Hub, account: Account, exposure_id: str, sandbox: Sandbox) -> str:
    """The token in the address of an exposed port, for `account`."""
    expires = int(sandbox.expires_at.timestamp())
    if sandbox.team_id is None:
        return f"{exposure_id}.{hub.signer.sign_until(f'port/{exposure_id}', expires)}"
    return f"{exposure_id}.{account.id}.{hub.signer.sign_until(f'port/{exposure_id}/{account.id}', expires)}"


def shown(request: Request, account: Account, row: Exposure, sandbox: Sandbox) -> dict[str, Any]:
    """An exposed port on the wire, with an address that this very client can use."""
    about = {
        "exposure_id": row.id,
        "sandbox_id": row.sandbox_id,
        "port": row.port,
        "name": row.name,
        "tls_socket": "",
        "protocol": row.protocol,
        "created_at": row.created_at,
    }
    if on_this_machine(request):
        endpoint = f"{row.host}:{row.external_port}"
        where = {"url": f"http://{endpoint}", "external_port": row.external_port, "external_endpoint": endpoint}
        return {**about, **where}
    hub: Hub = request.app.state.hub
    url = f"{base_url(request)}{PREFIX}{token_of(hub, account, row.id, sandbox)}"
    # Clients that put 'http://' before the endpoint reach it too, where that is how the Hub is reached.
    plain = url.removeprefix("http://") if url.startswith("http://") else None
    port = URL(url).port or (443 if url.startswith("https://") else 80)
    note = {"note": ONLY_HTTP} if row.protocol == "TCP" else {}
    return {**about, "url": url, "external_port": port, "external_endpoint": plain, **note}


async def target_of(connection: HTTPConnection, token: str) -> Target:
    """The server that a token is for. Raises NotFound, and what `Ports.reach` raises."""
    hub: Hub = connection.app.state.hub
    exposure_id, _, signed = token.partition(".")
    first, _, rest = signed.partition(".")
    holder, signed = (first, rest) if "." in rest else (None, signed)
    if not hub.signer.holds(f"port/{exposure_id}" + (f"/{holder}" if holder else ""), signed):
        raise NotFound("The address of this port is wrong or has run out; expose the port again for a new one.")
    return await hub.ports.reach(exposure_id, holder)


def raw_path(connection: HTTPConnection, token: str) -> bytes:
    """The path and query for the server, exactly as they came."""
    path = connection.scope.get("raw_path") or connection.scope["path"].encode()
    inner = path.partition(token.encode())[2] or b"/"
    query = connection.scope["query_string"]
    return inner + (b"?" + query if query else b"")


@router.api_route(PREFIX + "{token}", methods=METHODS)
@router.api_route(PREFIX + "{token}/{path:path}", methods=METHODS)
async def proxy(token: str, request: Request) -> Response:
    """Pass a request on to the server of an exposed port, and its answer back, both as they come."""
    target = await target_of(request, token)
    url = httpx.URL(scheme="http", host=target.host, port=target.port, raw_path=raw_path(request, token))
    body = _Body(request)
    # Not through a client with its own ideas: no cookies kept, no redirects followed, no headers added.
    asked = httpx.Request(
        request.method,
        url,
        headers=for_server(request.headers.raw, f"{target.host}:{target.port}"),
        content=body if body.there else None,
        extensions={"timeout": httpx.Timeout(None, connect=CONNECT_SECONDS).as_dict()},
    )
    hub: Hub = request.app.state.hub
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(hub.ports.place(target.exposure_id))
        answer = await _asked(hub, asked, body, target, place)
        try:
            headers = for_client(answer.headers.raw, str(url), f"{PREFIX}{token}")
        except Redirected:
            await answer.aclose()
            raise BadGateway(
                "The sandbox's server redirects to an address that is not its own, which is not passed on."
            ) from None
        given_back = stack.pop_all()
    return _Answer(answer, headers, place, given_back.close)


async def _asked(hub: Hub, asked: httpx.Request, body: _Body, target: Target, place: Place) -> httpx.Response:
    """The server's answer, its body still to come. Raises BadGateway, Conflict, NotFound when the port is closed
    meanwhile, and HTTPException when the client has gone.
    """
    asking = asyncio.ensure_future(hub.ports.http.handle_async_request(asked))
    leaving = asyncio.ensure_future(body.gone())
    shut = asyncio.ensure_future(place.closed.wait())
    try:
        await asyncio.wait({asking, leaving, shut}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
        if shut.done():
            raise NotFound("The port was closed before its server had answered.", code="not_exposed")
        raise HTTPException(CLIENT_GONE, "The client went away before there was an answer.")
    except ClientDisconnect:
        raise HTTPException(CLIENT_GONE, "The client went away before its request was complete.") from None
    except httpx.ConnectError:
        raise Conflict(
            f"Nothing listens on port {target.sandbox_port} of the sandbox; is its server up, and on that port?",
            code="not_listening",
        ) from None
    except httpx.TransportError as error:
        raise BadGateway(
            f"The sandbox's server did not answer as HTTP says ({type(error).__name__}); 'prime sandbox logs' may say "
            "why."
        ) from None
    finally:
        for task in (asking, leaving, shut):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


class _Body(httpx.AsyncByteStream):
    """The request's body, and afterwards the moment when its sender goes away."""

    def __init__(self, request: Request) -> None:
        headers = request.headers
        self._request = request
        self._over = asyncio.Event()
        self.there = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        if not self.there:
            self._over.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.stream():
            if chunk:
                yield chunk
        self._over.set()

    async def gone(self) -> None:
        """Return when the client has gone away."""
        await self._over.wait()
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


class _Answer(Stream):
    """The server's answer with its own headers, which may come several times."""

    def __init__(self, answer: httpx.Response, headers: Headers, place: Place, give_back: Callable[[], None]) -> None:
        async def finish() -> None:
            give_back()
            await answer.aclose()

        super().__init__(_raw(answer), finish=finish, cut=place.closed, status_code=answer.status_code)
        self.raw_headers = headers


async def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    assert isinstance(answer.stream, httpx.AsyncByteStream)
    async for part in answer.stream:
        yield part
