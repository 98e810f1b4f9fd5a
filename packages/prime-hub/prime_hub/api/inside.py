"""Who may reach the inside of a sandbox: whoever holds its own token, which opens no other and dies with it.

The token for a team's sandbox says to whom it was given, and holds as long as they are in the team.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from prime_hub.api.asked import require_plain
from prime_hub.api.deps import body_chunks
from prime_hub.db.models import Account, Sandbox
from prime_hub.errors import BadRequest, TooLarge, Unauthorized
from prime_hub.hub import Hub
from prime_hub.services.runner_client import parts
from prime_hub.streaming import Stream

PREFIX = "/gateway/{user_ns}/{sandbox_id}"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

# A command says that it lives every fifteen seconds; a folder is packed before its first byte comes.
SILENCE_SECONDS = 60.0
FILE_SECONDS = 300.0


class Inside:
    """One sandbox, to the holder of its token."""

    def __init__(self, hub: Hub, sandbox_id: str, request: Request) -> None:
        self.hub = hub
        self.sandbox_id = sandbox_id
        self.request = request

    async def ask(self, method: str, path: str, **options: Any) -> Response:
        """A small answer of the runner, passed on."""
        content = await self.hub.sandbox_io.ask(self.sandbox_id, method, path, **options)
        return Response(content, media_type="application/json")

    async def stream(self, method: str, path: str, **options: Any) -> Response:
        """An answer of the runner, passed on while it comes."""
        answer = await self.hub.sandbox_io.open(self.sandbox_id, method, path, **options)
        headers = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
        kind = answer.headers.get("content-type", "")
        # Closed by name: a client may be gone before the first part was asked for.
        return Stream(parts(answer), finish=answer.aclose, headers=headers, media_type=kind)

    async def json(self) -> Any:
        """The request's JSON. Raises BadRequest, Invalid."""
        try:
            found = await self.request.json()
        except (ValueError, RecursionError):
            raise BadRequest("The body is not JSON.") from None
        require_plain(found)
        return found

    def params(self, *names: str) -> Mapping[str, str]:
        """Those of the query's parameters, where given."""
        return {name: self.request.query_params[name] for name in names if name in self.request.query_params}

    async def body(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """The request's body as it comes. Raises TooLarge after `limit` bytes."""
        seen = 0
        async for chunk in body_chunks(self.request):
            seen += len(chunk)
            if limit is not None and seen > limit:
                raise TooLarge(f"This is more than the {limit} bytes that this Hub moves at once.")
            yield chunk


_PASSED = ("content-length", "x-file-size", "x-file-offset")


def token_of(hub: Hub, account: Account, row: Sandbox) -> str:
    """The token with which `account` reaches the inside of a sandbox."""
    seconds = hub.settings.gateway_token_seconds
    if row.team_id is None:
        return hub.signer.sign(f"gateway/{row.id}", seconds)
    return f"{account.id}.{hub.signer.sign(f'gateway/{row.id}/{account.id}', seconds)}"


async def inside(request: Request, sandbox_id: str) -> Inside:
    """The sandbox of the address. Raises Unauthorized."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    hub: Hub = request.app.state.hub
    token = given.strip()
    holder, _, signed = token.partition(".")
    holds = hub.signer.holds(f"gateway/{sandbox_id}", token) or (
        hub.signer.holds(f"gateway/{sandbox_id}/{holder}", signed) and await hub.sandboxes.is_for(holder, sandbox_id)
    )
    if scheme.lower() != "bearer" or not holds:
        raise Unauthorized("The sandbox's token is missing, wrong or has run out; ask for a new one.")
    return Inside(hub, sandbox_id, request)


InsideDep = Annotated[Inside, Depends(inside)]


def checked(key: str) -> str:
    """A name from an address, safe to put into another. Raises BadRequest."""
    if not NAME.fullmatch(key):
        raise BadRequest("A command's key is letters, digits, '_', '.' and '-' only, 100 at most.")
    return key
