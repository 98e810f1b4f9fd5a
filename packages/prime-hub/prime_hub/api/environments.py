"""Reading environments: list, detail, status, versions, inspect, pull (hub.md §3.5–3.7)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, CallerDep, HubDep, base_url, frontend_url
from prime_hub.api.downloads import blob_response
from prime_hub.db.models import Environment, Version
from prime_hub.errors import Unauthorized
from prime_hub.services.catalogue import Search
from prime_hub.services.usage import Kind

router = APIRouter(prefix=f"{API}/environmentshub", tags=["environments"])

MAX_OFFSET = 1_000_000_000

# The official command installs a private environment, from its source archive, only when it is told of no wheel.
OFFICIAL_AGENT = "prime-cli/"


@router.get("/")
async def list_environments(
    hub: HubDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=250)] = 20,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    search: Annotated[str, Query(max_length=200)] = "",
    owner: str | None = None,
    visibility: str | None = None,
    tags: Annotated[list[str] | None, Query(max_length=32)] = None,
    sort_by: str | None = None,
    sort_order: Literal["asc", "desc"] = "desc",
    mine_only: bool = False,
    starred_only: bool = False,
) -> dict[str, Any]:
    """One page of the catalogue."""
    if starred_only and caller is None:
        raise Unauthorized("Stars are somebody's: not authenticated. Run 'prime login' first.")
    wanted = Search(
        limit,
        offset,
        search,
        owner,
        visibility,
        tuple(tags or ()),
        sort_by,
        sort_order == "desc",
        mine_only,
        starred_only,
    )
    rows, total = await hub.catalogue.find(caller, wanted)
    starred = await hub.stars.of(caller, [environment for environment, _ in rows])
    return {
        "data": [_row(environment, version, environment.id in starred) for environment, version in rows],
        "total_count": total,
    }


@router.get("/facets")
async def facets(
    hub: HubDep,
    caller: CallerDep,
    search: Annotated[str, Query(max_length=200)] = "",
    owner: str | None = None,
    tags: Annotated[list[str] | None, Query(max_length=32)] = None,
) -> dict[str, Any]:
    """The recommended tags, by group, with how many environments of the list with these filters have each."""
    groups = await hub.catalogue.facets(caller, Search(search=search, owner=owner, tags=tuple(tags or ())))
    return {
        "data": [
            {"group": group, "tags": [{"tag": tag, "count": number} for tag, number in tags_]}
            for group, tags_ in groups
        ]
    }


class Lookup(Asked):
    """An environment by its id."""

    id: Annotated[str, Field(min_length=1, max_length=64)]


@router.post("/lookup")
async def lookup(body: Lookup, hub: HubDep, caller: CallerDep) -> dict[str, Any]:
    """Whether there is an environment of that id, and what it is called."""
    environment = await hub.catalogue.by_id(caller, body.id)
    return {"data": {"id": environment.id, "owner": environment.owner.slug, "name": environment.name}}


def _row(environment: Environment, version: str, starred: bool) -> dict[str, Any]:
    return {
        "id": environment.id,
        "name": environment.name,
        "owner": {"name": environment.owner.slug},
        "description": environment.description,
        "visibility": environment.visibility,
        "latest_version": version,
        "tags": environment.tags,
        "stars": environment.stars,
        "starred": starred,
        "created_at": environment.created_at,
        "updated_at": environment.updated_at,
    }


@router.get("/{owner}/{name}/status")
async def status(owner: str, name: str, hub: HubDep, caller: CallerDep) -> dict[str, Any]:
    """What `env status` shows."""
    environment = await hub.catalogue.environment(caller, owner, name)
    version = await hub.catalogue.version(environment, "latest")
    return {
        "data": {
            "name": environment.name,
            "owner": {"name": environment.owner.slug},
            "description": environment.description,
            "visibility": environment.visibility,
            "latest_version": {
                "semantic_version": version.version,
                "content_hash": version.content_hash,
                "created_at": version.finalized_at,
                "yanked": version.yanked_at is not None,
            },
            "stars": environment.stars,
            "forked_from": await hub.forking.source_of(caller, environment),
        }
    }


@router.get("/{owner}/{name}/versions")
async def versions(owner: str, name: str, hub: HubDep, caller: CallerDep) -> dict[str, Any]:
    """Every version, newest first; `sha256` is the content hash and `size` a count of files (hub.md §3.6)."""
    environment = await hub.catalogue.environment(caller, owner, name)
    rows = [
        {
            "id": version.id,
            "version": version.version,
            "created_at": version.finalized_at,
            "sha256": version.content_hash,
            "size": 1 + (version.wheel is not None),
            "yanked": version.yanked_at is not None,
            "yanked_reason": version.yanked_reason,
        }
        for version in await hub.catalogue.versions(environment)
    ]
    return {"data": {"versions": rows}}


@router.get("/{owner}/{name}/@{version}")
async def detail(
    owner: str, name: str, version: str, request: Request, hub: HubDep, caller: CallerDep
) -> dict[str, Any]:
    """Everything about one version."""
    environment = await hub.catalogue.environment(caller, owner, name)
    found = await hub.catalogue.version(environment, version)
    newest = found
    if found.id != environment.latest_version_id:
        newest = await hub.catalogue.version(environment, "latest")
    about = {
        "stars": environment.stars,
        "starred": environment.id in await hub.stars.of(caller, [environment]),
        "forked_from": await hub.forking.source_of(caller, environment),
    }
    return {"data": {**_detail(request, environment, found, newest), **about}}


def _detail(request: Request, environment: Environment, version: Version, newest: Version) -> dict[str, Any]:
    base, owner = base_url(request), environment.owner.slug
    hidden = environment.visibility == "PRIVATE" and request.headers.get("user-agent", "").startswith(OFFICIAL_AGENT)
    wheel = None if hidden else version.wheel
    package = f"{base}{API}/environmentshub/{owner}/{environment.normalized_name}/@{version.version}/package"
    index = None if hidden else f"{base}/{owner}/simple/"
    details = version.details
    return {
        "id": environment.id,
        "version_id": version.id,
        "name": environment.name,
        "normalized_name": environment.normalized_name,
        "owner": {"name": owner},
        "visibility": environment.visibility,
        "description": details.get("description") or "",
        "semantic_version": version.version,
        "content_hash": version.content_hash,
        "created_at": version.finalized_at,
        "yanked": version.yanked_at is not None,
        "yanked_reason": version.yanked_reason,
        "latest_version": {"semantic_version": newest.version, "content_hash": newest.content_hash},
        "metadata": details,
        "tags": details.get("tags") or [],
        "urls": details.get("urls") or {},
        "readme": version.readme,
        "url_dependencies": [],
        "wheel_url": f"{base}{API}/files/{owner}/{wheel.filename}" if wheel else None,
        "wheel_filename": wheel.filename if wheel else None,
        "wheel_sha256": wheel.sha256 if wheel else None,
        "simple_index_url": index,
        "install_index_url": index,
        "package_url": package,
        "tracked_package_url": package,
        "package_sha256": version.sha256,
        "package_size": version.size,
        "image": {"reference": version.image, "digest": version.image_digest} if version.image else None,
        "page_url": f"{frontend_url(request)}/dashboard/environments/{owner}/{environment.normalized_name}",
    }


@router.get("/{owner}/{name}/@{version}/inspect")
async def inspect(
    owner: str,
    name: str,
    version: str,
    hub: HubDep,
    caller: CallerDep,
    path: Annotated[str, Query(max_length=1024)] = "",
    max_bytes: Annotated[int, Query(ge=1, le=500_000)] = 100_000,
) -> dict[str, Any]:
    """A file or folder of the published source."""
    environment = await hub.catalogue.environment(caller, owner, name)
    found = await hub.catalogue.version(environment, version)
    return {"data": await hub.sources.inspect(found, path, max_bytes)}


@router.head("/{owner}/{name}/@{version}/package", include_in_schema=False)
@router.get("/{owner}/{name}/@{version}/package")
async def package(owner: str, name: str, version: str, request: Request, hub: HubDep, caller: CallerDep) -> Response:
    """The source archive, byte for byte as it was pushed."""
    environment = await hub.catalogue.environment(caller, owner, name)
    found = await hub.catalogue.version(environment, version)
    filename = f"{environment.normalized_name}-{found.version}.tar.gz"
    counted = partial(hub.usage.count, found.id, Kind.PULL)
    return await blob_response(hub, request, found.blob, filename, "application/gzip", found.sha256, counted)
