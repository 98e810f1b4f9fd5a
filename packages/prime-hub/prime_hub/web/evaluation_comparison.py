"""Two evaluations side by side, example by example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_evals.comparison import Pair, unlike
from prime_hub.services.evaluations import Wanted
from prime_hub.services.shelves import Card
from prime_hub.web.evaluations import EVALUATIONS, ShelfDep, row_of
from prime_hub.web.render import page

router = APIRouter(include_in_schema=False)
COMPARE = f"{EVALUATIONS}/compare"
MOST = 100
"""Rows of a table that is made of examples."""


@router.get(COMPARE)
async def compare_page(
    request: Request,
    shelf: ShelfDep,
    first: Annotated[str, Query(max_length=80)] = "",
    second: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    """What changed from one evaluation to another: how far the mean, and which examples."""
    if not first or not second:
        cards, _ = await shelf.find(Wanted(0, 100))
        choice = [row_of(one) for one in cards if one.finished]
        return page(request, "evaluation_choice.html", choice=choice, first=first, second=second, compare=COMPARE)
    both = await shelf.compare(first, second)
    found, shown = both.found, both.shown
    flips = {
        "gained": [one for one in found.pairs if one.flip > 0],
        "lost": [one for one in found.pairs if one.flip < 0],
    }
    steady = [one for one in found.pairs if one.flip == 0 and one.difference]
    moved = sorted(steady, key=lambda one: -abs(one.difference))
    return page(
        request,
        "evaluation_comparison.html",
        before=row_of(both.before),
        after=row_of(both.after),
        swapped=f"{COMPARE}?first={both.after.id}&second={both.before.id}",
        found=found,
        doubt=_doubt(both.before, both.after),
        difference=found.difference.to_dict() if found.difference else None,
        threshold=both.threshold,
        gained=_rows(flips["gained"], shown),
        lost=_rows(flips["lost"], shown),
        moved=_rows(moved, shown),
        counts={"gained": len(found.gained), "lost": len(found.lost), "moved": len(moved)},
        most=MOST,
    )


def _doubt(before: Card, after: Card) -> str:
    names = [one.environments[0].slug if len(one.environments) == 1 else "" for one in (before, after)]
    given = [one.details.get("env_args") for one in (before, after)]
    first, second = (one if isinstance(one, Mapping) else {} for one in given)
    return unlike(names[0], names[1], first, second)


def _rows(pairs: Sequence[Pair], shown: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "example": shown.get(str(one.example), str(one.example)),
            "before": one.before,
            "after": one.after,
            "difference": one.difference,
        }
        for one in pairs[:MOST]
    ]
