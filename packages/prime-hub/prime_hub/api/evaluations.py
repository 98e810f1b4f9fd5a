"""Evaluations: described, their samples sent in batches, finalised; listed, read, changed, deleted (hub.md §5)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, CallerDep, HubDep, body_chunks, frontend_url
from prime_hub.db.models import EvaluationSample
from prime_hub.services.evaluation_samples import Listed
from prime_hub.services.evaluations import Description, Named, Of, Shown, Wanted
from prime_hub.streaming import Stream

router = APIRouter(prefix=f"{API}/evaluations", tags=["evaluations"])

Text = Annotated[str | None, Field(max_length=2000)]
BATCH = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["samples"],
                    "properties": {"samples": {"type": "array", "items": {"type": "object"}}},
                }
            }
        },
    }
}


class EnvironmentBody(Asked):
    """An environment, by `id` or by `slug` (`owner/name`)."""

    id: Text = None
    slug: Text = None
    version: Text = None


class ChangeBody(Asked):
    """What of an evaluation is no measurement."""

    name: Text = None
    tags: Annotated[list[str] | None, Field(max_length=100)] = None
    is_public: bool | None = None

    def description(self) -> Description:
        """The service's form of it."""
        return Description(name=self.name, tags=self.tags, public=self.is_public)


class DescribeBody(ChangeBody):
    """What was run."""

    environments: Annotated[list[EnvironmentBody] | None, Field(max_length=100)] = None
    model_name: Text = None
    framework: Text = None
    task_type: Text = None
    run_id: Text = None
    metadata: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None

    def description(self) -> Description:
        """The service's form of it."""
        named = self.environments
        return Description(
            name=self.name,
            environments=None if named is None else [Named(one.id, one.slug, one.version) for one in named],
            model_name=self.model_name,
            framework=self.framework,
            task_type=self.task_type,
            run_id=self.run_id,
            tags=self.tags,
            metadata=self.metadata,
            metrics=self.metrics,
            public=self.is_public,
        )


class CreateBody(DescribeBody):
    """What was run, and whose evaluation it is: the caller's, or that of a team of theirs."""

    team_id: Text = None


class FinalizeBody(Asked):
    """The last word on the metrics."""

    metrics: dict[str, Any] | None = None


@router.post("/")
async def create(body: CreateBody, account: AccountDep, hub: HubDep, request: Request) -> dict[str, Any]:
    """Begin an evaluation. It is seen by others when it is finalised, and public."""
    made = await hub.evaluations.create(account, body.description(), body.team_id)
    return _told(made, request)


@router.get("/")
async def list_(
    hub: HubDep,
    caller: CallerDep,
    request: Request,
    skip: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=250)] = 20,
    environment_name: Annotated[str | None, Query(max_length=200)] = None,
    team_id: Annotated[str | None, Query(max_length=80)] = None,
    owner: Annotated[str | None, Query(max_length=80)] = None,
    model_name: Annotated[str | None, Query(max_length=255)] = None,
    mine_only: bool = False,
) -> dict[str, Any]:
    """Those that the caller may see, the newest first."""
    wanted = Wanted(skip, limit, environment_name, team_id, owner, model_name, mine_only)
    found, total = await hub.evaluations.find(caller, wanted)
    return {"evaluations": [_row(one, request) for one in found], "total": total, "skip": skip, "limit": limit}


@router.get("/{evaluation_id}")
async def get(evaluation_id: str, hub: HubDep, caller: CallerDep, request: Request) -> dict[str, Any]:
    """All about it but its samples; `summary` is made of those."""
    return _told(await hub.evaluations.one(caller, evaluation_id), request)


@router.put("/{evaluation_id}")
async def describe(
    evaluation_id: str, body: DescribeBody, account: AccountDep, hub: HubDep, request: Request
) -> dict[str, Any]:
    """Describe it anew, before its samples are sent anew: those that are not are gone when it is finalised."""
    return _told(await hub.evaluations.describe(account, evaluation_id, body.description()), request)


@router.patch("/{evaluation_id}")
async def change(
    evaluation_id: str, body: ChangeBody, account: AccountDep, hub: HubDep, request: Request
) -> dict[str, Any]:
    """Change its name, tags or visibility; its samples stay."""
    return _told(await hub.evaluations.change(account, evaluation_id, body.description()), request)


@router.delete("/{evaluation_id}", status_code=204)
async def delete(evaluation_id: str, account: AccountDep, hub: HubDep) -> Response:
    """Delete it with all its samples."""
    await hub.evaluations.delete(account, evaluation_id)
    return Response(status_code=204)


@router.post("/{evaluation_id}/samples", openapi_extra=BATCH)
async def take(evaluation_id: str, request: Request, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Take a batch of samples, rows of results.jsonl. A sample that is sent again (by `example_id` and `rollout_index`)
    takes the place of the former; a request that is sent again changes nothing.
    """
    body = bytearray()
    async for chunk in body_chunks(request):
        body += chunk
    taken, total = await hub.evaluation_samples.take(account, evaluation_id, body)
    return {"evaluation_id": evaluation_id, "samples_pushed": taken, "total": total}


@router.get("/{evaluation_id}/samples")
async def samples(
    evaluation_id: str,
    hub: HubDep,
    caller: CallerDep,
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    sort: str = "example",
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "asc",
    outcome: Annotated[str | None, Query(max_length=20)] = None,
    error: Annotated[str | None, Query(max_length=100)] = None,
    example_id: Annotated[str | None, Query(max_length=200)] = None,
    summary: bool = False,
) -> Response:
    """A page of samples, as they were sent, or with `summary` what is told of each in a list."""
    listed = Listed(page, limit, sort, order == "desc", outcome, error, example_id)
    _, rows, total = await hub.evaluation_samples.rows(caller, evaluation_id, listed)
    if summary:
        found: Sequence[bytes] = [json.dumps(row_of(row)).encode() for row in rows]
    else:
        found = await hub.evaluation_samples.whole(rows)
    rest = json.dumps({"total": total, "page": page, "limit": limit})[1:].encode()
    return Stream(_joined(found, rest), media_type="application/json")


@router.get("/{evaluation_id}/samples/{sample_id}")
async def sample(evaluation_id: str, sample_id: str, hub: HubDep, caller: CallerDep) -> Response:
    """One sample, as it was sent."""
    _, _, found = await hub.evaluation_samples.one(caller, evaluation_id, sample_id)
    return Response(found, media_type="application/json")


@router.post("/{evaluation_id}/finalize")
async def finalize(
    evaluation_id: str, account: AccountDep, hub: HubDep, request: Request, body: FinalizeBody | None = None
) -> dict[str, Any]:
    """All samples are there: its summary is made, and who may see it sees it. May be repeated."""
    metrics = body.metrics if body is not None else None
    return _told(await hub.evaluations.finalize(account, evaluation_id, metrics), request)


async def _joined(found: Sequence[bytes], rest: bytes) -> AsyncIterator[bytes]:
    yield b'{"samples": ['
    for number, one in enumerate(found):
        yield (b", " if number else b"") + one
    yield b"], " + rest


def viewer_url(request: Request, evaluation_id: str) -> str:
    """Its page."""
    return f"{frontend_url(request)}/dashboard/evaluations/{quote(evaluation_id)}"


def _row(one: Shown, request: Request) -> dict[str, Any]:
    row = one.row
    return {
        "evaluation_id": row.id,
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "is_hosted": row.is_hosted,
        "is_public": row.visibility == "PUBLIC",
        "owner": {"name": row.owner.slug},
        "environment_names": [of.slug for of in one.environments],
        "environments": [_of(of) for of in one.environments],
        "model_name": row.model_name,
        "framework": row.framework,
        "task_type": row.task_type,
        "run_id": row.run_id,
        "tags": row.tags,
        "metadata": row.details,
        "metrics": row.metrics,
        "avg_reward": row.avg_reward,
        "total_samples": row.num_samples,
        "error_message": row.error_message,
        "viewer_url": viewer_url(request, row.id),
        "created_at": row.created_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
        "completed_at": row.finalized_at.isoformat() if row.finalized_at else None,
    }


def _told(one: Shown, request: Request) -> dict[str, Any]:
    return {**_row(one, request), "user": one.user, "round": one.row.round, "summary": one.row.summary}


def _of(of: Of) -> dict[str, Any]:
    return {"id": of.id, "owner": of.owner, "name": of.name, "version": of.version}


def row_of(row: EvaluationSample) -> dict[str, Any]:
    """What is told of a sample in a list."""
    return {
        "sample_id": row.id,
        "example_id": row.example_id,
        "place": row.place,
        **{
            name: getattr(row, name)
            for name in (
                *("rollout_index", "reward", "metrics", "error", "message", "stop_condition", "truncated", "turns"),
                *("input_tokens", "output_tokens", "cost", "seconds", "prompt", "completion", "answer"),
            )
        },
    }
