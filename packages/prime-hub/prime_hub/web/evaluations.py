"""Evaluations: those that the visitor may see, and one of them with its means, its histogram and its rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.errors import BadRequest, HubError
from prime_hub.services.evaluation_samples import OUTCOMES, SORTS, Listed
from prime_hub.services.evaluations import Description, Wanted
from prime_hub.services.hosted_evaluations import GOING
from prime_hub.services.shelves import Card, DatabaseShelf, Shelf
from prime_hub.web.chart import HEIGHT, STEP, columns
from prime_hub.web.forms import FormDep
from prime_hub.web.render import page
from prime_hub.web.visitors import SignedInDep, VisitorDep

router = APIRouter(include_in_schema=False)
"""What is read: also served without a Hub."""
changing = APIRouter(include_in_schema=False)
EVALUATIONS = "/dashboard/evaluations"
PER_PAGE = 50
LISTED = 25
LOG_SHOWN = 64 * 1024
"""Characters of a log on a page."""
DONE = {
    "PUBLIC": "It is public now.",
    "PRIVATE": "It is private now.",
    "deleted": "The evaluation is deleted.",
    "cancelled": "The run is ending.",
}
WORDS = {
    "PENDING": "Waiting",
    "RUNNING": "Not finished",
    "COMPLETED": "Complete",
    "FAILED": "Failed",
    "TIMEOUT": "Timed out",
    "CANCELLED": "Cancelled",
}
OUTCOME_WORDS = dict(zip(OUTCOMES, ("Passed", "Failed", "With an error", "Unscored", "Truncated"), strict=True))
HEADS = {
    "example": "Example",
    "reward": "Reward",
    "turns": "Turns",
    "tokens": "Tokens",
    "seconds": "Time",
    "cost": "Cost",
}
REFRESH = {"Refresh": "1"}
"""For a page with numbers that are being made."""


async def get_shelf(hub: HubDep, visitor: VisitorDep) -> Shelf:
    """What the pages read from; without a Hub another one takes its place (`prime_hub.viewing`)."""
    return DatabaseShelf(hub, visitor.account, visitor.session is not None)


ShelfDep = Annotated[Shelf, Depends(get_shelf)]
Done = Annotated[str, Query(max_length=20)]
Number = Annotated[int, Query(alias="page", ge=1, le=10_000)]


@router.get(EVALUATIONS)
async def evaluations_page(
    request: Request,
    shelf: ShelfDep,
    env: Annotated[str, Query(max_length=200)] = "",
    owner: Annotated[str, Query(max_length=80)] = "",
    model: Annotated[str, Query(max_length=255)] = "",
    number: Number = 1,
    done: Done = "",
) -> Response:
    """All that the visitor may see, newest first; of one owner, environment or model."""
    wanted = Wanted((number - 1) * LISTED, LISTED, env or None, None, owner or None, model or None)
    found, total = await shelf.find(wanted)
    kept = {name: value for name, value in (("env", env), ("owner", owner), ("model", model)) if value}

    def link(**changed: str | int | None) -> str:
        query = {name: value for name, value in {**kept, **changed}.items() if value}
        return EVALUATIONS + ("?" + urlencode(query) if query else "")

    mine = shelf.mine
    shown = page(
        request,
        "evaluations.html",
        rows=[row_of(one) for one in found],
        total=total,
        number=number,
        kept=[{"word": f"{name} {value}", "href": link(**{name: None})} for name, value in kept.items()],
        mine=link(owner=mine) if mine and owner != mine else None,
        link=link,
        newer=link(page=number - 1 if number > 2 else None) if number > 1 else None,
        older=link(page=number + 1) if number * LISTED < total else None,
        done=DONE.get(done),
    )
    if any(one.waiting for one in found):
        shown.headers.update(REFRESH)
    return shown


def row_of(one: Card) -> dict[str, Any]:
    """What a list tells of an evaluation."""
    summary = one.summary or {}
    return {
        "id": one.id,
        "href": f"{EVALUATIONS}/{one.id}",
        "name": one.name,
        "model": one.model,
        "owner": one.owner,
        "folder": one.folder,
        "environments": one.environments,
        "version": None,
        "status": one.status,
        "words": "Running" if one.hosted and one.status == "RUNNING" else WORDS[one.status],
        "waiting": one.waiting,
        "reward": summary.get("reward"),
        "scored": summary.get("num_scored"),
        "samples": one.samples,
        "private": one.private,
        "at": one.at,
    }


@router.get(f"{EVALUATIONS}/{{evaluation_id}}")
async def evaluation_page(
    evaluation_id: str,
    request: Request,
    shelf: ShelfDep,
    sort: Annotated[str, Query(max_length=20)] = "example",
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "asc",
    outcome: Annotated[str, Query(max_length=20)] = "",
    error: Annotated[str, Query(max_length=100)] = "",
    example: Annotated[str, Query(max_length=200)] = "",
    number: Number = 1,
    done: Done = "",
) -> Response:
    """One evaluation, and a page of its rollouts."""
    listed = Listed(number, PER_PAGE, sort, order == "desc", outcome or None, error or None, example or None)
    return await _evaluation(request, shelf, evaluation_id, listed, done)


async def _evaluation(
    request: Request,
    shelf: Shelf,
    evaluation_id: str,
    listed: Listed,
    done: str = "",
    problem: HubError | None = None,
) -> Response:
    one = await shelf.one(evaluation_id)
    samples, total = await shelf.rollouts(evaluation_id, listed)
    summary = one.summary
    href = f"{EVALUATIONS}/{one.id}"
    bins, top = columns(summary["histogram"]) if summary else ([], 1)
    log = await shelf.log(evaluation_id) if one.hosted else None
    shown = page(
        request,
        "evaluation.html",
        problem.status if problem is not None else 200,
        one=row_of(one),
        href=href,
        user=one.user if one.user != one.owner else None,
        about=about(one),
        tags=one.tags,
        arguments=arguments(one.details),
        summary=summary,
        hosted=one.hosted,
        wrong=one.error_message if log is not None else None,
        log=log[-LOG_SHOWN:] if log is not None else None,
        cancels=one.hosted and one.status in GOING and one.may_change,
        told=one.told,
        bins=bins,
        top=top,
        height=HEIGHT,
        step=STEP,
        samples=samples,
        total=total,
        heads=[_head(href, listed, name) for name in _shown_columns(summary)],
        cells=_shown_columns(summary),
        outcomes=_outcomes(href, listed),
        chosen=_chosen(href, listed),
        query=_query(listed),
        listed=listed,
        last=max(1, -(-total // PER_PAGE)),
        newer=href + _query(listed, page=listed.page - 1) if listed.page > 1 else None,
        older=href + _query(listed, page=listed.page + 1) if listed.page * PER_PAGE < total else None,
        others=await _others(shelf, one),
        may_change=one.may_change,
        done=DONE.get(done),
        problem=problem.detail if problem is not None else None,
    )
    if one.waiting:
        shown.headers.update(REFRESH)
    return shown


async def _others(shelf: Shelf, one: Card) -> list[dict[str, Any]]:
    """Those of the same environment, to compare it with."""
    if not one.environments:
        return []
    found, _ = await shelf.find(Wanted(0, 26, one.environments[0].slug))
    return [row_of(other) for other in found if other.id != one.id and other.finished]


def _shown_columns(summary: Mapping[str, Any] | None) -> list[str]:
    """The columns that there is something in."""
    amounts = (summary or {}).get("amounts") or {}
    there = {"tokens": "output_tokens", "seconds": "seconds", "cost": "cost", "turns": "turns"}
    return [name for name in SORTS if name not in there or (amounts.get(there[name]) or {}).get("total")]


def _query(listed: Listed, **changed: str | int | None) -> str:
    asked: dict[str, Any] = {
        "sort": listed.sort if listed.sort != "example" else None,
        "order": "desc" if listed.descending else None,
        "outcome": listed.outcome,
        "error": listed.error,
        "example": listed.example,
        "page": listed.page if listed.page > 1 else None,
        **changed,
    }
    words = urlencode({name: value for name, value in asked.items() if value and (name, value) != ("page", 1)})
    return f"?{words}" if words else ""


def _head(href: str, listed: Listed, name: str) -> dict[str, Any]:
    here = listed.sort == name
    # What is long, dear or late is looked for first; of examples the first.
    order = ("asc" if listed.descending else "desc") if here else "asc" if name in ("example", "reward") else "desc"
    query = _query(
        listed, sort=None if name == "example" else name, order="desc" if order == "desc" else None, page=None
    )
    return {
        "name": name,
        "word": HEADS[name],
        "href": f"{href}{query}#rollouts",
        "sorted": ("descending" if listed.descending else "ascending") if here else None,
    }


def _outcomes(href: str, listed: Listed) -> list[dict[str, Any]]:
    kept = [("All", None), *((word, name) for name, word in OUTCOME_WORDS.items())]
    return [
        {
            "words": word,
            "href": f"{href}{_query(listed, outcome=name, error=None, page=None)}#rollouts",
            "here": listed.outcome == name and not listed.error,
        }
        for word, name in kept
    ]


def _chosen(href: str, listed: Listed) -> list[dict[str, str]]:
    asked = {"error": listed.error, "example": listed.example}
    return [
        {"word": f"{name} {value}", "href": f"{href}{_query(listed, **{name: None}, page=None)}#rollouts"}
        for name, value in asked.items()
        if value
    ]


def about(one: Card) -> list[tuple[str, str]]:
    """What it is besides its name."""
    told = one.details
    numbers = (told.get("num_examples"), told.get("rollouts_per_example"))
    planned = f"{numbers[0]} examples × {numbers[1]} rollouts" if all(isinstance(n, int) for n in numbers) else ""
    found = [
        ("Planned", planned),
        ("Run", one.run_id),
        ("Framework", one.framework),
        ("Task", one.task),
    ]
    return [(name, text) for name, text in found if text]


def arguments(details: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What the run was given, apart from its numbers."""
    names = {"env_args": "Arguments of the environment", "sampling_args": "Sampling"}
    return [(word, details[name]) for name, word in names.items() if details.get(name)]


@changing.post(f"{EVALUATIONS}/{{evaluation_id}}/visibility")
async def visibility(
    evaluation_id: str, request: Request, hub: HubDep, shelf: ShelfDep, me: SignedInDep, form: FormDep
) -> Response:
    """Open or close it."""
    wanted = form.text("visibility")
    try:
        if wanted not in ("PUBLIC", "PRIVATE"):
            raise BadRequest("An evaluation is PUBLIC or PRIVATE.")
        await hub.evaluations.change(me.account, evaluation_id, Description(public=wanted == "PUBLIC"))
    except BadRequest as error:
        return await _evaluation(request, shelf, evaluation_id, Listed(limit=PER_PAGE), problem=error)
    return RedirectResponse(f"{EVALUATIONS}/{quote(evaluation_id)}?done={wanted}", status_code=303)


@changing.post(f"{EVALUATIONS}/{{evaluation_id}}/cancel")
async def cancel(evaluation_id: str, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """End its run."""
    await hub.hosted_evaluations.cancel(me.account, evaluation_id)
    return RedirectResponse(f"{EVALUATIONS}/{quote(evaluation_id)}?done=cancelled", status_code=303)


@changing.post(f"{EVALUATIONS}/{{evaluation_id}}/delete")
async def delete(evaluation_id: str, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """Delete it, for good."""
    await hub.evaluations.delete(me.account, evaluation_id)
    return RedirectResponse(f"{EVALUATIONS}?done=deleted", status_code=303)
