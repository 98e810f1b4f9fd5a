"""Home: the catalogue with its search, filters, order and pages. Its address holds all of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Environment
from prime_hub.errors import Invalid
from prime_hub.services.catalogue import RECOMMENDED, RELEVANCE, Search
from prime_hub.web.render import page
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

PER_PAGE = 24
MOST_TAGS = 16
ORDERS = {
    RELEVANCE: "Best match",
    "updated_at": "Recently updated",
    "stars": "Most stars",
    "name": "Name",
    "created_at": "New here",
}
ASCENDING = ("name",)


@dataclass(frozen=True)
class Place:
    """What the address of the home page says."""

    q: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    sort: str = ""
    number: int = 1

    @property
    def order(self) -> str:
        """The order in force."""
        return self.sort or (RELEVANCE if self.q.strip() else "updated_at")

    @property
    def filtered(self) -> bool:
        """Whether this is less than everything."""
        return bool(self.q.strip() or self.tags or self.owner)

    def href(self, **changes: Any) -> str:
        """The address with something changed; another question begins at its first page."""
        there = replace(self, **{"number": 1, **changes})
        sort = "" if there.sort == replace(there, sort="").order else there.sort
        values = [("q", there.q), *(("tag", tag) for tag in there.tags), ("owner", there.owner), ("sort", sort)]
        if there.number > 1:
            values.append(("page", str(there.number)))
        query = urlencode([(name, value) for name, value in values if value])
        return f"/?{query}" if query else "/"

    def toggled(self, tag: str) -> str:
        """The address with one tag more, or less where it is among them."""
        known = [one for one in self.tags if one.lower() != tag.lower()]
        return self.href(tags=tuple(known if len(known) < len(self.tags) else [*known, tag]))

    def has(self, tag: str) -> bool:
        """Whether a tag is among the filters."""
        return tag.lower() in (one.lower() for one in self.tags)


@router.get("/")
async def home(
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    q: Annotated[str, Query(max_length=200)] = "",
    tag: Annotated[list[str] | None, Query(max_length=MOST_TAGS)] = None,
    owner: Annotated[str, Query(max_length=64)] = "",
    sort: Annotated[str, Query(max_length=32)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Response:
    """The catalogue: what was published last, or what matches best."""
    if sort and sort not in ORDERS:
        raise Invalid(f"There is no order '{sort}'; choose {', '.join(ORDERS)}.")
    tags = tuple(dict.fromkeys(one.strip()[:64] for one in tag or () if one.strip()))
    place = Place(q, tags, owner, sort, number)
    wanted = Search(
        PER_PAGE,
        (number - 1) * PER_PAGE,
        q,
        owner or None,
        tags=tags,
        sort_by=place.order,
        descending=place.order not in ASCENDING,
    )
    rows, total, groups = await hub.catalogue.find_with_facets(visitor.account, wanted)
    return page(
        request,
        "home.html",
        rows=[card(environment, version) for environment, version in rows],
        total=total,
        search=q,
        place=place,
        facets=[(group, facets) for group, facets in groups if facets],
        # A tag that is no recommended one has no line among the facets to take it away by.
        others=[one for one in tags if not any(one.lower() in known for known in RECOMMENDED.values())],
        orders=[(name, words) for name, words in ORDERS.items() if name != RELEVANCE or q.strip()],
        last=max(1, -(-total // PER_PAGE)),
    )


def card(environment: Environment, version: str) -> dict[str, Any]:
    """What a list of environments shows of one."""
    owner = environment.owner.slug
    return {
        "owner": owner,
        "name": environment.name,
        "href": f"/dashboard/environments/{owner}/{environment.normalized_name}",
        "description": environment.description,
        "version": version,
        "tags": environment.tags[:6],
        "private": environment.visibility == "PRIVATE",
        "stars": environment.stars,
        "updated": environment.updated_at,
    }
