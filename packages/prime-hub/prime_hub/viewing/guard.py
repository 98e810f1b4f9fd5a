"""Who is let in to pages that are served to one person on their own machine.

Conversations may be private, and a port of this machine is open to its other users and to every page of the web that a
browser shows. So an address carries a secret, once: it becomes a cookie that pages of other sites cannot make a browser
send. A name that somebody else has pointed at this machine (DNS rebinding) is refused by the Host header.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

FIRST = "/dashboard/evaluations"
PARAMETER = "key"


class Guard:
    """Lets in who has the secret. `hosts`: what the Host header may say, with the port."""

    def __init__(self, app: ASGIApp, secret: str, hosts: frozenset[str], port: int) -> None:
        self._app, self._secret, self._hosts = app, secret, hosts
        # Cookies do not tell one port of a machine from another.
        self._cookie = f"view_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, send on, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope) if scope["type"] == "http" else PlainTextResponse("Nothing here.", 404)
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        """None: let in."""
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self._hosts:
            return PlainTextResponse("This address is not one that the pages are served at.\n", 421)
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get(PARAMETER, [""])[0]
        if scope["path"] == "/" and given and self._is_secret(given):
            answer = RedirectResponse(FIRST, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
            # Strict cookies are not sent with the first page where another site has linked to it; nothing links here.
            answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="strict")
            return answer
        held = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        if not self._is_secret(held):
            return PlainTextResponse(
                "These pages are for the person who started them: open the address that 'prime eval view' has printed.\n",
                403,
                {"Cache-Control": "no-store"},
            )
        return None

    def _is_secret(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._secret.encode())
