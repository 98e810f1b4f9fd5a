"""Signing up, in and out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep, on_this_machine
from prime_hub.api.users import LINK_PATH
from prime_hub.db.models import Account
from prime_hub.errors import Forbidden, HubError
from prime_hub.hub import Hub
from prime_hub.services.passwords import LONGEST, SHORTEST
from prime_hub.web.forms import FormDep
from prime_hub.web.pages import START
from prime_hub.web.render import page
from prime_hub.web.visitors import (
    SIGN_IN,
    SignedInDep,
    Visitor,
    VisitorDep,
    forget_session,
    local_path,
    remember_form,
    set_session,
)

router = APIRouter(include_in_schema=False)
SIGN_UP = "/dashboard/sign-up"
Next = Annotated[str, Query(alias="next", max_length=2000)]


@router.get(SIGN_IN)
async def sign_in_page(request: Request, hub: HubDep, visitor: VisitorDep, target: Next = "/") -> Response:
    """A form for name and password; who is signed in already goes on."""
    if visitor.session is not None:
        return RedirectResponse(local_path(target), status_code=303)
    return _sign_in(request, hub, visitor, target)


def _sign_in(
    request: Request, hub: Hub, visitor: Visitor, target: str, slug: str = "", error: HubError | None = None
) -> Response:
    shown = page(
        request,
        "sign_in.html",
        200 if error is None else error.status,
        target=local_path(target),
        slug=slug,
        problem=error.detail if error else None,
        sign_up=f"{SIGN_UP}?next={quote(local_path(target), safe='')}" if hub.signing_in.open else None,
        here=on_this_machine(request),
    )
    remember_form(shown, request, hub, visitor)
    return shown


@router.post(SIGN_IN)
async def sign_in(request: Request, hub: HubDep, visitor: VisitorDep, form: FormDep) -> Response:
    """Who gives the right password is signed in and goes on to where they wanted."""
    slug, target = form.text("slug"), form.text("next")
    try:
        account = await hub.signing_in.sign_in(slug, form.get("password", ""), _address(request))
    except HubError as error:
        return _sign_in(request, hub, visitor, target, slug, error)
    return await _signed_in(request, hub, account, target)


async def _signed_in(request: Request, hub: Hub, account: Account, target: str) -> Response:
    secret = await hub.sessions.create(account, request.headers.get("user-agent", ""))
    answer = RedirectResponse(local_path(target), status_code=303)
    set_session(answer, request, hub, secret)
    return answer


@router.get(LINK_PATH)
async def sign_in_by_link(
    request: Request, hub: HubDep, code: Annotated[str, Query(max_length=100)], target: Next = "/"
) -> Response:
    """The way in for the machine's own owner: a link of `prime hub open`, once, from this machine."""
    secret = None
    if on_this_machine(request):
        secret = await hub.sessions.redeem(code, request.headers.get("user-agent", ""))
    if secret is None:
        raise Forbidden(
            "This sign-in link was used, or its minute is over, or this browser runs on another machine; run 'prime hub "
            "open' again."
        )
    answer = RedirectResponse(local_path(target), status_code=303)
    set_session(answer, request, hub, secret)
    return answer


@router.get(SIGN_UP)
async def sign_up_page(request: Request, hub: HubDep, visitor: VisitorDep, target: Next = "/") -> Response:
    """A form for a new account, or a sentence where there is none."""
    if visitor.session is not None:
        return RedirectResponse(local_path(target), status_code=303)
    return _sign_up(request, hub, visitor, {"next": target})


def _sign_up(
    request: Request, hub: Hub, visitor: Visitor, form: dict[str, str], error: HubError | None = None
) -> Response:
    shown = page(
        request,
        "sign_up.html",
        200 if error is None else error.status,
        open=hub.signing_in.open,
        target=local_path(form.get("next", "/")),
        given={name: form.get(name, "") for name in ("slug", "name", "email")},
        problem=error.detail if error else None,
        shortest=SHORTEST,
        longest=LONGEST,
    )
    remember_form(shown, request, hub, visitor)
    return shown


@router.post(SIGN_UP)
async def sign_up(request: Request, hub: HubDep, visitor: VisitorDep, form: FormDep) -> Response:
    """A new account, signed in."""
    slug = form.text("slug").lower()
    try:
        account = await hub.signing_in.sign_up(
            slug, form.get("password", ""), form.text("name"), form.text("email"), _address(request)
        )
    except HubError as error:
        return _sign_up(request, hub, visitor, form, error)
    target = local_path(form.text("next"))
    return await _signed_in(request, hub, account, f"{START}?new=yes" if target == "/" else target)


@router.post("/dashboard/sign-out")
async def sign_out(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """End this browser's session."""
    await hub.sessions.end(me.account, me.session.id)
    answer = RedirectResponse("/", status_code=303)
    forget_session(answer, request, hub)
    return answer


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
