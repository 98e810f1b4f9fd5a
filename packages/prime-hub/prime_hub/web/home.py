"""Home: the catalogue with its search, filters, order and pages. Its address holds all of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Environment
from prime_hub.errors import Invalid, NotFound
from prime_hub.hub import Hub
from prime_hub.services.catalogue import RELEVANCE, Listing, Search
from prime_hub.services.checks import Badge
from prime_hub.services.passages import Passage
from prime_hub.web.render import page
from prime_hub.web.visitors import Visitor, VisitorDep
from prime_hub.words import ASKED, asked_words

router = APIRouter(include_in_schema=False)

PER_PAGE = 24
MOST_TAGS = 16
LONGEST_SEARCH = 200
LONGEST_OWNER = 64
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
    """What the address of a list says: of all environments, or, on the page of an owner, of theirs."""

    q: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    sort: str = ""
    number: int = 1
    path: str = "/"

    @property
    def order(self) -> str:
        """The order in force."""
        return self.sort or (RELEVANCE if self.q.strip() else "updated_at")

    @property
    def filtered(self) -> bool:
        """Whether this is less than everything of the page."""
        return bool(self.q.strip() or self.tags or (self.owner and self.path == "/"))

    def href(self, **changes: Any) -> str:
        """The address with something changed; another question begins at its first page."""
        there = replace(self, **{"number": 1, **changes})
        values = [("q", there.q), *there._rest()]
        if there.number > 1:
            values.append(("page", str(there.number)))
        query = urlencode([(name, value) for name, value in values if value])
        return f"{self.path}?{query}" if query else self.path

    def _rest(self) -> list[tuple[str, str]]:
        sort = "" if self.sort == replace(self, sort="").order else self.sort
        owner = self.owner if self.path == "/" else ""
        return [*(("tag", tag) for tag in self.tags), ("owner", owner), ("sort", sort)]

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What another search takes along: filters and order."""
        # The order by relevance is what a search has anyhow.
        return [(name, value) for name, value in self._rest() if value and value != RELEVANCE]

    @property
    def chosen(self) -> list[tuple[str, str]]:
        """The filters in force by their words, each with the address without it."""
        owner = [(self.owner, self.href(owner=""))] if self.owner and self.path == "/" else []
        return [*owner, *((tag, self.toggled(tag)) for tag in self.tags)]

    def toggled(self, tag: str) -> str:
        """The address with one tag more, or less where it is among them."""
        known = [one for one in self.tags if one.lower() != tag.lower()]
        return self.href(tags=tuple(known if len(known) < len(self.tags) else [*known, tag]))

    def tagged(self, tag: str) -> str:
        """The address with this tag, too."""
        return self.href() if self.has(tag) else self.toggled(tag)

    def has(self, tag: str) -> bool:
        """Whether a tag is among the filters."""
        return tag.lower() in (one.lower() for one in self.tags)


async def place(
    request: Request,
    q: str = "",
    tag: Annotated[list[str] | None, Query(max_length=MOST_TAGS)] = None,
    sort: Annotated[str, Query(max_length=32)] = "",
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
) -> Place:
    """What the address says. Raises Invalid for an order that there is not."""
    if sort and sort not in ORDERS:
        raise Invalid(f"This page has no order '{sort}'; choose one of those above its list.")
    tags = tuple(dict.fromkeys(one.strip()[:64] for one in tag or () if one.strip()))
    return Place(q, tags, "", sort, number, request.url.path)


PlaceDep = Annotated[Place, Depends(place)]


@router.get("/")
async def home(
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    place: PlaceDep,
    owner: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The catalogue: what was published last, or what matches best."""
    place = replace(place, owner=owner)
    values = await listed(hub, visitor, place)
    return page(
        request, "home.html", 422 if values["too_long"] else 200, search=place.q, search_kept=place.kept, **values
    )


async def listed(hub: Hub, visitor: Visitor, place: Place) -> dict[str, Any]:
    """What `catalogue.html` shows: one page of a list with its filters, and why something is on it."""
    too_long = len(place.q) > LONGEST_SEARCH
    wanted = Search(
        PER_PAGE,
        (place.number - 1) * PER_PAGE,
        place.q,
        place.owner or None,
        tags=place.tags,
        sort_by=place.order,
        descending=place.order not in ASCENDING,
    )
    found = Listing([], 0, []) if too_long else await hub.catalogue.listing(visitor.account, wanted)
    checked = await hub.checks.badges([environment.latest_version_id for environment, _ in found.rows])
    nothing = bool(place.q.strip()) and not found.total and not too_long
    return {
        "place": place,
        "rows": [
            card(environment, version, found.passages.get(environment.id), checked.get(environment.latest_version_id))
            for environment, version in found.rows
        ],
        "total": found.total,
        "facets": [(group, facets) for group, facets in found.facets if facets],
        "orders": [(name, words) for name, words in ORDERS.items() if name != RELEVANCE or place.q.strip()],
        "last": max(1, -(-found.total // PER_PAGE)),
        "instead": found.instead,
        "too_long": f"{len(place.q):,} characters; it may have {LONGEST_SEARCH}" if too_long else "",
        "ignored": asked_words(place.q, None)[ASKED:],
        "whose": await _owner(hub, visitor, place.q.strip()) if nothing else None,
    }


async def _owner(hub: Hub, visitor: Visitor, name: str) -> str | None:
    """The name of an account that is called so, where the visitor may know of it."""
    try:
        return (await hub.owners.profile(visitor.account, name)).owner.slug if len(name) <= LONGEST_OWNER else None
    except NotFound:
        return None


def card(
    environment: Environment, version: str, passage: Passage | None = None, check: Badge | None = None
) -> dict[str, Any]:
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
        "passage": passage,
        "check": check,
    }
