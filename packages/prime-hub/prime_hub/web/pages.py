"""The pages of an environment, and our stylesheet."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import API, HubDep, base_url
from prime_hub.db.models import Environment, Version
from prime_hub.web.render import is_web_address, page, readme_html, stylesheet
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

ENVIRONMENTS = "/dashboard/environments"


@router.get("/static/hub.css")
async def css() -> Response:
    """Our one stylesheet; its address carries a hash, so it may be kept for good."""
    return Response(
        stylesheet()[0], media_type="text/css", headers={"Cache-Control": "public, max-age=31536000, immutable"}
    )


@router.get("/dashboard")
@router.get(ENVIRONMENTS)
async def dashboard() -> Response:
    """Where people end up who shorten an address."""
    return RedirectResponse("/")


@router.get(f"{ENVIRONMENTS}/{{owner}}/{{name}}")
async def environment_page(
    owner: str,
    name: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    version: Annotated[str, Query(max_length=80)] = "latest",
) -> Response:
    """One environment: what it is, how to install it, its versions."""
    environment = await hub.catalogue.environment(visitor.account, owner, name)
    found = await hub.catalogue.version(environment, version)
    versions = await hub.catalogue.versions(environment)
    readme = await asyncio.to_thread(readme_html, found.readme) if found.readme else ""
    href = f"{ENVIRONMENTS}/{environment.owner.slug}/{environment.normalized_name}"
    return page(
        request,
        "environment.html",
        environment=environment,
        owner=environment.owner.slug,
        project=environment.normalized_name,
        href=href,
        version=found,
        newest=found.id == environment.latest_version_id,
        versions=[
            {
                "number": one.version,
                "hash": one.content_hash,
                "at": one.finalized_at,
                "shown": one.id == found.id,
                "yanked": one.yanked_at is not None,
            }
            for one in versions
        ],
        tags=environment.tags if found.id == environment.latest_version_id else found.details.get("tags") or [],
        description=found.details.get("description") or "",
        urls=_urls(found.details.get("urls")),
        facts=_facts(found),
        installs=await hub.usage.installs(environment),
        readme=readme,
        base=base_url(request),
        wheel_url=_wheel_url(request, environment, found),
        stars=environment.stars,
        starred=environment.id in await hub.stars.of(visitor.account, [environment]),
        may_star=visitor.session is not None,
        source=await hub.forking.source_of(visitor.account, environment),
        manages=await hub.managing.manages(visitor.account, environment),
    )


def _wheel_url(request: Request, environment: Environment, version: Version) -> str | None:
    if version.wheel is None:
        return None
    file = f"{base_url(request)}{API}/files/{environment.owner.slug}/{version.wheel.filename}"
    return f"{file}#sha256={version.wheel.sha256}"


def _urls(given: object) -> list[tuple[str, str]]:
    """The project's own links that a browser may follow."""
    if not isinstance(given, dict):
        return []
    pairs = [(str(name)[:80], str(url)[:500]) for name, url in given.items()]
    return [(name, url) for name, url in pairs if is_web_address(url)][:20]


def _facts(version: Version) -> list[tuple[str, str]]:
    details = version.details
    license_ = details.get("license")
    if isinstance(license_, dict):
        license_ = license_.get("text") or license_.get("file")
    facts = [
        ("License", license_),
        ("Python", details.get("python_requires")),
        ("Image", version.image),
        ("Image digest", version.image_digest and version.image_digest[:19] + "…"),
        ("Content hash", version.content_hash[:12] + "…"),
    ]
    return [(name, str(value)[:200]) for name, value in facts if value]
