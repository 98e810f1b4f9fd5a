"""What the Hub found when it checked a version: the report, the badge, and what each check is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from prime_core.checks.registry import CHECKS, UnknownCheck, find
from prime_core.checks.report import Report, Result
from prime_hub.api.deps import HubDep, frontend_url
from prime_hub.db.models import VersionCheck
from prime_hub.errors import NotFound
from prime_hub.services.checks import GOING, badge
from prime_hub.web.badge import LABEL, picture
from prime_hub.web.environment_frame import CHECK, PATH, Frame, Wanted, frame
from prime_hub.web.forms import FormDep
from prime_hub.web.readme import NOWHERE, Readmes
from prime_hub.web.render import page
from prime_hub.web.visitors import SignedInDep, VisitorDep

router = APIRouter(include_in_schema=False)

EXPLAINED = Readmes()
WORDS = {"pass": "passed", "warn": "advice", "fail": "failed", "skip": "not made"}
FACTS = {
    "reward_floor": "Reward of always the first action",
    "reward_random_mean": "Mean reward of random play",
    "reward_random_spread": "Spread of that",
    "startup_seconds": "Seconds to start",
    "step_seconds_median": "Seconds a step",
    "memory_per_session_bytes": "Bytes of memory a session",
}


@router.get(f"{PATH}/check")
async def check_page(
    owner: str, name: str, request: Request, hub: HubDep, visitor: VisitorDep, version: Wanted = "latest"
) -> Response:
    """The report of a version, or how far its check is."""
    framed = await frame(request, hub, visitor, owner, name, version, CHECK)
    row = await hub.checks.of(framed.version, report=True)
    report = None if row is None or row.report is None else Report.from_dict(row.report)
    publishes = await hub.checks.may_ask(visitor.account, framed.environment)
    return framed.page(
        "check.html",
        owner=framed.owner,
        project=framed.environment.normalized_name,
        here=f"{framed.href}/check{framed.query}",
        row=row,
        going=row is not None and row.state in GOING,
        progress=_progress(row),
        badge=badge(row),
        picture=picture(badge(row)),
        report=report,
        found=[] if report is None else _findings(report),
        groups=[] if report is None else _groups(report.ordered),
        facts=[] if report is None else [(FACTS[key], one) for key, one in report.facts.items() if key in FACTS],
        words=WORDS,
        asks=publishes and visitor.session is not None,
        log=row.log if row is not None and publishes else None,  # what an installation says may tell of this machine
        markdown=markdown(request, framed),
    )


@router.post(f"{PATH}/check")
async def begin(owner: str, name: str, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Have a version checked."""
    wanted = form.text("version") or "latest"
    await hub.checks.ask(me.account, owner, name, wanted)
    environment = await hub.catalogue.environment(me.account, owner, name)
    version = await hub.catalogue.version(environment, wanted)
    query = "" if version.id == environment.latest_version_id else f"?version={version.version}"
    href = f"/dashboard/environments/{environment.owner.slug}/{environment.normalized_name}/check"
    return RedirectResponse(href + query, status_code=303)


@router.get(f"{PATH}/badge.svg")
async def badge_picture(
    owner: str, name: str, hub: HubDep, visitor: VisitorDep, version: Wanted = "latest"
) -> Response:
    """What is known of a version, in a few words, for a README anywhere. It is of the newest version unless it names one."""
    environment = await hub.catalogue.environment(visitor.account, owner, name)
    row = await hub.checks.of(await hub.catalogue.version(environment, version))
    # Proxies of pictures keep what they may, and a badge that is old says what is not so.
    kept = "private, no-store" if environment.visibility == "PRIVATE" else "no-cache"
    headers = {"Cache-Control": kept, "Vary": "Authorization, Cookie"}
    return Response(picture(badge(row)), media_type="image/svg+xml", headers=headers)


@router.get("/dashboard/checks/{check}")
async def explanation(check: str, request: Request, visitor: VisitorDep) -> Response:
    """What a check is about, and how to mend what it finds."""
    try:
        found = find(check)
    except UnknownCheck:
        raise NotFound(f"There is no check '{check[:60]}'.") from None
    others = [one for one in CHECKS.values() if one.group == found.group]
    text = await EXPLAINED.html(found.explanation, NOWHERE)
    return page(request, "check_explained.html", check=found, others=others, text=text)


def markdown(request: Request, framed: Frame) -> str:
    """The badge for a README, leading to the report."""
    href = f"{frontend_url(request)}{framed.href}"
    return f"[![{LABEL}]({href}/badge.svg)]({href}/check)"


def _progress(row: VersionCheck | None) -> str:
    if row is None or row.state == "queued":
        return "It waits for its turn."
    if row.progress in (None, "installing"):
        return "It is being installed into a sandbox."
    return "The checker is being started." if row.progress == "starting" else f"At work on: {row.progress}."


def _findings(report: Report) -> list[tuple[str, Result]]:
    """What is wrong first, then advice."""
    return [(outcome, one) for outcome in ("fail", "warn") for one in report.ordered if one.verdict.outcome == outcome]


def _groups(results: Iterable[Result]) -> list[tuple[str, list[dict[str, Any]], str | None]]:
    """The checks by group; with the reason where one keeps all of a group from being made."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        check, verdict = CHECKS[one.id], one.verdict
        said = verdict.findings[0].sentence.splitlines()[0] if verdict.findings else verdict.why or ""
        row = {"id": one.id, "title": check.title, "outcome": verdict.outcome, "said": said}
        groups.setdefault(check.group, []).append(row)
    return [(group, rows, _same(rows)) for group, rows in groups.items()]


def _same(rows: list[dict[str, Any]]) -> str | None:
    said = {(row["outcome"], row["said"]) for row in rows}
    return rows[0]["said"] if len(said) == 1 and rows[0]["outcome"] == "skip" else None
