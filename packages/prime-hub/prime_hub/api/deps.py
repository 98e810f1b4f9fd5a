"""What routes share: the Hub, the caller, addresses."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from prime_hub.db.models import Account
from prime_hub.errors import BadRequest, Unauthorized
from prime_hub.hub import Hub
from prime_hub.services.scopes import require
from prime_hub.services.tokens import Caller

API = "/api/v1"


def get_hub(request: Request) -> Hub:
    """The Hub that this app serves."""
    return request.app.state.hub


HubDep = Annotated[Hub, Depends(get_hub)]


def _token(request: Request) -> str | None:
    """The token of `Authorization: Bearer …`, or of Basic, where package installers put it as the password."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    rest = rest.strip()
    if not rest:
        return None
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no text
            return None
        return password or user or None
    return None


async def get_token(request: Request, hub: HubDep) -> Caller | None:
    """Who asks, and by which token; None without one.

    Raises Unauthorized for a token that is not known, rather than serving less, and Forbidden beyond its scopes.
    """
    token = _token(request)
    if token is None:
        return None
    caller = await hub.tokens.caller(token)
    require(caller.token.scopes, request.method, request.url.path)
    return caller


TokenDep = Annotated[Caller | None, Depends(get_token)]


async def get_caller(token: TokenDep) -> Account | None:
    """Who asks; None when nobody in particular does."""
    return None if token is None else token.account


CallerDep = Annotated[Account | None, Depends(get_caller)]


async def get_account(caller: CallerDep) -> Account:
    """Who asks. Raises Unauthorized when nobody in particular does."""
    if caller is None:
        raise Unauthorized("Not authenticated. Run 'prime login' first.")
    return caller


AccountDep = Annotated[Account, Depends(get_account)]


def base_url(request: Request) -> str:
    """The address under which the client reached this Hub, without a trailing slash."""
    return str(request.base_url).rstrip("/")


# What a proxy says of itself; a client behind one may be anywhere.
_FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})


def on_this_machine(request: Request) -> bool:
    """Whether the client runs on this machine: its address is the machine's own, and nobody forwards for it."""
    if request.client is None or not _FORWARDED.isdisjoint(request.headers.keys()):
        return False
    try:
        client = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    client = getattr(client, "ipv4_mapped", None) or client
    # A connection to an address of one's own machine comes from that address.
    return client.is_loopback or request.client.host == (request.scope.get("server") or [None])[0]


def frontend_url(request: Request) -> str:
    """Where people's browsers find the Hub."""
    return (get_hub(request).settings.frontend_url or base_url(request)).rstrip("/")


async def upload_url(request: Request, kind: str, slot: str) -> str:
    """Where a client PUTs a file: the store's own address where clients reach it, else one of this Hub's."""
    hub = get_hub(request)
    if (direct := await hub.blobs.upload_url(kind, slot, hub.settings.upload_url_seconds)) is not None:
        return direct
    token = hub.signer.sign(f"upload/{kind}/{slot}", hub.settings.upload_url_seconds)
    return f"{base_url(request)}{API}/uploads/{kind}/{slot}?token={token}"


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it arrives. Raises BadRequest when the sender goes away in the middle."""
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise BadRequest("The upload was cut off; run the command again.") from None


def unchanged(request: Request, etag: str) -> bool:
    """Whether the client says that it has what is under this ETag already."""
    known = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") in (etag, "*") for one in known.split(","))
