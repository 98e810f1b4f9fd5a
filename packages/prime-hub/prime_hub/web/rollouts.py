"""One rollout of an evaluation: its conversation, its rewards, and all of it as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from prime_evals.conversations import told, turn_rewards
from prime_hub.web.conversations import Room, conversation
from prime_hub.web.evaluations import EVALUATIONS, ShelfDep, row_of
from prime_hub.web.render import page

router = APIRouter(include_in_schema=False)
ROLLOUT = f"{EVALUATIONS}/{{evaluation_id}}/rollouts/{{sample_id}}"
RAW_CHARACTERS = 100_000
"""Of the JSON on the page; its own address has all."""
ERROR_CHARACTERS = 20_000


@router.get(ROLLOUT)
async def rollout_page(
    evaluation_id: str, sample_id: str, request: Request, shelf: ShelfDep, every: bool = False
) -> Response:
    """A rollout: what was said, what it was given for it. `every`: also what comes after the first 200 messages."""
    one = await shelf.one(evaluation_id)
    opened = await shelf.rollout(evaluation_id, sample_id)
    href = f"{EVALUATIONS}/{one.id}"
    values = await asyncio.to_thread(rollout_values, opened.data, every)
    return page(
        request,
        "rollout.html",
        one=row_of(one),
        href=href,
        here=_address(href, opened.row.id),
        row=opened.row,
        before=_address(href, opened.before) if opened.before is not None else None,
        after=_address(href, opened.after) if opened.after is not None else None,
        **values,
    )


def _address(href: str, rollout_id: str) -> str:
    return f"{href}/rollouts/{rollout_id}"


def rollout_values(data: bytes, every: bool) -> dict[str, Any]:
    """What a rollout's page tells, from its JSON."""
    sample: dict[str, Any] = json.loads(data)
    room = Room()
    found = conversation(sample, room, every=every)
    usage, timing = sample.get("token_usage"), sample.get("timing")
    error = sample.get("error")
    text = json.dumps(sample, ensure_ascii=False, indent=2)
    return {
        "conversation": found,
        "every": every,
        "rewards": turn_rewards(sample),
        "answer": Room(10_000).piece(told(sample["answer"])) if sample.get("answer") else None,
        "tools": _tools(sample.get("tool_defs")),
        "usage": _numbers(usage),
        "timing": _numbers(timing),
        "failures": _failures(sample.get("reward_errors")),
        "error": Room(ERROR_CHARACTERS).piece(error_text(error)) if error else None,
        "raw_text": Room(RAW_CHARACTERS).piece(text),
        "size": len(data),
    }


def _numbers(given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        return {}
    return {
        str(name)[:60]: value
        for name, value in list(given.items())[:30]
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "start_time"
    }


def _failures(given: Any) -> list[tuple[str, str]]:
    """Reward functions that failed, with why."""
    found = given.items() if isinstance(given, Mapping) else ()
    return [(str(name)[:80], told(why)[:1000]) for name, why in list(found)[:50]]


def error_text(error: Any) -> str:
    """An error as a row of results.jsonl has it, with its causes."""
    if not isinstance(error, Mapping):
        return told(error)
    words = [error.get("message"), error.get("error_chain_repr")]
    return "\n\n".join(dict.fromkeys(told(word) for word in words if word)) or told(error)


def _tools(given: Any) -> list[str]:
    names = []
    for one in given if isinstance(given, list) else ():
        tool = one.get("function", one) if isinstance(one, Mapping) else None
        if isinstance(tool, Mapping) and tool.get("name"):
            names.append(str(tool["name"])[:80])
    return names[:100]


@router.get(f"{ROLLOUT}/raw")
async def raw(evaluation_id: str, sample_id: str, shelf: ShelfDep) -> Response:
    """All of it, as plain text that no browser takes for anything else."""
    data = (await shelf.rollout(evaluation_id, sample_id)).data
    kept = {"Cache-Control": "private, no-store", "Vary": "Authorization, Cookie"}
    return Response(data, media_type="text/plain; charset=utf-8", headers=kept)
