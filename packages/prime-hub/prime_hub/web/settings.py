"""An environment's Settings: who sees it, whose it is, and its end. Also the star that anybody gives it on its page."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Environment
from prime_hub.errors import HubError, Invalid
from prime_hub.hub import Hub
from prime_hub.web.forms import FormDep
from prime_hub.web.render import page
from prime_hub.web.visitors import SignedIn, SignedInDep

router = APIRouter(include_in_schema=False)
PATH = "/dashboard/environments/{owner}/{name}"
SETTINGS = f"{PATH}/settings"
DONE = {
    "visibility": "Who sees it is changed.",
    "transfer": "It has another owner now. Links to account-wide secrets of the former one are cut.",
    "yank": "The version is yanked: it is installed only where somebody asks for exactly it.",
    "unyank": "The version is not yanked any more.",
    "version": "The version is deleted.",
}


def environment_href(owner: str, name: str) -> str:
    """The address of an environment's page."""
    return f"/dashboard/environments/{quote(owner)}/{quote(name)}"


@router.get(SETTINGS)
async def settings_page(
    owner: str,
    name: str,
    request: Request,
    hub: HubDep,
    me: SignedInDep,
    done: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """What those who manage an environment may change."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    return await _settings(request, hub, me, environment, done=DONE.get(done))


async def _settings(
    request: Request,
    hub: Hub,
    me: SignedIn,
    environment: Environment,
    *,
    done: str | None = None,
    error: HubError | None = None,
) -> Response:
    places, _ = await hub.teams.of(me.account, limit=1000)
    owners = [me.account.slug, *(place.team.slug for place in places)]
    versions = await hub.catalogue.versions(environment)
    slug = environment.owner.slug
    return page(
        request,
        "settings.html",
        200 if error is None else error.status,
        environment=environment,
        owner=slug,
        full=f"{slug}/{environment.name}",
        href=environment_href(slug, environment.normalized_name),
        published=environment.latest_version_id is not None,
        owners=[one for one in owners if one != slug],
        versions=[
            {"number": one.version, "at": one.finalized_at, "yanked": one.yanked_at, "reason": one.yanked_reason}
            for one in versions
        ],
        done=done,
        problem=error.detail if error else None,
    )


def _back(environment: Environment, done: str) -> Response:
    href = environment_href(environment.owner.slug, environment.normalized_name)
    return RedirectResponse(f"{href}/settings?done={done}", status_code=303)


@router.post(f"{SETTINGS}/visibility")
async def set_visibility(
    owner: str, name: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep
) -> Response:
    """Open or close it."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    try:
        changed = await hub.managing.set_visibility(me.account, owner, name, form.text("visibility"))
    except HubError as error:
        return await _settings(request, hub, me, environment, error=error)
    return _back(changed, "visibility")


@router.post(f"{SETTINGS}/transfer")
async def transfer(owner: str, name: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Another owner, after its name was typed."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    try:
        _require_typed(environment, form)
        moved = await hub.transfers.transfer(me.account, owner, name, form.text("to"))
    except HubError as error:
        return await _settings(request, hub, me, environment, error=error)
    return _back(moved.environment, "transfer")


@router.post(f"{SETTINGS}/version")
async def change_version(
    owner: str, name: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep
) -> Response:
    """Yank a version, take that back, or delete it after its number was typed."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    version, done = form.text("version"), form.text("change")
    try:
        if done == "yank":
            await hub.managing.yank(me.account, owner, name, version, form.text("reason"))
        elif done == "unyank":
            await hub.managing.unyank(me.account, owner, name, version)
        elif done == "version":
            if form.text("confirm") != version:
                raise Invalid("Type the version's number to delete it.")
            await hub.managing.delete_version(me.account, owner, name, version)
        else:
            raise Invalid("That is no change of a version.")
    except HubError as error:
        return await _settings(request, hub, me, environment, error=error)
    return _back(environment, done)


@router.post(f"{SETTINGS}/delete")
async def delete(owner: str, name: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Its end, after its name was typed."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    try:
        _require_typed(environment, form)
        await hub.managing.delete(me.account, owner, name)
    except HubError as error:
        return await _settings(request, hub, me, environment, error=error)
    return RedirectResponse(f"/dashboard/owners/{quote(environment.owner.slug)}?done=deleted", status_code=303)


@router.post(f"{PATH}/star")
async def star(owner: str, name: str, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Give a star, or take it back."""
    change = hub.stars.give if form.text("starred") == "yes" else hub.stars.take_back
    await change(me.account, owner, name)
    return RedirectResponse(environment_href(owner, name), status_code=303)


def _require_typed(environment: Environment, form: FormDep) -> None:
    full = f"{environment.owner.slug}/{environment.name}"
    if form.text("confirm") != full:
        raise Invalid(f"Type {full} to confirm this.")
