"""Changing environments: visibility, yanking, deleting, transferring, forking, stars (hub.md §3.1, §3.9, and our own)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep
from prime_hub.db.models import Environment, Version

router = APIRouter(prefix=f"{API}/environmentshub", tags=["managing"])

Version_ = Annotated[str, Field(max_length=80)]


class ChangeBody(Asked):
    """What of an environment can be changed. Its description comes from pyproject.toml, with the next version."""

    visibility: Annotated[str, Field(max_length=16)]


class YankBody(Asked):
    """Why."""

    reason: Annotated[str, Field(max_length=2000)] = ""


class TransferBody(Asked):
    """To whom: the name of a team of the caller's, or the caller's own."""

    to: Annotated[str, Field(min_length=1, max_length=64)]


class ForkBody(Asked):
    """Whose the fork is to be, the caller's own or a team's, and of which version."""

    team_slug: Annotated[str | None, Field(max_length=64)] = None
    team_id: Annotated[str | None, Field(max_length=64)] = None
    version: Version_ = "latest"


def _shown(environment: Environment) -> dict[str, Any]:
    return {
        "id": environment.id,
        "name": environment.name,
        "owner": {"name": environment.owner.slug},
        "visibility": environment.visibility,
    }


def _yank(environment: Environment, version: Version) -> dict[str, Any]:
    return {
        **_shown(environment),
        "version": version.version,
        "content_hash": version.content_hash,
        "yanked": version.yanked_at is not None,
        "yanked_reason": version.yanked_reason,
    }


@router.put("/{owner}/{name}/@{version}/yank")
async def yank(
    owner: str, name: str, version: str, account: AccountDep, hub: HubDep, body: YankBody | None = None
) -> dict[str, Any]:
    """Take a version out of what installers choose by themselves; repeated, it changes the reason."""
    reason = body.reason if body else ""
    return {"data": _yank(*await hub.managing.yank(account, owner, name, version, reason))}


@router.delete("/{owner}/{name}/@{version}/yank")
async def unyank(owner: str, name: str, version: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Take that back."""
    return {"data": _yank(*await hub.managing.unyank(account, owner, name, version))}


@router.delete("/{owner}/{name}/@{version}")
async def delete_version(owner: str, name: str, version: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Delete a version, by its number or at least eight characters of its content hash. The number stays used."""
    environment, gone = await hub.managing.delete_version(account, owner, name, version)
    return {"data": {**_shown(environment), "version": gone.version, "content_hash": gone.content_hash}}


@router.put("/{owner}/{name}/star")
async def star(owner: str, name: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Star it; idempotent."""
    return {"data": {"starred": True, "stars": await hub.stars.give(account, owner, name)}}


@router.delete("/{owner}/{name}/star")
async def unstar(owner: str, name: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Take the star back; idempotent."""
    return {"data": {"starred": False, "stars": await hub.stars.take_back(account, owner, name)}}


@router.post("/{owner}/{name}/transfer")
async def transfer(owner: str, name: str, body: TransferBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Give it to a team of the caller's, or take it from there."""
    done = await hub.transfers.transfer(account, owner, name, body.to)
    return {"data": {**_shown(done.environment), "former_owner": done.former_owner, "links_cut": done.links_cut}}


@router.post("/{owner}/{name}/fork")
async def fork(owner: str, name: str, account: AccountDep, hub: HubDep, body: ForkBody | None = None) -> dict[str, Any]:
    """A copy of the caller's own, of what the caller may see (hub.md §3.9)."""
    wanted = body or ForkBody()
    team = wanted.team_slug or wanted.team_id
    environment, version = await hub.forking.fork(account, owner, name, wanted.version, team)
    slug = environment.owner.slug
    source = environment.forked_from or {}
    return {
        "data": {
            "success": True,
            "message": f"Forked {source.get('owner')}/{source.get('name')} to {slug}/{environment.name}.",
            "environment_id": environment.id,
            "version_id": version.id,
            "name": environment.name,
            "owner": {"name": slug},
            "slug": f"{slug}/{environment.name}",
            "semantic_version": version.version,
            "visibility": environment.visibility,
        }
    }


@router.patch("/{owner}/{name}")
async def change(owner: str, name: str, body: ChangeBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Open or close an environment."""
    return {"data": _shown(await hub.managing.set_visibility(account, owner, name, body.visibility))}


@router.delete("/{owner}/{name}", status_code=204)
async def delete(owner: str, name: str, account: AccountDep, hub: HubDep) -> Response:
    """Delete an environment with all that belongs to it."""
    await hub.managing.delete(account, owner, name)
    return Response(status_code=204)


@router.delete("/{environment_id}", status_code=204)
async def delete_by_id(environment_id: str, account: AccountDep, hub: HubDep) -> Response:
    """The same by its id, as the official command can ask for it."""
    await hub.managing.delete_by_id(account, environment_id)
    return Response(status_code=204)
