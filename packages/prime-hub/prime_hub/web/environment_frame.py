"""What all pages of one environment share: who may see it, the heading, and the row of tabs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Query, Request
from fastapi.responses import HTMLResponse
from packaging.version import Version as Number

from prime_hub.db.models import Environment, Version
from prime_hub.hub import Hub
from prime_hub.web.render import page
from prime_hub.web.visitors import Visitor

PATH = "/dashboard/environments/{owner}/{name}"


@dataclass(frozen=True)
class Tab:
    """A page of an environment: its word in the row, and what its address ends with."""

    word: str
    end: str


README = Tab("README", "")
FILES = Tab("Files", "/files")
VERSIONS = Tab("Versions", "/versions")
CHECK = Tab("Check", "/check")
EVALUATIONS = Tab("Evaluations", "/evaluations")
USAGE = Tab("Usage", "/usage")

TABS = (README, FILES, VERSIONS, CHECK, EVALUATIONS, USAGE)
"""In their order; one more here is one more in the row of every page."""

Wanted = Annotated[str, Query(alias="version", max_length=80)]
"""The version that a page is about."""


@dataclass(frozen=True)
class Frame:
    """An environment's page: what it is about. `query` keeps its links to the version, where it is not the newest."""

    request: Request
    environment: Environment
    version: Version
    href: str
    query: str
    heading: dict[str, Any]

    @property
    def owner(self) -> str:
        """The owner's name."""
        return self.environment.owner.slug

    @property
    def newest(self) -> bool:
        """Whether the version is the newest."""
        return self.version.id == self.environment.latest_version_id

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """A page with the heading (`environment_heading.html`) above it."""
        values |= {"heading": self.heading, "href": self.href, "query": self.query, "version": self.version}
        return page(self.request, template, **values)


async def frame(
    request: Request, hub: Hub, visitor: Visitor, owner: str, name: str, version: str, here: Tab | None
) -> Frame:
    """The frame of a page; `here` is its tab. Raises NotFound for what the visitor may not see."""
    environment = await hub.catalogue.environment(visitor.account, owner, name)
    found = await hub.catalogue.version(environment, version)
    newest = found.id == environment.latest_version_id
    href = f"/dashboard/environments/{quote(environment.owner.slug)}/{quote(environment.normalized_name)}"
    query = "" if newest else "?" + urlencode({"version": found.version})
    heading = {
        "owner": environment.owner.slug,
        "name": environment.name,
        "href": href,
        "version": found.version,
        "newest": newest,
        "other": None if newest else await _newest(hub, environment, found),
        "private": environment.visibility == "PRIVATE",
        "yanked": found.yanked_at is not None,
        "yanked_reason": found.yanked_reason,
        "unmet": await asyncio.to_thread(hub.distributions.unmet, found.details.get("requires_dist")),
        "description": str(found.details.get("description") or ""),
        "tags": environment.tags if newest else _words(found.details.get("tags")),
        "stars": environment.stars,
        "starred": environment.id in await hub.stars.of(visitor.account, [environment]),
        "may_star": visitor.session is not None,
        "source": await hub.forking.source_of(visitor.account, environment),
        "manages": await hub.managing.manages(visitor.account, environment),
        "tabs": [{"word": tab.word, "href": href + tab.end + query, "here": tab is here} for tab in TABS],
    }
    return Frame(request, environment, found, href, query, heading)


def _words(tags: object) -> list[str]:
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


async def _newest(hub: Hub, environment: Environment, shown: Version) -> dict[str, Any]:
    """The version that is installed where none is named, beside another one: its number, and whether the other is a
    candidate of a later one.
    """
    newest = await hub.catalogue.version(environment, "latest")
    number, latest = Number(shown.version), Number(newest.version)
    return {"number": newest.version, "candidate": number.is_prerelease and number > latest, "later": number > latest}
