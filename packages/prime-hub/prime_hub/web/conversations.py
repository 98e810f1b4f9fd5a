"""A rollout's conversation as a page shows it. Everything in it is a stranger's: told as text, so much and no more.

Of a long text the beginning is shown and the rest is one step away; a page has room for so much of both, and says what it
leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prime_evals.conversations import Said, ToolCall, messages, told, tool_calls
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
    given = messages(sample)
    return Conversation([_message(one, room) for one in given[: ALL_MESSAGES if every else MESSAGES]], len(given))


def _message(said: Said, room: Room) -> Message:
    message, role = said.message, said.role
    thinking = message.get("reasoning_content") or message.get("reasoning")
    return Message(
        ROLES.get(role, role[:40] or "Message"),
        role if role in ROLES else "other",
        said.side,
        said.turn,
        [room.piece(text) for text in _texts(message.get("content"))],
        room.piece(told(thinking)) if thinking else None,
        [_call(call, room) for call in tool_calls(message)],
        str(message.get("name") or message.get("tool_call_id") or "")[:80] if role in ("tool", "function") else "",
        said.reward,
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


def _call(call: ToolCall, room: Room) -> Call:
    return Call(call.name[:120], room.piece("" if call.arguments is None else told(call.arguments)))
