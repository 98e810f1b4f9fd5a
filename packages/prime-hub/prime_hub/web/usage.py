"""An environment's usage: totals, a chart over time, versions. Seen by whoever sees the environment."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_hub.api.deps import HubDep
from prime_hub.services.usage import LONGEST_DAYS, SPANS, Kind
from prime_hub.web.chart import HEIGHT, STEP, bar_chart, written
from prime_hub.web.environment_frame import PATH, USAGE, frame
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

RANGES = (30, 90, 365)
NAMES = {Kind.INSTALL: "Installs", Kind.PULL: "Pulls", Kind.EVALUATION: "Evaluations"}


@router.get(f"{PATH}/usage")
async def usage_page(
    owner: str,
    name: str,
    request: Request,
    hub: HubDep,
    visitor: VisitorDep,
    days: Annotated[int, Query(ge=1, le=LONGEST_DAYS)] = 90,
    version: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    """How often it was installed and pulled: of all versions, or of one."""
    framed = await frame(request, hub, visitor, owner, name, version or "latest", USAGE)
    only = framed.version if version else None
    report = await hub.usage.of(framed.environment, days, only)
    number = only.version if only else ""
    return framed.page(
        "usage.html",
        environment=framed.environment,
        owner=framed.owner,
        here=f"{framed.href}/usage",
        days=days,
        only=number,
        ranges=[(span, _query(span, number)) for span in RANGES],
        kinds=[(kind, NAMES[kind]) for kind in report.kinds],
        totals=[("All time", report.total), *((f"{span} days", report.spans[span]) for span in sorted(SPANS)[::-1])],
        chart=bar_chart(report.days, report.kinds),
        height=HEIGHT,
        step=STEP,
        versions=[(one, _query(days, one), within) for one, (within, _) in report.versions.items()],
        everything=_query(days, ""),
        written=written,
    )


def _query(days: int, version: str) -> str:
    return "?" + urlencode({"days": days, **({"version": version} if version else {})})
