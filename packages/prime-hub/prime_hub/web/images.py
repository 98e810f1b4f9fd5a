"""The images of an account and its teams, and what became of their builds."""

from __future__ import annotations

import shlex
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Account, Build, ImageTag
from prime_hub.errors import HubError, Invalid, NotFound
from prime_hub.hub import Hub
from prime_hub.services.image_access import Served
from prime_hub.services.image_changes import Change
from prime_hub.services.images import ENDED
from prime_hub.services.references import Reference
from prime_hub.web.forms import FormDep
from prime_hub.web.render import page
from prime_hub.web.shown import end_of_log, size
from prime_hub.web.visitors import SignedIn, SignedInDep
from prime_hub.web.whose import PER_PAGE, makers, may_change, whose

router = APIRouter(include_in_schema=False)
IMAGES = "/dashboard/images"
IMAGE = f"{IMAGES}/{{owner}}/{{name}}/{{tag}}"
BUILDS = "/dashboard/builds"
WORDS = {
    "UPLOADING": "Waiting for its files",
    "PENDING": "Waiting",
    "BUILDING": "Building",
    "COMPLETED": "Ready",
    "FAILED": "Failed",
    "CANCELLED": "Cancelled",
}
RUNTIMES = {"venv": "process and bubblewrap", "oci": "docker and podman"}
DONE = {
    "PUBLIC": "Everybody on this Hub may run the image now.",
    "PRIVATE": "Only its owner may run the image now.",
    "deleted": "The image is deleted.",
    "gone": "What came to nothing under that name is deleted.",
    "cancelled": "The build is cancelled.",
}
# A log is told in parts of a megabyte, eight at most.
MOST_PARTS = 16
Done = Annotated[str, Query(max_length=20)]


def image_href(owner: str, name: str, tag: str) -> str:
    """The address of an image's page."""
    return f"{IMAGES}/{quote(owner)}/{quote(name)}/{quote(tag)}"


@router.get(IMAGES)
async def images_page(
    request: Request,
    hub: HubDep,
    me: SignedInDep,
    team: Annotated[str, Query(max_length=64)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
    done: Done = "",
) -> Response:
    """The images of the account or of a team of its, and builds that have come to none."""
    chosen = await whose(hub, me, team)
    rows, total = await hub.images.find(me.account, chosen.team, None, PER_PAGE, (number - 1) * PER_PAGE)
    names = await makers(hub, me, chosen.owner)
    digests = [row.image.digest for row in rows if isinstance(row, ImageTag)]
    served = await hub.images.access.served(me.account, chosen.owner, digests)
    return page(
        request,
        "images.html",
        whose=chosen,
        choices=chosen.choices(IMAGES),
        rows=[_row(row, names, served) for row in rows],
        total=total,
        number=number,
        newer=chosen.link(IMAGES, page=number - 1 if number > 2 else None) if number > 1 else None,
        older=chosen.link(IMAGES, page=number + 1) if number * PER_PAGE < total else None,
        done=DONE.get(done),
    )


def _row(row: ImageTag | Build, names: dict[str, str], served: dict[str, list[Served]]) -> dict[str, Any]:
    shared = {
        "name": f"{row.name}:{row.tag}",
        "visibility": row.visibility.lower(),
        "by": names.get(row.user_id, "somebody who has left") if names else None,
    }
    if isinstance(row, Build):
        more = {"digest": None, "size": None, "at": row.created_at, "problem": row.error, "served": []}
        return {**shared, **more, "status": row.status, "words": WORDS[row.status], "href": f"{BUILDS}/{row.id}"}
    more = {"digest": row.image.digest[:19], "size": size(row.image.size), "at": row.pushed_at, "problem": None}
    more["served"] = served.get(row.image.digest, [])
    href = image_href(row.owner.slug, row.name, row.tag)
    return {**shared, **more, "status": "COMPLETED", "words": WORDS["COMPLETED"], "href": href}


@router.get(IMAGE)
async def image_page(
    owner: str, name: str, tag: str, request: Request, hub: HubDep, me: SignedInDep, done: Done = ""
) -> Response:
    """One image: what it is, how to use it, how it was built, and what its owner may do with it."""
    found = await hub.images.named(me.account, owner, name, tag)
    return await _image(request, hub, me, found, done=DONE.get(done))


async def _image(
    request: Request, hub: Hub, me: SignedIn, tag: ImageTag, *, done: str | None = None, error: HubError | None = None
) -> Response:
    owner, config = tag.owner, tag.image.config
    names = await makers(hub, me, owner)
    log, cut = await _log(hub, me, tag.build_id) if tag.build_id else (None, False)
    command = config.get("cmd")
    return page(
        request,
        "image.html",
        200 if error is None else error.status,
        tag=tag,
        owner=owner,
        reference=Reference(owner.slug, tag.name, tag.tag).canonical(owner.slug),
        short=f"{owner.slug}/{tag.name}:{tag.tag}",
        href=image_href(owner.slug, tag.name, tag.tag),
        size=size(tag.image.size),
        runtimes=RUNTIMES.get(tag.image.kind, tag.image.kind),
        command=shlex.join(command) if isinstance(command, list) else command,
        port=config.get("port"),
        by=names.get(tag.user_id, "somebody who has left") if names else None,
        log=log,
        cut=cut,
        mine=names or owner.id == me.account.id,
        served=(await hub.images.access.served(me.account, owner, [tag.image.digest])).get(tag.image.digest, []),
        changes=await may_change(hub, me, owner, tag.user_id),
        done=done,
        problem=error.detail if error else None,
    )


async def _log(hub: Hub, me: SignedIn, build_id: str) -> tuple[str | None, bool]:
    """The end of a build's log, and whether there is more before it; None for who may not see the build."""
    text, offset, complete = "", 0, False
    try:
        for _ in range(MOST_PARTS):
            part, offset, complete = await hub.images.log(me.account, build_id, offset)
            text += part
            if complete or not part:
                break
    except NotFound:
        return None, False
    return end_of_log(text)


@router.post(f"{IMAGE}/visibility")
async def set_visibility(
    owner: str, name: str, tag: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep
) -> Response:
    """Publish it, or take that back."""
    found = await hub.images.named(me.account, owner, name, tag)
    wanted = form.text("visibility").upper()
    change = Change(found.owner.slug, found.name, found.tag, visibility=wanted)
    error = (await hub.image_changes.change(me.account, [change], dry_run=False))[0].error
    if error is not None:
        return await _image(request, hub, me, found, error=error)
    href = image_href(found.owner.slug, found.name, found.tag)
    return RedirectResponse(f"{href}?done={quote(wanted)}", status_code=303)


@router.post(f"{IMAGE}/delete")
async def delete_image(
    owner: str, name: str, tag: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep
) -> Response:
    """Its end, after its name was typed."""
    found = await hub.images.named(me.account, owner, name, tag)
    reference = Reference(found.owner.slug, name, tag).canonical(found.owner.slug)
    try:
        if form.text("confirm") != f"{name}:{tag}":
            raise Invalid(f"Type {name}:{tag} to delete it.")
        await hub.image_changes.delete(me.account, reference)
    except HubError as error:
        return await _image(request, hub, me, found, error=error)
    return RedirectResponse(_list(found.owner, "deleted"), status_code=303)


def _list(owner: Account, done: str) -> str:
    return f"{IMAGES}?done={done}" + (f"&team={quote(owner.slug)}" if owner.team_id else "")


@router.get(f"{BUILDS}/{{build_id}}")
async def build_page(build_id: str, request: Request, hub: HubDep, me: SignedInDep, done: Done = "") -> Response:
    """One build: how it stands, what went wrong, its log."""
    return await _build(request, hub, me, build_id, done=DONE.get(done))


async def _build(
    request: Request, hub: Hub, me: SignedIn, build_id: str, *, done: str | None = None, error: HubError | None = None
) -> Response:
    build = await hub.images.build(me.account, build_id)
    owner = build.owner
    names = await makers(hub, me, owner)
    log, cut = await _log(hub, me, build_id)
    return page(
        request,
        "build.html",
        200 if error is None else error.status,
        build=build,
        owner=owner,
        shown=f"{build.name}:{build.tag}",
        reference=Reference(owner.slug, build.name, build.tag).canonical(owner.slug),
        words=WORDS[build.status],
        going=build.status not in ENDED,
        image=image_href(owner.slug, build.name, build.tag) if await _there(hub, me, build) else None,
        by=names.get(build.user_id, "somebody who has left") if names else None,
        log=log,
        cut=cut,
        changes=await may_change(hub, me, owner, build.user_id),
        done=done,
        problem=error.detail if error else None,
    )


async def _there(hub: Hub, me: SignedIn, build: Build) -> bool:
    """Whether there is an image of the build's name."""
    try:
        await hub.images.named(me.account, build.owner.slug, build.name, build.tag)
    except NotFound:
        return False
    return True


@router.post(f"{BUILDS}/{{build_id}}/cancel")
async def cancel_build(build_id: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Stop it."""
    try:
        await hub.images.cancel_build(me.account, build_id)
    except HubError as error:
        return await _build(request, hub, me, build_id, error=error)
    return RedirectResponse(f"{BUILDS}/{quote(build_id)}?done=cancelled", status_code=303)


@router.post(f"{BUILDS}/{{build_id}}/delete")
async def delete_build(build_id: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Take a build that came to nothing off the list, with all others of its name; never an image."""
    build = await hub.images.build(me.account, build_id)
    name = f"{build.name}:{build.tag}"
    reference = Reference(build.owner.slug, build.name, build.tag).canonical(build.owner.slug)
    try:
        if await _there(hub, me, build):
            raise Invalid(f"There is an image {name}, which would be deleted, too; delete it on its own page.")
        if form.text("confirm") != name:
            raise Invalid(f"Type {name} to delete it.")
        await hub.image_changes.delete(me.account, reference)
    except HubError as error:
        return await _build(request, hub, me, build_id, error=error)
    return RedirectResponse(_list(build.owner, "gone"), status_code=303)
