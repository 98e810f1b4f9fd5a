"""The messages of a row of results.jsonl, whoever wrote it: which turn each is, what it was rewarded, which tools it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prime_evals.estimates import number


@dataclass(frozen=True, slots=True)
class Said:
    """One message. `side`: `prompt` or `completion`. `turn` counts the model's replies from 1, None for other messages;
    `reward`: of that turn, where it has one.
    """

    message: Mapping[str, Any]
    role: str
    side: str
    turn: int | None = None
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as the model made it. `arguments`: decoded, or the text that is no JSON."""

    name: str
    arguments: Any
    id: str = ""


def messages(row: Mapping[str, Any]) -> list[Said]:
    """The prompt's and the completion's messages; a text that stands there alone is one of the user, or of the model."""
    rewards = turn_rewards(row)
    found: list[Said] = []
    turn = 0
    for side, usual in (("prompt", "user"), ("completion", "assistant")):
        for message in _list(row.get(side), usual):
            role = str(message.get("role") or "")
            if side == "prompt" or role != "assistant":
                found.append(Said(message, role, side))
                continue
            turn += 1
            found.append(Said(message, role, side, turn, rewards[turn - 1] if turn <= len(rewards) else None))
    return found


def turn_rewards(row: Mapping[str, Any]) -> list[float | None]:
    """The reward of each turn: `turn_rewards`, or those of the trajectory's steps; empty where there is none."""
    found, steps = row.get("turn_rewards"), row.get("trajectory")
    if not isinstance(found, list):
        steps = steps if isinstance(steps, list) else []
        found = [step.get("reward") if isinstance(step, Mapping) else None for step in steps]
    rewards = [number(one) for one in found]
    return rewards if any(one is not None for one in rewards) else []


def tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    """Its calls, as the result files hold them (JSON text), as the APIs give them (`function` around them), or plain."""
    given = message.get("tool_calls")
    for one in given if isinstance(given, list) else ():
        call = _decoded(one)
        if not isinstance(call, Mapping):
            if isinstance(one, str):
                yield ToolCall("", one)
            continue
        inner = call.get("function")
        function = inner if isinstance(inner, Mapping) else call
        named = call.get("id")
        yield ToolCall(
            str(function.get("name") or ""),
            _decoded(function.get("arguments", function.get("input"))),
            named if isinstance(named, str) else "",
        )


def told(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _decoded(value: Any) -> Any:
    """What a text that is JSON says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _list(given: Any, role: str) -> list[Mapping[str, Any]]:
    if isinstance(given, str):
        return [{"role": role, "content": given}] if given else []
    found = given if isinstance(given, list) else [] if given is None else [given]
    return [one if isinstance(one, Mapping) else {"role": role, "content": told(one)} for one in found]
