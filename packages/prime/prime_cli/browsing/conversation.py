"""A rollout as text to read: what it was scored, the conversation with its tool calls, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prime_cli.browsing.text_view import Part
from prime_cli.browsing.words import number, seconds, thousands

LONGEST_MESSAGE = 20_000
"""Characters of one message that are shown until all are asked for."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def parts_of(row: Mapping[str, Any], threshold: float = 0.5, everything: bool = False) -> list[Part]:
    """Parts of a row of results.jsonl, whoever wrote it. threshold: the reward from which on it has passed. everything: also
    messages of any length in full.
    """
    parts = [*_score(row, threshold), Part("")]
    told = row.get("turn_rewards")
    rewards = told if isinstance(told, list) else []
    names: dict[Any, str] = {}
    turn = 0
    for side in ("prompt", "completion"):
        for message in _messages(row.get(side)):
            role = str(message.get("role") or "?")
            title = role
            if side == "completion" and role == "assistant":
                turn += 1
                title = f"assistant · turn {turn}"
                if turn <= len(rewards) and rewards[turn - 1] is not None:
                    title += f" · reward {number(rewards[turn - 1])}"
            for call in message.get("tool_calls") or ():
                names.update(_named(call))
            asked = message.get("tool_call_id")
            if role == "tool" and (name := message.get("name") or names.get(asked, asked)):
                title = f"tool · {name}"
            parts.append(Part(f"── {title} ", _ROLES.get(role, "head")))
            parts += _said(message, everything)
            parts.append(Part(""))
    return parts + _ending(row)


def raw(row: Mapping[str, Any]) -> list[Part]:
    """The row as it is recorded."""
    return [Part(json.dumps(row, ensure_ascii=False, indent=2))]


def _messages(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        return [{"role": "text", "content": value}] if value else []
    return [one if isinstance(one, Mapping) else {"role": "?", "content": str(one)} for one in value or ()]


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
        told = error if isinstance(error, Mapping) else {"message": str(error)}
        sentence = told.get("message") or told.get("error_chain_repr") or ""
        parts.append(Part(f"{told.get('error', 'Error')}: {sentence}", "bad"))
    for name, why in (row.get("reward_errors") or {}).items():
        parts.append(Part(f"{name} counted 0: {why}", "bad"))
    return parts


def _said(message: Mapping[str, Any], everything: bool) -> list[Part]:
    parts = []
    if reasoning := message.get("reasoning_content"):
        parts.append(Part(_cut(str(reasoning), everything), "dim", 2))
    for text, kind in _contents(message.get("content")):
        parts.append(Part(_cut(text, everything), kind, 2))
    for call in message.get("tool_calls") or ():
        parts += _call(call)
    return parts


def _contents(content: Any) -> list[tuple[str, str]]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [(content, "plain")]
    if not isinstance(content, Sequence):
        return [(json.dumps(content, ensure_ascii=False, indent=2), "plain")]
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


def _read(call: Any) -> Mapping[str, Any] | None:
    """A tool call, which the result files hold as JSON text."""
    if isinstance(call, str):
        try:
            call = json.loads(call)
        except ValueError:
            return None
    return call if isinstance(call, Mapping) else None


def _named(call: Any) -> dict[Any, str]:
    read = _read(call) or {}
    inner = read.get("function")
    name = (inner if isinstance(inner, Mapping) else read).get("name")
    return {read["id"]: str(name)} if name and isinstance(read.get("id"), str) else {}


def _call(call: Any) -> list[Part]:
    read = _read(call)
    if read is None:
        return [Part(str(call), "call", 2)]
    inner = read.get("function")
    function = inner if isinstance(inner, Mapping) else read
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return [Part(f"→ {function.get('name')}  {arguments}", "call", 2)]
    short = json.dumps(arguments, ensure_ascii=False)
    if len(short) <= 60:
        return [Part(f"→ {function.get('name')}  {short}", "call", 2)]
    return [
        Part(f"→ {function.get('name')}", "call", 2),
        Part(json.dumps(arguments, ensure_ascii=False, indent=2), "call", 4),
    ]


def _ending(row: Mapping[str, Any]) -> list[Part]:
    parts = []
    for name in ("answer", "info"):
        if value := row.get(name):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
            parts += [Part(f"── {name} ", "head"), Part(_cut(text, False), "dim", 2), Part("")]
    return parts


def _cut(text: str, everything: bool) -> str:
    if everything or len(text) <= LONGEST_MESSAGE:
        return text
    return f"{text[:LONGEST_MESSAGE]}\n… {thousands(len(text) - LONGEST_MESSAGE)} more characters: a shows all"
