"""Who looks at a page: by the cookie of a browser that is signed in, or by a token, as programs show it.

The API never takes the cookie, so no other site can make a browser use it.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request
from starlette.datastructures import URL
from starlette.responses import Response

from prime_hub.api.deps import HubDep, TokenDep, get_hub
from prime_hub.db.models import Account, BrowserSession
from prime_hub.errors import Unauthorized
from prime_hub.hub import Hub
from prime_hub.services.sessions import LONGEST
from prime_hub.services.vault import Unreadable

SIGN_IN = "/dashboard/sign-in"
FORM_SECONDS = 12 * 3600
HAND_ON_SECONDS = 60


@dataclass(frozen=True)
class Visitor:
    """Who looks, and what the forms of their pages are bound to."""

    account: Account | None
    session: BrowserSession | None
    """None: nobody is signed in in this browser."""
    seed: str
    """Known to this browser and the Hub only."""
    proof: str
    """What every form carries, for `forms.checked`."""


class SignInFirst(Unauthorized):
    """The page is for people who are signed in; a browser is sent to do so, and comes back."""

    def __init__(self) -> None:
        super().__init__("Sign in first.")


@dataclass(frozen=True)
class SignedIn:
    """Somebody who is signed in in this browser."""

    account: Account
    session: BrowserSession
    visitor: Visitor


async def get_visitor(request: Request, hub: HubDep, token: TokenDep) -> Visitor:
    """Who looks at a page. Raises what a wrong token raises; a cookie that has ended is nobody's."""
    session = None
    secret = request.cookies.get(_name(request, hub, "session"))
    if secret and token is None:
        session = await hub.sessions.find(secret)
    seed = session.hash if session else request.cookies.get(_name(request, hub, "form")) or secrets.token_urlsafe(24)
    account = session.account if session else (token.account if token else None)
    visitor = Visitor(account, session, seed, hub.signer.sign(_purpose(seed), FORM_SECONDS))
    request.state.visitor = visitor
    return visitor


VisitorDep = Annotated[Visitor, Depends(get_visitor)]


async def get_signed_in(visitor: VisitorDep) -> SignedIn:
    """Somebody who is signed in here. Raises SignInFirst; a token is not enough."""
    if visitor.session is None or visitor.account is None:
        raise SignInFirst
    return SignedIn(visitor.account, visitor.session, visitor)


SignedInDep = Annotated[SignedIn, Depends(get_signed_in)]


def proven(hub: Hub, visitor: Visitor, proof: str) -> bool:
    """Whether a form comes from a page that this Hub gave to this browser not long ago."""
    return hub.signer.holds(_purpose(visitor.seed), proof)


def _purpose(seed: str) -> str:
    return f"form\0{seed}"


async def seen(request: Request) -> Visitor | None:
    """Who looks at a page that says what went wrong, perhaps before anybody had asked; None where that cannot be told."""
    found = getattr(request.state, "visitor", None)
    if found is None and "authorization" not in request.headers:
        with suppress(Exception):  # whatever it is, the page is shown
            found = await get_visitor(request, get_hub(request), None)
    return found


def sign_in_page(url: URL) -> str:
    """Where to sign in, and to go on from to an address."""
    here = url.path + (f"?{url.query}" if url.query else "")
    return f"{SIGN_IN}?next={quote(here, safe='')}"


def local_path(target: str) -> str:
    """A path of this Hub to go on to, or the start page for what is none."""
    try:
        parts = urlsplit(target) if target.isprintable() and "\\" not in target else None
    except ValueError:  # `//[`
        parts = None
    if parts is None or parts.scheme or parts.netloc or not target.startswith("/") or target.startswith("//"):
        return "/"
    return target


def set_session(response: Response, request: Request, hub: Hub, secret: str) -> None:
    """Give the browser the cookie of a session."""
    _set(response, request, _name(request, hub, "session"), secret, int(LONGEST.total_seconds()))
    response.delete_cookie(_name(request, hub, "form"), path="/", secure=_is_https(request, hub), httponly=True)


def forget_session(response: Response, request: Request, hub: Hub) -> None:
    """Take that cookie back."""
    response.delete_cookie(_name(request, hub, "session"), path="/", secure=_is_https(request, hub), httponly=True)


def remember_form(response: Response, request: Request, hub: Hub, visitor: Visitor) -> None:
    """Bind the form on a page for people who are not signed in to this browser."""
    if visitor.session is None:
        _set(response, request, _name(request, hub, "form"), visitor.seed, None)


def hand_on(response: Response, request: Request, hub: Hub, me: SignedIn, text: str) -> None:
    """Keep a secret in the browser, sealed, for the page that it opens next (`handed_on`), which loading again repeats
    nothing of.
    """
    sealed = hub.vault.seal(text, _place(me))
    _set(response, request, _name(request, hub, "fresh"), sealed, HAND_ON_SECONDS)


def handed_on(request: Request, hub: Hub, me: SignedIn) -> str | None:
    """What was handed on to this browser's session; None for nothing."""
    try:
        return hub.vault.open(request.cookies.get(_name(request, hub, "fresh"), ""), _place(me))
    except Unreadable:
        return None


def forget_handed_on(response: Response, request: Request, hub: Hub) -> None:
    """It was shown; it is not shown again."""
    response.delete_cookie(_name(request, hub, "fresh"), path="/", secure=_is_https(request, hub), httponly=True)


def _place(me: SignedIn) -> str:
    return f"handed on\0{me.session.id}"


def _set(response: Response, request: Request, name: str, value: str, seconds: int | None) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=name.startswith("__Host-"), httponly=True, samesite="lax"
    )


def _name(request: Request, hub: Hub, what: str) -> str:
    """A cookie's name. Every Hub has its own, since cookies do not tell one port of a machine from another."""
    return f"{'__Host-' if _is_https(request, hub) else ''}{what}_{hub.id}"


def _is_https(request: Request, hub: Hub) -> bool:
    """Whether the browser speaks https, to this Hub or to a proxy in front of it."""
    outside = urlsplit(hub.settings.frontend_url or "")
    return request.url.scheme == "https" or (
        outside.scheme == "https" and outside.netloc == request.headers.get("host")
    )
