"""An environment's first page: its README, and how to install it."""

from __future__ import annotations

from email.message import Message
from email.parser import HeaderParser
from email.utils import getaddresses

from fastapi import APIRouter, Request
from fastapi.responses import Response
from packaging.requirements import InvalidRequirement, Requirement

from prime_hub.api.deps import API, HubDep, base_url
from prime_hub.db.models import Version
from prime_hub.errors import NotFound
from prime_hub.hub import Hub
from prime_hub.services.checks import badge
from prime_hub.services.comparing import licence
from prime_hub.web.badge import picture
from prime_hub.web.environment_frame import PATH, README, Frame, Wanted, frame
from prime_hub.web.readme import Place, Readmes
from prime_hub.web.render import is_web_address
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)
READMES = Readmes()
NEWEST_VERSIONS = 5
MOST_AUTHORS = 10


@router.get(PATH)
async def environment_page(
    owner: str, name: str, request: Request, hub: HubDep, visitor: VisitorDep, version: Wanted = "latest"
) -> Response:
    """One environment: what it is, how to install it, its newest versions."""
    framed = await frame(request, hub, visitor, owner, name, version, README)
    found = framed.version
    versions = await hub.catalogue.versions(framed.environment)
    core = HeaderParser().parsestr(await hub.packages.core(found.wheel) if found.wheel else "")
    return framed.page(
        "environment.html",
        environment=framed.environment,
        owner=framed.owner,
        project=framed.environment.normalized_name,
        newest=framed.newest,
        versions=[
            {
                "number": one.version,
                "hash": one.content_hash,
                "at": one.finalized_at,
                "shown": one.id == found.id,
                "yanked": one.yanked_at is not None,
            }
            for one in versions[:NEWEST_VERSIONS]
        ],
        count=len(versions),
        urls=_urls(found.details.get("urls")),
        facts=_facts(found, core),
        requires=_requires(found.details.get("requires_dist")),
        installs=await hub.usage.installs(framed.environment),
        readme=await READMES.html(found.readme, await _place(hub, framed)) if found.readme else "",
        base=base_url(request),
        wheel_url=_wheel_url(framed),
        badge=picture(badge(await hub.checks.of(found))),
    )


async def _place(hub: Hub, framed: Frame) -> Place:
    """Where the README stands. It can be read also when the archive cannot."""
    try:
        paths = frozenset(await hub.sources.entries(framed.version))
    except NotFound:
        paths = frozenset()
    return Place(framed.href, framed.query, paths)


def _wheel_url(framed: Frame) -> str | None:
    wheel = framed.version.wheel
    if wheel is None:
        return None
    return f"{base_url(framed.request)}{API}/files/{framed.owner}/{wheel.filename}#sha256={wheel.sha256}"


def _urls(given: object) -> list[tuple[str, str]]:
    """The project's own links that a browser may follow."""
    if not isinstance(given, dict):
        return []
    pairs = [(str(name)[:80], str(url)[:500]) for name, url in given.items()]
    return [(name, url) for name, url in pairs if is_web_address(url)][:20]


def _facts(version: Version, core: Message) -> list[tuple[str, str]]:
    details = version.details
    facts = [
        ("Authors", ", ".join(authors(core))),
        ("License", licence(details) or core.get("License-Expression") or core.get("License")),
        ("Python", details.get("python_requires")),
        ("Image", version.image),
        ("Image digest", version.image_digest and version.image_digest[:19] + "…"),
        ("Content hash", version.content_hash[:12] + "…"),
    ]
    return [(name, str(value)[:200]) for name, value in facts if value]


def authors(core: Message) -> list[str]:
    """Who wrote it, by their names; by an address where that is all there is."""
    named = [name.strip() for name in (core.get("Author") or "").split(",")]
    mailed = [name.strip() or address for name, address in getaddresses(core.get_all("Author-email") or [])]
    return list(dict.fromkeys(one for one in (*named, *mailed) if one))[:MOST_AUTHORS]


def _requires(lines: object) -> list[str]:
    """What it needs to be installed, without what only its extras need."""
    found = []
    for line in lines if isinstance(lines, list) else ():
        try:
            one = Requirement(str(line))
        except InvalidRequirement:
            continue
        if one.marker is None or "extra" not in str(one.marker):
            found.append(str(line)[:200])
    return found
