"""Images and their builds (hub.md §4.1, §4.4)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep, body_chunks, upload_url
from prime_hub.db.models import Account, Build, ImageTag
from prime_hub.errors import Forbidden, HubError, Invalid
from prime_hub.hub import Hub
from prime_hub.services.image_access import check_platform
from prime_hub.services.image_changes import Change, Named
from prime_hub.services.images import BuildRequest
from prime_hub.services.references import Reference, parse_reference

router = APIRouter(prefix=f"{API}/images", tags=["images"])
uploads = APIRouter(prefix=f"{API}/uploads", tags=["images"])

MAX_WAIT = 25.0
MOST_SOURCES = 100
MOST_CHANGES = 100
TeamId = Annotated[str | None, Query(max_length=64)]
"""By id or name."""
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT)]


class BuildBody(Asked):
    """What is to be built. From `context_digest` on: our own additions to the official call."""

    image_name: str | None = None
    image_tag: str | None = None
    dockerfile_path: Annotated[str, Field(max_length=1024)] = "Dockerfile"
    platform: str | None = None
    team_id: Annotated[str | None, Field(max_length=64)] = None
    visibility: str | None = None
    owner_scope: str | None = None
    source_image: Annotated[str | list[str] | None, Field(max_length=20_000)] = None
    source_images: Annotated[list[str] | None, Field(max_length=MOST_SOURCES)] = None
    context_digest: Annotated[str | None, Field(max_length=80)] = None
    no_cache: bool = False
    build_args: dict[str, str] = Field(default_factory=dict)
    port: Annotated[int | None, Field(ge=1, le=65535)] = None

    def sources(self) -> list[str]:
        """The registries' images to take, one or several, a list or separated by commas."""
        given = self.source_image or []
        words = given.split(",") if isinstance(given, str) else given
        found = [word.strip() for word in [*words, *(self.source_images or [])] if word.strip()]
        if len(found) > MOST_SOURCES or any(len(word) > 512 for word in found):
            raise Invalid(f"Name at most {MOST_SOURCES} source images at once, each of at most 512 characters.")
        return list(dict.fromkeys(found))


class StartBody(Asked):
    """The client says that the context has arrived; the Hub looks for itself."""

    context_uploaded: bool = True


@router.post("/build")
async def request_build(body: BuildBody, request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Begin a build; `cached` says that there is nothing left to do."""
    check_platform(body.platform)
    if sources := body.sources():
        return await _copy(body, sources, account, hub)
    if not body.image_name:
        raise Invalid("The image's name (image_name) is missing.")
    if body.owner_scope:
        raise Invalid("This Hub keeps images under their owner's own name only; leave the platform out.")
    wanted = BuildRequest(
        body.image_name,
        body.image_tag or "latest",
        body.dockerfile_path,
        body.context_digest,
        body.no_cache,
        body.build_args,
        body.port,
        body.visibility,
        body.team_id,
    )
    build, cached = await hub.images.request_build(account, wanted)
    return {
        **_begun(build),
        "upload_url": await upload_url(request, "context", build.id),
        "expires_in": hub.settings.upload_url_seconds,
        "cached": cached,
    }


async def _copy(body: BuildBody, sources: list[str], account: Account, hub: Hub) -> dict[str, Any]:
    """From registries: one answered as a build, several as results, each for itself."""
    if len(sources) == 1:
        named = BuildRequest(body.image_name, body.image_tag or "latest") if body.image_name else None
        build = await hub.images.request_copy(account, sources[0], named, body.visibility, body.team_id)
        return {**_begun(build), "upload_url": None, "expires_in": None, "cached": False}
    if body.image_name:
        raise Invalid("Several images cannot be given one name; name one source_image, or leave image_name out.")
    results = []
    for source in sources:
        try:
            build = await hub.images.request_copy(account, source, None, body.visibility, body.team_id)
        except HubError as error:
            results.append(
                {"sourceImage": source, "build": None, "error": error.detail, "retryable": error.status > 499}
            )
            continue
        results.append({"sourceImage": source, "build": _begun(build), "error": None, "retryable": False})
    return {"results": results}


def _begun(build: Build) -> dict[str, Any]:
    return {
        **_build(build),
        "build_id": build.id,
        "buildId": build.id,
        "buildIds": [build.id],
        "visibility": build.visibility,
    }


@uploads.put("/context/{build_id}")
async def upload_context(
    build_id: str, request: Request, hub: HubDep, token: Annotated[str, Query()] = ""
) -> dict[str, Any]:
    """Take the build context."""
    if not hub.signer.holds(f"upload/context/{build_id}", token):
        raise Forbidden("This upload address has run out or was not given by this Hub; run the command again.")
    await hub.images.receive_context(build_id, body_chunks(request))
    return {"success": True}


@router.post("/build/{build_id}/start")
async def start_build(build_id: str, account: AccountDep, hub: HubDep, body: StartBody | None = None) -> dict[str, Any]:
    """Queue the build."""
    if body is not None and not body.context_uploaded:
        raise Invalid("Upload the build context first, then start the build.")
    return _build(await hub.images.start_build(account, build_id))


@router.post("/build/{build_id}/cancel")
async def cancel_build(build_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Cancel the build; one that has ended stays as it is."""
    return _build(await hub.images.cancel_build(account, build_id))


@router.get("/build/{build_id}")
async def get_build(build_id: str, account: AccountDep, hub: HubDep, wait: Wait = 0.0) -> dict[str, Any]:
    """The build; with `wait`, held until its status changes."""
    return _build(await hub.images.wait_for_build(account, build_id, wait))


@router.get("/build/{build_id}/logs")
async def build_log(
    build_id: str, account: AccountDep, hub: HubDep, offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0
) -> dict[str, Any]:
    """The log from a byte on."""
    text, end, complete = await hub.images.log(account, build_id, offset)
    return {"text": text, "offset": end, "complete": complete}


def _build(build: Build) -> dict[str, Any]:
    return {
        "id": build.id,
        "status": build.status,
        "errorMessage": build.error,
        "imageName": build.name,
        "imageTag": build.tag,
        "imageDigest": build.image.digest if build.image else None,
        "fullImagePath": Reference(build.owner.slug, build.name, build.tag).canonical(build.owner.slug),
        "teamId": build.owner.team_id,
        "createdAt": build.created_at,
        "startedAt": build.started_at,
        "completedAt": build.completed_at,
    }


@router.get("")
async def list_images(
    account: AccountDep,
    hub: HubDep,
    limit: Annotated[int, Query(ge=1, le=250)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    search: Annotated[str | None, Query(max_length=200)] = None,
    teamId: TeamId = None,
    ownerScope: Annotated[str | None, Query(max_length=16)] = None,
) -> dict[str, Any]:
    """The images of the caller, or of a team of theirs, and the builds under way. Of a platform there are none."""
    if ownerScope is not None:
        return {"data": [], "totalCount": 0, "offset": offset, "limit": limit}
    rows, total = await hub.images.find(account, teamId, search, limit, offset)
    return {"data": [_row(row) for row in rows], "totalCount": total, "offset": offset, "limit": limit}


def _row(row: ImageTag | Build) -> dict[str, Any]:
    owner = row.owner.slug
    path = Reference(owner, row.name, row.tag).canonical(owner)
    shared = {
        "id": row.id,
        "artifactType": "VM_SANDBOX",  # the one kind that the official command knows
        "imageName": row.name,
        "imageTag": row.tag,
        "fullImagePath": path,
        "displayRef": f"{row.name}:{row.tag}",
        "visibility": row.visibility,
        "ownerType": "team" if row.owner.team_id else "personal",
        "teamId": row.owner.team_id,
        "createdAt": row.created_at,
    }
    if isinstance(row, Build):
        more = {"status": row.status, "errorMessage": row.error, "startedAt": row.started_at, "digest": None}
        return {**shared, **more, "completedAt": row.completed_at, "buildId": row.id}
    image = row.image
    more = {"status": "COMPLETED", "sizeBytes": image.size, "pushedAt": row.pushed_at, "digest": image.digest}
    return {**shared, **more, "config": image.config, "kind": image.kind, "buildId": row.build_id}


class OwnerBody(BaseModel):
    """Whose image: the caller's (`personal`), or a team's."""

    type: str = "personal"
    teamId: Annotated[str | None, Field(max_length=64)] = None


class SelectorBody(BaseModel):
    """An image by its parts or by its reference."""

    owner: OwnerBody | None = None
    name: Annotated[str | None, Field(max_length=128)] = None
    tag: Annotated[str | None, Field(max_length=128)] = None
    reference: Annotated[str | None, Field(max_length=512)] = None


class SetBody(BaseModel):
    """What is to be otherwise."""

    name: Annotated[str | None, Field(max_length=128)] = None
    tag: Annotated[str | None, Field(max_length=128)] = None
    owner: OwnerBody | None = None
    visibility: Annotated[str | None, Field(max_length=16)] = None


class UpdateBody(BaseModel):
    """One change of one image."""

    source: SelectorBody
    set: SetBody = Field(default_factory=SetBody)


class UpdatesBody(Asked):
    """Several changes, each for itself; with `dryRun` nothing is changed."""

    mode: str = "explicit"
    dryRun: bool = False
    updates: Annotated[list[UpdateBody], Field(max_length=MOST_CHANGES)]


@router.patch("")
async def update_images(body: UpdatesBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Publish, unpublish, rename or retag images, or give them to a team or back (hub.md §4.4)."""
    if body.mode != "explicit":
        raise Invalid(f"This Hub changes the images that are named one by one (mode 'explicit'), not '{body.mode}'.")
    changes = [_change(update) for update in body.updates]
    results = await hub.image_changes.change(account, changes, dry_run=body.dryRun)
    rows = [
        {
            "source": update.source.model_dump(exclude_none=True),
            "success": result.error is None,
            "before": _named(result.before),
            "after": _named(result.after),
            "error": _error(result.error),
        }
        for update, result in zip(body.updates, results, strict=True)
    ]
    return {"success": all(row["success"] for row in rows), "dryRun": body.dryRun, "results": rows}


def _change(update: UpdateBody) -> Change | HubError:
    source, wanted = update.source, update.set
    for owner in (source.owner, wanted.owner):
        if owner is None or owner.type == "personal":
            continue
        if owner.type != "team":
            return Invalid("This Hub has no images of a platform; an image's owner is an account or a team.")
        if not owner.teamId:
            return Invalid("Name the team that owns the image, or is to own it, with teamId.")
    if source.reference is None and not source.name:
        return Invalid("Name the image with its name and tag, or with its reference.")
    try:
        named = parse_reference(source.reference) if source.reference else None
    except Invalid as error:
        return error
    if named is None:
        named = Reference(None, source.name or "", source.tag or "latest")
    team = source.owner.teamId if source.owner is not None and source.owner.type == "team" else None
    target = None if wanted.owner is None else (wanted.owner.teamId or "") if wanted.owner.type == "team" else ""
    return Change(named.owner, named.name, named.tag, team, target, wanted.name, wanted.tag, wanted.visibility)


def _named(named: Named | None) -> dict[str, Any] | None:
    if named is None:
        return None
    owner = {"type": "team", "teamId": named.team} if named.team else {"type": "personal"}
    return {"owner": owner, "name": named.name, "tag": named.tag, "visibility": named.visibility}


def _error(error: HubError | None) -> dict[str, str] | None:
    if error is None:
        return None
    kinds = {403: "FORBIDDEN", 404: "NOT_FOUND", 409: "CONFLICT", 422: "INVALID"}
    return {"code": kinds.get(error.status, "FAILED"), "message": error.detail}


@router.delete("/{name}/{tag}")
async def delete_image(name: str, tag: str, account: AccountDep, hub: HubDep, teamId: TeamId = None) -> dict[str, Any]:
    """Delete one of the caller's images, or of a team of theirs; a name of several segments is a whole reference."""
    await hub.image_changes.delete(account, f"{name}:{tag}", teamId)
    return {"success": True, "message": f"Deleted {name}:{tag}."}


@router.delete("/{owner}/{name}/{tag}")
async def delete_owned_image(owner: str, name: str, tag: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """The same by the owner's name."""
    await hub.image_changes.delete(account, f"prime/{owner}/{name}:{tag}")
    return {"success": True, "message": f"Deleted {owner}/{name}:{tag}."}


@router.delete("/prime/{owner}/{name}/{tag}")
async def delete_referred_image(owner: str, name: str, tag: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """The same by the whole reference."""
    return await delete_owned_image(owner, name, tag, account, hub)


@router.get("/{name}/{tag}")
async def get_image(name: str, tag: str, account: AccountDep, hub: HubDep, teamId: TeamId = None) -> dict[str, Any]:
    """One of the caller's images, or of a team of theirs."""
    owner = await hub.images.owner(account, teamId)
    return _row(await hub.images.named(account, owner.slug, name, tag))


@router.get("/{owner}/{name}/{tag}")
async def get_owned_image(owner: str, name: str, tag: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """An image by its owner's name."""
    return _row(await hub.images.named(account, owner, name, tag))
