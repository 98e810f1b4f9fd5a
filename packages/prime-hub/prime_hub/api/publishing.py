"""The six calls of a push, and the upload addresses between them (hub.md §3.3)."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep, body_chunks, upload_url
from prime_hub.errors import Forbidden, Invalid
from prime_hub.services.publishing import Upload

router = APIRouter(prefix=API, tags=["publishing"])

MAX_METADATA_BYTES = 1024 * 1024


class ResolveBody(Asked):
    """Which environment, and whose."""

    name: str
    visibility: str | None = None
    owner_slug: str | None = None
    team_slug: str | None = None
    team_id: str | None = None


class UploadBody(Asked):
    """A file that is about to be sent."""

    content_hash: str
    filename: Annotated[str, Field(max_length=255)]
    sha256: str
    size: int | None = None
    semantic_version: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    runtime_hint: Literal["VERIFIERS_V0", "VERIFIERS_V1"] | None = None

    def upload(self, wheel_id: str | None = None) -> Upload:
        """The service's form of it."""
        details = dict(self.metadata)
        try:
            size = len(json.dumps(details, allow_nan=False, ensure_ascii=False).encode())
        except ValueError:
            raise Invalid(
                "The metadata holds what JSON cannot tell again (NaN, an infinity, half a character); correct it in "
                "pyproject.toml."
            ) from None
        if size > MAX_METADATA_BYTES:
            raise Invalid(f"The metadata is larger than {MAX_METADATA_BYTES} bytes; long texts belong into README.md.")
        if self.runtime_hint:
            details["runtime_hint"] = self.runtime_hint
        return Upload(
            self.content_hash, self.filename, self.sha256, self.semantic_version, self.size, details, wheel_id
        )


class ArchiveBody(UploadBody):
    """A source archive that is about to be sent. `wheel_id` is the wheel it goes with, the newest of its content without."""

    wheel_id: str | None = None


@router.post("/environmentshub/resolve")
async def resolve(body: ResolveBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Get or make the environment."""
    team = body.team_slug or body.team_id
    environment, created = await hub.publishing.resolve(account, body.name, body.visibility, body.owner_slug, team)
    return {
        "data": {
            "id": environment.id,
            "name": environment.name,
            "owner": {"name": environment.owner.slug},
            "visibility": environment.visibility,
            "created": created,
        }
    }


class CheckBody(ResolveBody):
    """A push that somebody means to make; without a number where that is still to be chosen."""

    semantic_version: str | None = None


@router.post("/environmentshub/check")
async def check(body: CheckBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Whether a push could go on: our own command asks before it builds an image for nothing. Changes nothing."""
    team = body.team_slug or body.team_id
    owner, newest = await hub.publishing.check(
        account, body.name, body.semantic_version, body.visibility, body.owner_slug, team
    )
    of_team = {"teamId": owner.team_id} if owner.team_id else {}
    return {"data": {"owner": {"name": owner.slug, **of_team}, "newest_release": newest}}


@router.post("/environmentshub/{environment_id}/wheels")
async def prepare_wheel(
    environment_id: str, body: UploadBody, request: Request, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Announce the wheel; `upload_url` is null when the Hub has it already."""
    slot = await hub.publishing.prepare_wheel(account, environment_id, body.upload())
    url = await upload_url(request, "wheel", slot.id) if slot.needed else None
    return {"data": {"wheel_id": slot.id, "upload_url": url}}


@router.post("/environmentshub/{environment_id}/wheels/{wheel_id}/finalize")
async def finalize_wheel(environment_id: str, wheel_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Check the wheel that arrived."""
    await hub.publishing.finalize_wheel(account, environment_id, wheel_id)
    return {"data": {"success": True, "wheel_id": wheel_id}}


@router.post("/environmentshub/{environment_id}/versions")
async def prepare_version(
    environment_id: str, body: ArchiveBody, request: Request, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Announce the source archive."""
    slot = await hub.publishing.prepare_version(account, environment_id, body.upload(body.wheel_id))
    return {"data": {"version_id": slot.id, "upload_url": await upload_url(request, "archive", slot.id)}}


@router.post("/environmentshub/{environment_id}/versions/{version_id}/finalize")
async def finalize_version(environment_id: str, version_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Make the version visible."""
    version = await hub.publishing.finalize_version(account, environment_id, version_id)
    await hub.checks.published(account, version)
    warnings = await asyncio.to_thread(hub.distributions.unmet, version.details.get("requires_dist"))
    return {
        "data": {
            "success": True,
            "message": f"Version {version.version} is published.",
            "version_id": version.id,
            "semantic_version": version.version,
            "content_hash": version.content_hash,
            "warnings": warnings,
        }
    }


@router.put("/uploads/{kind}/{slot}")
async def upload(
    kind: Literal["wheel", "archive"], slot: str, request: Request, hub: HubDep, token: Annotated[str, Query()] = ""
) -> dict[str, Any]:
    """Take the bytes. The address itself is the permission: signed, for one file, for a while."""
    if not hub.signer.holds(f"upload/{kind}/{slot}", token):
        raise Forbidden("This upload address has run out or was not given by this Hub; run the command again.")
    await hub.publishing.receive(kind, slot, body_chunks(request))
    return {"success": True}
