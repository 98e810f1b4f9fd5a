"""Turning whatever an author returns into messages of ours."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from verifiers.types import (
    AssistantMessage,
    Message,
    Messages,
    ResponseMessage,
    SystemMessage,
    TextMessage,
    Tool,
    ToolMessage,
    UserMessage,
)
from verifiers.utils.conversation import Conversation

_CLASSES: dict[str, type[Message]] = {
    cls.ROLE: cls for cls in (SystemMessage, UserMessage, AssistantMessage, ToolMessage, TextMessage)
}
_OURS = frozenset((*_CLASSES.values(), Message, ResponseMessage))


def normalize_message(message: Any) -> Message:
    """One message from a message, a mapping with `role`, or an object that dumps to one.

    Raises TypeError or ValueError with a sentence when it is neither.
    """
    if isinstance(message, Message):
        return message
    if not isinstance(message, dict) and not isinstance(message, Mapping):
        if not hasattr(message, "model_dump"):
            raise TypeError(
                f"Expected a chat message (a dict with role and content), got {type(message).__name__}: {message!r}."
            )
        message = message.model_dump(exclude_none=True)
    role = message.get("role")
    if not role:
        raise ValueError(f"A chat message needs a role; this one has the keys {sorted(message)}.")
    cls = _CLASSES.get(role, Message)
    return cls(**{str(key): value for key, value in message.items()})


def normalize_messages(messages: Any, *, field_name: str = "messages") -> Messages:
    """A list of messages from a string (one user message), one message, or a list of any of the accepted shapes.

    field_name: what they are called in an error. Raises TypeError or ValueError with a sentence.
    """
    if messages is None:
        return []
    if isinstance(messages, str):
        return [UserMessage(messages)]
    if isinstance(messages, Mapping):
        return [normalize_message(messages)]
    if type(messages) is Conversation:
        new = islice(messages, messages.checked, None)
        if messages.checked >= len(messages) or _OURS.issuperset(map(type, new)):
            return Conversation(messages, len(messages))
    elif type(messages) is list and _OURS.issuperset(map(type, messages)):
        return Conversation(messages, len(messages))
    try:
        found = [normalize_message(message) for message in messages]
        return Conversation(found, len(found))
    except (TypeError, ValueError) as error:
        if field_name == "messages":
            raise
        raise type(error)(f"{field_name}: {error}") from None


def content_text(content: Any) -> str:
    """The text of a message's content: the string itself, or the text parts of a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return str(content)


def last_text(messages: Messages, role: str) -> str:
    """The text of the last message with `role`, or an empty string."""
    for message in reversed(messages):
        if message.get("role") == role:
            return content_text(message.get("content"))
    return ""


def normalize_tool(tool: Any) -> Tool:
    """A Tool from one of ours, the OpenAI function shape, or an MCP tool description (`inputSchema`)."""
    if isinstance(tool, Tool):
        return tool
    if not isinstance(tool, Mapping):
        if not hasattr(tool, "model_dump"):
            raise TypeError(f"Expected a tool definition (a dict or vf.Tool), got {type(tool).__name__}.")
        tool = tool.model_dump()
    shape = tool.get("function") if isinstance(tool.get("function"), Mapping) else tool
    if not shape.get("name"):
        raise ValueError(f"A tool definition needs a name; this one has the keys {sorted(shape)}.")
    parameters = shape.get("parameters") or shape.get("inputSchema") or shape.get("input_schema")
    return Tool(shape["name"], shape.get("description") or "", parameters, shape.get("strict"))
