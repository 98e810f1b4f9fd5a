"""A rollout's conversation as a page shows it. Everything in it is a stranger's: told as text, so much and no more.

Of a long text the beginning is shown and the rest is one step away; a page has room for so much of both, and says what it
leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prime_evals.estimates import number
from prime_hub.web.shown import plain

BEGINNING = 3_000
"""Characters of one text that are shown at once."""
ROOM = 400_000
"""Characters of a page."""
MESSAGES = 200
ALL_MESSAGES = 2_000
ROLES = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Model",
    "tool": "Tool",
    "function": "Tool",
}


@dataclass(frozen=True)
class Piece:
    """A text: its beginning, what is one step away, and how many characters are on no page."""

    text: str
    rest: str = ""
    missing: int = 0


@dataclass(frozen=True)
class Call:
    """A tool call as the model made it."""

    name: str
    arguments: Piece


@dataclass(frozen=True)
class Message:
    """One message. `side`: `prompt` or `completion`; `turn` counts the model's replies from 1."""

    role: str
    kind: str
    side: str
    turn: int | None
    pieces: Sequence[Piece]
    thinking: Piece | None = None
    calls: Sequence[Call] = field(default_factory=tuple)
    about: str = ""
    """Which call a tool answers."""
    reward: float | None = None


@dataclass(frozen=True)
class Conversation:
    """The messages that are shown, and how many there are."""

    messages: Sequence[Message]
    total: int


class Room:
    """What is left of a page."""

    def __init__(self, characters: int = ROOM) -> None:
        self.left = characters

    def piece(self, text: str) -> Piece:
        """As much of a text as there is room for."""
        shown = text[: self.left]
        self.left -= len(shown)
        missing = len(text) - len(shown)
        shown = plain(shown)
        return Piece(shown[:BEGINNING], shown[BEGINNING:], missing)


def conversation(sample: Mapping[str, Any], room: Room, *, every: bool) -> Conversation:
    """The prompt's and the completion's messages, with rewards of turns where the sample has them."""
    given = [("prompt", one) for one in _messages(sample.get("prompt"), "user")]
    given += [("completion", one) for one in _messages(sample.get("completion"), "assistant")]
    rewards = turn_rewards(sample)
    found: list[Message] = []
    turn = 0
    for side, message in given[: ALL_MESSAGES if every else MESSAGES]:
        role = str(message.get("role") or "")
        turn += side == "completion" and role == "assistant"
        mine = side == "completion" and role == "assistant"
        reward = rewards[turn - 1] if mine and turn <= len(rewards) else None
        found.append(_message(message, role, side, turn if mine else None, reward, room))
    return Conversation(found, len(given))


def turn_rewards(sample: Mapping[str, Any]) -> list[float | None]:
    """The reward of each turn: `turn_rewards`, or those of the trajectory's steps; empty where there is none."""
    found, steps = sample.get("turn_rewards"), sample.get("trajectory")
    if not isinstance(found, list):
        steps = steps if isinstance(steps, list) else []
        found = [step.get("reward") if isinstance(step, Mapping) else None for step in steps]
    plain_ones = [number(one) for one in found]
    return plain_ones if any(one is not None for one in plain_ones) else []


def _messages(given: Any, role: str) -> list[Mapping[str, Any]]:
    if isinstance(given, str):
        return [{"role": role, "content": given}]
    found = given if isinstance(given, list) else [] if given is None else [given]
    return [one if isinstance(one, Mapping) else {"role": role, "content": told(one)} for one in found]


def _message(
    message: Mapping[str, Any], role: str, side: str, turn: int | None, reward: float | None, room: Room
) -> Message:
    thinking = message.get("reasoning_content") or message.get("reasoning")
    texts = [room.piece(text) for text in _texts(message.get("content"))]
    return Message(
        ROLES.get(role, role[:40] or "Message"),
        role if role in ROLES else "other",
        side,
        turn,
        texts,
        room.piece(told(thinking)) if thinking else None,
        [_call(call, room) for call in _calls(message.get("tool_calls"))],
        str(message.get("name") or message.get("tool_call_id") or "")[:80] if role in ("tool", "function") else "",
        reward,
    )


def _texts(content: Any) -> Iterator[str]:
    if content is None or content == "":
        return
    if not isinstance(content, list):
        yield told(content)
        return
    for part in content:
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield part["text"]
        elif isinstance(part, Mapping) and "type" in part and part["type"] != "text":
            # A picture or a sound may be megabytes, and would not be what it says to a reader.
            yield f"[{str(part['type'])[:40]}, {len(json.dumps(part)):,} characters of JSON]"
        else:
            yield told(part)


def _calls(given: Any) -> list[Mapping[str, Any]]:
    """Calls as the result files hold them (JSON text), or as the APIs give them (`function` around), or plain."""
    found: list[Mapping[str, Any]] = []
    for one in given if isinstance(given, list) else ():
        call = one
        if isinstance(call, str):
            try:
                call = json.loads(call)
            except (ValueError, RecursionError):
                call = {"name": "", "arguments": one}
        if isinstance(call, Mapping):
            inner = call.get("function")
            found.append(inner if isinstance(inner, Mapping) else call)
    return found


def _call(call: Mapping[str, Any], room: Room) -> Call:
    arguments = call.get("arguments", call.get("input"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return Call(str(call.get("name") or "")[:120], room.piece(arguments))
    return Call(str(call.get("name") or "")[:120], room.piece("" if arguments is None else told(arguments)))


def told(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
