"""One's own account: what is told about it, its name, its password, where it is signed in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.errors import HubError
from prime_hub.hub import Hub
from prime_hub.services.passwords import LONGEST, SHORTEST
from prime_hub.web.forms import Form, FormDep, given
from prime_hub.web.render import page
from prime_hub.web.visitors import SignedIn, SignedInDep

router = APIRouter(include_in_schema=False)
ACCOUNT = "/dashboard/account"
DONE = {
    "profile": "Your profile is saved.",
    "name": "Your account has its new name. Your former one stays yours, so nobody publishes under it.",
    "password": "Your password is changed, and every other browser is signed out.",
    "sessions": "That browser is signed out.",
}
Done = Annotated[str, Query(max_length=20)]


@router.get(ACCOUNT)
async def account_page(request: Request, hub: HubDep, me: SignedInDep, done: Done = "") -> Response:
    """Everything about one's own account."""
    return await _account(request, hub, me, done=DONE.get(done))


async def _account(
    request: Request,
    hub: Hub,
    me: SignedIn,
    *,
    done: str | None = None,
    error: HubError | None = None,
    profile: Form | None = None,
    slug: str | None = None,
) -> Response:
    """`profile`, `slug`: what was refused, so that it need not be written once more."""
    account = await hub.accounts.by_id(me.account.id) or me.account
    return page(
        request,
        "account.html",
        200 if error is None else error.status,
        account=account,
        profile=given(profile or {"name": account.name, "email": account.email or "", "about": account.about}),
        slug=account.slug if slug is None else slug,
        has_password=account.password is not None,
        sessions=[
            {"id": row.id, "agent": row.agent or "unknown", "used": row.last_used_at, "this": row.id == me.session.id}
            for row in await hub.sessions.all(account)
        ],
        done=done,
        problem=error.detail if error else None,
        shortest=SHORTEST,
        longest=LONGEST,
    )


def _saved(what: str) -> Response:
    return RedirectResponse(f"{ACCOUNT}?done={what}", status_code=303)


@router.post(f"{ACCOUNT}/profile")
async def save_profile(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Name, e-mail address and a few lines."""
    try:
        await hub.accounts.describe(me.account, form.text("name"), form.text("email"), form.text("about"))
    except HubError as error:
        return await _account(request, hub, me, error=error, profile=form)
    return _saved("profile")


@router.post(f"{ACCOUNT}/name")
async def save_slug(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Another name in addresses."""
    try:
        await hub.accounts.rename(me.account, form.text("slug"))
    except HubError as error:
        return await _account(request, hub, me, error=error, slug=form.text("slug"))
    return _saved("name")


@router.post(f"{ACCOUNT}/password")
async def save_password(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Another password; other browsers are signed out."""
    try:
        await hub.signing_in.change(me.account, form.get("old", ""), form.get("new", ""), me.session.id)
    except HubError as error:
        return await _account(request, hub, me, error=error)
    return _saved("password")


@router.post(f"{ACCOUNT}/sessions")
async def end_session(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Sign a browser out."""
    try:
        await hub.sessions.end(me.account, form.text("session"))
    except HubError as error:
        return await _account(request, hub, me, error=error)
    return _saved("sessions")
