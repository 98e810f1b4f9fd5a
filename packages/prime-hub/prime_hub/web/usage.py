"""An environment's usage: totals, a chart over time, versions. Seen by whoever sees the environment."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from prime_hub.api.deps import HubDep
from prime_hub.services.usage import LONGEST_DAYS, SPANS, Kind
from prime_hub.web.chart import HEIGHT, STEP, bar_chart, written
from prime_hub.web.render import page
from prime_hub.web.visitors import VisitorDep

router = APIRouter(include_in_schema=False)

RANGES = (30, 90, 365)
NAMES = {Kind.INSTALL: "Installs", Kind.PULL: "Pulls", Kind.EVALUATION: "Evaluations"}


@router.get("/dashboard/environments/{owner}/{name}/usage")
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
    environment = await hub.catalogue.environment(visitor.account, owner, name)
    only = await hub.catalogue.version(environment, version) if version else None
    report = await hub.usage.of(environment, days, only)
    number = only.version if only else ""
    href = f"/dashboard/environments/{quote(environment.owner.slug)}/{quote(environment.normalized_name)}"
    return page(
        request,
        "usage.html",
        environment=environment,
        owner=environment.owner.slug,
        href=href,
        here=f"{href}/usage",
        days=days,
        version=number,
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
