"""API tokens, and the logins that programs ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.auth_challenge import PAGE as CHALLENGE
from prime_hub.api.deps import HubDep
from prime_hub.errors import HubError, Invalid
from prime_hub.hub import Hub
from prime_hub.services.accounts import OWNER_TOKEN
from prime_hub.services.scopes import AREAS, shown
from prime_hub.web.forms import Form, FormDep, given
from prime_hub.web.render import page
from prime_hub.web.visitors import SignedIn, SignedInDep, forget_handed_on, hand_on, handed_on

router = APIRouter(include_in_schema=False)
TOKENS = "/dashboard/tokens"
LIMIT_WORDS = {
    "maxConcurrentSandboxes": "sandboxes at once",
    "maxSandboxCreationsPerHour": "new sandboxes an hour",
    "maxSandboxCpuCores": "processors for its sandboxes together",
    "maxSandboxGpuCount": "GPUs",
    "maxConcurrentTunnels": "tunnels at once",
    "maxTunnelCreationsPerHour": "new tunnels an hour",
    "maxTunnelTtlHours": "hours for a tunnel",
}
DONE = {"revoked": "The API key is revoked."}


@router.get(TOKENS)
async def tokens_page(
    request: Request, hub: HubDep, me: SignedInDep, done: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    """The account's API keys, and a form for another one."""
    fresh = handed_on(request, hub, me)
    answer = await _tokens(request, hub, me, done=DONE.get(done), fresh=fresh)
    if fresh is not None:
        forget_handed_on(answer, request, hub)
    return answer


async def _tokens(
    request: Request,
    hub: Hub,
    me: SignedIn,
    *,
    done: str | None = None,
    fresh: str | None = None,
    error: HubError | None = None,
    again: Form | None = None,
) -> Response:
    """`again`: the form that was refused, so that it need not be filled in once more."""
    rows = [
        {
            "id": row.id,
            "name": row.name,
            "hint": row.hint,
            "scopes": "may do everything" if row.scopes is None else shown(row.scopes),
            "limits": _limits(row.limits),
            "created": row.created_at,
            "used": row.last_used_at,
            "expires": row.expires_at,
            "machines": row.name == OWNER_TOKEN and me.account.local,
        }
        for row in await hub.tokens.all(me.account)
    ]
    return page(
        request,
        "tokens.html",
        200 if error is None else error.status,
        rows=rows,
        areas=AREAS,
        fresh=fresh,
        again=given(again),
        done=done,
        problem=error.detail if error else None,
    )


def _limits(limits: dict[str, object] | None) -> list[str]:
    return [f"at most {value} {LIMIT_WORDS[name]}" for name, value in (limits or {}).items() if name in LIMIT_WORDS]


@router.post(TOKENS)
async def make_token(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """A new key, which the page that the browser goes on to shows, once."""
    try:
        scopes = _scopes(form, form.text("access"))
        days = form.text("days")
        if days and not (days.isascii() and days.isdigit() and len(days) < 6):
            raise Invalid("The days until a key ends are a whole number.")
        if not form.text("name"):
            raise Invalid("Give the API key a name, by which you know it again.")
        secret, _ = await hub.tokens.create(me.account, form.text("name"), scopes, int(days) if days else None)
    except HubError as error:
        return await _tokens(request, hub, me, error=error, again=form)
    answer = RedirectResponse(TOKENS, status_code=303)
    hand_on(answer, request, hub, me, secret)
    return answer


def _scopes(form: Form, access: str) -> dict[str, str] | None:
    """What the key may do; None for everything. Raises Invalid where that was not said, or was said twice."""
    scopes = {area: form.text(area) for area in AREAS if form.text(area)}
    if access != "all":
        if not scopes:
            raise Invalid("Choose at least one thing that the API key may do.")
        return scopes
    if scopes:
        raise Invalid(
            f"You chose that the API key may do all that you may, and also only {shown(scopes)}; choose one of the two."
        )
    return None


@router.post(f"{TOKENS}/revoke")
async def revoke_token(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """End a key."""
    try:
        await hub.tokens.revoke(me.account, form.text("token"))
    except HubError as error:
        return await _tokens(request, hub, me, error=error)
    return RedirectResponse(f"{TOKENS}?done=revoked", status_code=303)


@router.get(CHALLENGE)
async def challenge_page(
    request: Request, hub: HubDep, me: SignedInDep, code: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """What a program asks for, to be approved or denied (hub.md §2.1)."""
    row = await hub.challenges.find(code)
    return page(
        request,
        "challenge.html",
        code=row.code,
        agent=row.agent or "a program that does not say its name",
        address=row.address or "unknown",
        asked=row.created_at,
        limits=_limits(row.limits),
        account=me.account,
    )


@router.post(CHALLENGE)
async def answer_challenge(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Approve it or not."""
    choice = form.text("choice")
    if choice not in ("approve", "deny"):
        raise Invalid("Choose to approve or to deny.")
    await hub.challenges.answer(me.account, form.text("code"), choice == "approve")
    return page(request, "answered.html", approved=choice == "approve", account=me.account)
