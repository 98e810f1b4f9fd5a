"""The evaluations of an environment, side by side."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prime_hub.api.deps import HubDep, TokenDep
from prime_hub.db.models import Evaluation
from prime_hub.services.evaluations import Shown
from prime_hub.services.scopes import allows
from prime_hub.services.shelves import card_of
from prime_hub.web.chart import HEIGHT, WIDE, history, written
from prime_hub.web.environment_frame import EVALUATIONS as TAB
from prime_hub.web.environment_frame import PATH, frame
from prime_hub.web.environment_frame import Wanted as WantedVersion
from prime_hub.web.evaluation_comparison import COMPARE
from prime_hub.web.evaluations import row_of
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)
SERIES = 4


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
        rows=[{**row_of(card_of(Shown(row))), "version": number} for row, number in board.evaluations],
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
