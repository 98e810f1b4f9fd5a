"""Evaluations that the Hub runs itself: asked for, their logs, their end (hub.md §5). What comes of them: `/evaluations/ID`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from prime_hub.api.asked import Asked as AskedBody
from prime_hub.api.deps import API, AccountDep, CallerDep, HubDep, TokenDep
from prime_hub.api.evaluations import viewer_url
from prime_hub.errors import Forbidden
from prime_hub.services.hosted_evaluations import Asked
from prime_hub.services.scopes import allows

router = APIRouter(prefix=f"{API}/hosted-evaluations", tags=["evaluations"])
DEFAULT_MODEL = "openai/gpt-4.1-mini"


class RunBody(AskedBody):
    """What to run: the newest version of each environment, with a model that this Hub's operator has named, or a baseline."""

    environment_ids: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=100)]
    inference_model: Annotated[str, Field(min_length=1, max_length=255)] = DEFAULT_MODEL
    eval_config: dict[str, Any] = Field(default_factory=dict)
    name: Annotated[str | None, Field(max_length=255)] = None
    team_id: Annotated[str | None, Field(max_length=80)] = None
    is_public: bool = False


@router.post("")
async def begin(body: RunBody, account: AccountDep, token: TokenDep, hub: HubDep, request: Request) -> dict[str, Any]:
    """Have evaluations run in sandboxes of the Hub, one an environment."""
    if token is not None and not allows(token.token.scopes, "environments", "write"):
        raise Forbidden(
            "This API key may not do that: a run is given its environment's secrets, which takes environments:write."
        )
    asked = Asked(body.environment_ids, body.inference_model, body.eval_config, body.name, body.team_id, body.is_public)
    made = await hub.hosted_evaluations.ask(account, asked)
    ids = [one.row.id for one in made]
    return {
        "evaluation_id": ids[0],
        "evaluation_ids": ids,
        "status": made[0].row.status,
        "name": made[0].row.name,
        "model_name": made[0].row.model_name,
        "metadata": made[0].row.details,
        "is_public": made[0].row.visibility == "PUBLIC",
        "viewer_url": viewer_url(request, ids[0]),
    }


@router.get("/{evaluation_id}/logs")
async def logs(evaluation_id: str, caller: CallerDep, hub: HubDep) -> dict[str, str]:
    """What the run has said, all that is kept of it."""
    return {"logs": await hub.hosted_evaluations.logs(caller, evaluation_id)}


@router.patch("/{evaluation_id}/cancel")
async def cancel(evaluation_id: str, account: AccountDep, hub: HubDep) -> dict[str, str]:
    """Have it end; what is being played is finished and kept. May be repeated."""
    message = await hub.hosted_evaluations.cancel(account, evaluation_id)
    return {"evaluation_id": evaluation_id, "message": message}
