"""A rollout as text to read: what it was scored, the conversation with its tool calls, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prime_cli.browsing.text_view import Part
from prime_cli.browsing.words import seconds, thousands
from prime_evals.conversations import ToolCall, messages, told, tool_calls
from prime_evals.rendering import number

LONGEST_MESSAGE = 20_000
"""Characters of one message that are shown until all are asked for."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def parts_of(row: Mapping[str, Any], threshold: float = 0.5, everything: bool = False) -> list[Part]:
    """Parts of a row of results.jsonl, whoever wrote it. threshold: the reward from which on it has passed. everything: also
    messages of any length in full.
    """
    parts = [*_score(row, threshold), Part("")]
    names: dict[str, str] = {}
    for said in messages(row):
        message = said.message
        title = said.role or "?"
        if said.turn is not None:
            title = f"assistant · turn {said.turn}"
            if said.reward is not None:
                title += f" · reward {number(said.reward)}"
        calls = list(tool_calls(message))
        names.update({call.id: call.name for call in calls if call.id and call.name})
        asked = message.get("tool_call_id")
        if said.role == "tool" and (name := message.get("name") or names.get(str(asked), asked)):
            title = f"tool · {name}"
        parts.append(Part(f"── {title} ", _ROLES.get(said.role, "head")))
        parts += _said(message, calls, everything)
        parts.append(Part(""))
    return parts + _ending(row)


def raw(row: Mapping[str, Any]) -> list[Part]:
    """The row as it is recorded."""
    return [Part(told(row))]


def _score(row: Mapping[str, Any], threshold: float) -> list[Part]:
    reward = row.get("reward")
    head = f"example {row.get('example_id', '?')} · rollout {row.get('rollout_index', 0)}"
    scored = "not scored" if reward is None else f"reward {number(reward)}"
    parts = [Part(head, "head"), Part(scored, "bad" if reward is None else "good" if reward >= threshold else "plain")]
    metrics = row.get("metrics") or {}
    facts = [f"{name} {number(value)}" for name, value in metrics.items() if isinstance(value, int | float)]
    if stop := row.get("stop_condition"):
        facts.append(f"stopped by {stop}" + (", truncated" if row.get("is_truncated") else ""))
    timing = row.get("timing")
    if isinstance(timing, Mapping) and isinstance(total := timing.get("total"), int | float):
        facts.append(seconds(total))
    usage = row.get("token_usage") or {}
    if usage.get("input_tokens") or usage.get("output_tokens"):
        facts.append(
            f"{thousands(usage.get('input_tokens', 0))} tokens in, {thousands(usage.get('output_tokens', 0))} out"
        )
    if facts:
        parts.append(Part(" · ".join(facts), "dim"))
    error = row.get("error")
    if error:
        named = error if isinstance(error, Mapping) else {"message": str(error)}
        sentence = named.get("message") or named.get("error_chain_repr") or ""
        parts.append(Part(f"{named.get('error', 'Error')}: {sentence}", "bad"))
    for name, why in (row.get("reward_errors") or {}).items():
        parts.append(Part(f"{name} counted 0: {why}", "bad"))
    return parts


def _said(message: Mapping[str, Any], calls: Sequence[ToolCall], everything: bool) -> list[Part]:
    parts = []
    if reasoning := message.get("reasoning_content"):
        parts.append(Part(_cut(str(reasoning), everything), "dim", 2))
    for text, kind in _contents(message.get("content")):
        parts.append(Part(_cut(text, everything), kind, 2))
    for call in calls:
        parts += _call(call)
    return parts


def _contents(content: Any) -> list[tuple[str, str]]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [(content, "plain")]
    if not isinstance(content, Sequence):
        return [(told(content), "plain")]
    found = []
    for one in content:
        if isinstance(one, Mapping) and isinstance(one.get("text"), str):
            found.append((one["text"], "plain"))
        elif isinstance(one, Mapping) and "image" in str(one.get("type")):
            picture = one.get("image_url") or {}
            url = str(picture.get("url", "") if isinstance(picture, Mapping) else picture)
            size = f", {thousands(len(url))} characters" if url.startswith("data:") else f" {url}"
            found.append((f"[an image{size}]", "dim"))
        else:
            found.append((json.dumps(one, ensure_ascii=False), "dim"))
    return found


def _call(call: ToolCall) -> list[Part]:
    if not call.name:
        return [Part(told(call.arguments), "call", 2)]
    short = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    if len(short) <= 60:
        return [Part(f"→ {call.name}  {short}", "call", 2)]
    return [Part(f"→ {call.name}", "call", 2), Part(told(call.arguments), "call", 4)]


def _ending(row: Mapping[str, Any]) -> list[Part]:
    parts = []
    for name in ("answer", "info"):
        if value := row.get(name):
            parts += [Part(f"── {name} ", "head"), Part(_cut(told(value), False), "dim", 2), Part("")]
    return parts


def _cut(text: str, everything: bool) -> str:
    if everything or len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}\n… {thousands(len(text) - LONGEST_MESSAGE)} more characters: a shows all"
