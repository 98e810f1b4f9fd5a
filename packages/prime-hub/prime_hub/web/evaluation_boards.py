"""Evaluations side by side: all of an environment, and two of them example by example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_evals.comparison import Pair
from prime_hub.api.deps import HubDep, TokenDep
from prime_hub.db.models import Evaluation
from prime_hub.services.evaluation_reports import threshold_of
from prime_hub.services.evaluations import Shown, Wanted
from prime_hub.services.scopes import allows
from prime_hub.web.chart import HEIGHT, WIDE, history, written
from prime_hub.web.environment_frame import EVALUATIONS as TAB
from prime_hub.web.environment_frame import PATH, frame
from prime_hub.web.environment_frame import Wanted as WantedVersion
from prime_hub.web.evaluations import EVALUATIONS, row_of
from prime_hub.web.render import page
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)
COMPARE = f"{EVALUATIONS}/compare"
SERIES = 4
MOST = 100
"""Rows of a table that is made of examples."""


@router.get(f"{PATH}/evaluations")
async def environment_evaluations(
    owner: str,
    name: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    token: TokenDep,
    version: WantedVersion = "latest",
) -> Response:
    """Models by how they do on an environment, and how that went over time."""
    framed = await frame(request, hub, visitor, owner, name, version, TAB)
    # A key that may not read evaluations sees those that everybody sees.
    may = token is None or allows(token.token.scopes, "evaluations", "read")
    board = await hub.reports.board(visitor.account if may else None, framed.environment)
    rows = [_point(row, number) for row, number in board.evaluations if row.avg_reward is not None]
    return framed.page(
        "environment_evaluations.html",
        standings=board.standings,
        rows=[{**row_of(Shown(row)), "version": number} for row, number in board.evaluations],
        chart=history(rows, SERIES),
        height=HEIGHT,
        wide=WIDE,
        written=written,
        compare=COMPARE,
        slug=f"{framed.owner}/{framed.environment.name}",
    )


def _point(row: Evaluation, version: str | None) -> tuple[Any, ...]:
    found = (row.summary or {}).get("reward") or {}
    name = f"{row.model_name}{f' on {version}' if version else ''}"
    return row.model_name, name, row.created_at, row.avg_reward, found.get("low"), found.get("high")


@router.get(COMPARE)
async def compare_page(
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    first: Annotated[str, Query(max_length=80)] = "",
    second: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    """What changed from one evaluation to another: how far the mean, and which examples."""
    if not first or not second:
        found, _ = await hub.evaluations.find(visitor.account, Wanted(0, 100))
        choice = [row_of(one) for one in found if one.row.finalized_at is not None]
        return page(request, "evaluation_choice.html", choice=choice, first=first, second=second, compare=COMPARE)
    before, after, found, shown = await hub.reports.compare(visitor.account, first, second)
    ones = [await hub.evaluations.one(visitor.account, row.id) for row in (before, after)]
    flips = {
        "gained": [one for one in found.pairs if one.flip > 0],
        "lost": [one for one in found.pairs if one.flip < 0],
    }
    steady = [one for one in found.pairs if one.flip == 0 and one.difference]
    moved = sorted(steady, key=lambda one: -abs(one.difference))
    return page(
        request,
        "evaluation_comparison.html",
        before=row_of(ones[0]),
        after=row_of(ones[1]),
        swapped=f"{COMPARE}?first={after.id}&second={before.id}",
        found=found,
        difference=found.difference.to_dict() if found.difference else None,
        threshold=threshold_of(after),
        gained=_rows(flips["gained"], shown),
        lost=_rows(flips["lost"], shown),
        moved=_rows(moved, shown),
        counts={"gained": len(found.gained), "lost": len(found.lost), "moved": len(moved)},
        most=MOST,
    )


def _rows(pairs: Sequence[Pair], shown: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "example": shown.get(str(one.example), str(one.example)),
            "before": one.before,
            "after": one.after,
            "difference": one.difference,
        }
        for one in pairs[:MOST]
    ]
