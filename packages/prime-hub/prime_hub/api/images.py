"""Images and their builds (hub.md §4.1, §4.4)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from prime_hub.api.deps import API, AccountDep, HubDep, base_url, body_chunks
from prime_hub.db.models import Build, ImageTag
from prime_hub.errors import Forbidden, Invalid
from prime_hub.services.images import BuildRequest
from prime_hub.services.references import Reference

router = APIRouter(prefix=f"{API}/images", tags=["images"])
uploads = APIRouter(prefix=f"{API}/uploads", tags=["images"])

MAX_WAIT = 25.0
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT)]


class BuildBody(BaseModel):
    """What is to be built. From `context_digest` on: our own additions to the official call."""

    image_name: str | None = None
    image_tag: str = "latest"
    dockerfile_path: str = "Dockerfile"
    platform: str | None = None
    team_id: str | None = None
    visibility: str | None = None
    owner_scope: str | None = None
    source_image: str | list[str] | None = None
    context_digest: Annotated[str | None, Field(max_length=80)] = None
    no_cache: bool = False
    build_args: dict[str, str] = Field(default_factory=dict)
    port: Annotated[int | None, Field(ge=1, le=65535)] = None


class StartBody(BaseModel):
    """The client says that the context has arrived; the Hub looks for itself."""

    context_uploaded: bool = True


@router.post("/build")
async def request_build(body: BuildBody, request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Begin a build; `cached` says that there is nothing left to do."""
    if body.source_image:
        raise Invalid("This Hub builds images from a Dockerfile; it does not copy them from other registries.")
    if not body.image_name:
        raise Invalid("The image's name (image_name) is missing.")
    if body.team_id or body.owner_scope:
        raise Invalid("This Hub keeps images under their owner's own name only; leave the team and the platform out.")
    wanted = BuildRequest(
        body.image_name,
        body.image_tag,
        body.dockerfile_path,
        body.context_digest,
        body.no_cache,
        body.build_args,
        body.port,
        body.visibility,
    )
    build, cached = await hub.images.request_build(account, wanted)
    seconds = hub.settings.upload_url_seconds
    token = hub.signer.sign(f"upload/context/{build.id}", seconds)
    return {
        **_build(build, account.slug),
        "build_id": build.id,
        "buildIds": [build.id],
        "upload_url": f"{base_url(request)}{API}/uploads/context/{build.id}?token={token}",
        "expires_in": seconds,
        "visibility": build.visibility,
        "cached": cached,
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
    return _build(await hub.images.start_build(account, build_id), account.slug)


@router.post("/build/{build_id}/cancel")
async def cancel_build(build_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Cancel the build; one that has ended stays as it is."""
    return _build(await hub.images.cancel_build(account, build_id), account.slug)


@router.get("/build/{build_id}")
async def get_build(build_id: str, account: AccountDep, hub: HubDep, wait: Wait = 0.0) -> dict[str, Any]:
    """The build; with `wait`, held until its status changes."""
    return _build(await hub.images.wait_for_build(account, build_id, wait), account.slug)


@router.get("/build/{build_id}/logs")
async def build_log(
    build_id: str, account: AccountDep, hub: HubDep, offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0
) -> dict[str, Any]:
    """The log from a byte on."""
    text, end, complete = await hub.images.log(account, build_id, offset)
    return {"text": text, "offset": end, "complete": complete}


def _build(build: Build, owner: str) -> dict[str, Any]:
    return {
        "id": build.id,
        "status": build.status,
        "errorMessage": build.error,
        "imageName": build.name,
        "imageTag": build.tag,
        "imageDigest": build.image.digest if build.image else None,
        "fullImagePath": Reference(owner, build.name, build.tag).canonical(owner),
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
) -> dict[str, Any]:
    """The caller's images and the builds under way."""
    rows, total = await hub.images.find(account, search, limit, offset)
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
        "ownerType": "personal",
        "createdAt": row.created_at,
    }
    if isinstance(row, Build):
        more = {"status": row.status, "errorMessage": row.error, "startedAt": row.started_at, "digest": None}
        return {**shared, **more, "completedAt": row.completed_at}
    image = row.image
    more = {"status": "COMPLETED", "sizeBytes": image.size, "pushedAt": row.pushed_at, "digest": image.digest}
    return {**shared, **more, "config": image.config, "runtime": image.runtime}


@router.get("/{name}/{tag}")
async def get_image(name: str, tag: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """One of the caller's images."""
    return _row(await hub.images.named(account, None, name, tag))


@router.get("/{owner}/{name}/{tag}")
async def get_owned_image(owner: str, name: str, tag: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """An image by its owner's name."""
    return _row(await hub.images.named(account, owner, name, tag))
