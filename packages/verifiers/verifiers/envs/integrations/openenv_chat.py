"""Between chat and OpenEnv: observations become messages, replies become actions, tool observations become text.

No I/O in here. The renderer's contract and its sentences are those of the seed's "Prompt Renderer" pages.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from verifiers.openenv.errors import RendererError
from verifiers.types import Messages
from verifiers.utils.async_utils import maybe_await
from verifiers.utils.message_utils import normalize_message

CONTEXT = ("context", "action_schema", "contract", "seed")
NO_RENDERER = (
    "OpenEnvEnv requires `prompt_renderer`. Define a renderer in your environment module that converts observations to "
    "non-empty chat messages."
)
UNPARSEABLE = "Failed to parse action JSON. Provide a JSON object matching the action schema."
MAX_SCHEMA_CHARACTERS = 2000


class UnparseableAction(ValueError):
    """A reply that is no action; the text is for the model."""


class Renderer:
    """The author's `prompt_renderer(observation, *, context, action_schema, contract, seed)`, held to its contract.

    Only the keyword arguments that it takes are passed. Raises ValueError at once when it can never work, and
    RendererError when it raises or returns something that is not chat messages.
    """

    def __init__(self, function: Callable[..., Any] | None) -> None:
        if function is None:
            raise ValueError(NO_RENDERER)
        if not callable(function):
            raise ValueError(
                f"OpenEnvEnv requires `prompt_renderer` to be a function, not {type(function).__name__}: "
                "def render(observation, **kwargs) that returns chat messages."
            )
        self._function = function
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:  # builtins without a signature, str for one
            parameters = {"observation": inspect.Parameter("observation", inspect.Parameter.POSITIONAL_ONLY)}
        kinds = inspect.Parameter
        positional = [
            parameter
            for parameter in parameters.values()
            if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL)
        ]
        self._by_name = "observation" in parameters and parameters["observation"].kind is not kinds.POSITIONAL_ONLY
        first = positional[0].name if positional else None
        if not self._by_name and (first is None or first in CONTEXT):
            raise ValueError(
                "OpenEnvEnv `prompt_renderer` takes no observation: "
                "its first argument must be the observation, as in def render(observation, **kwargs)."
            )
        self._takes_all = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
        self._takes = tuple(name for name in CONTEXT if name in parameters)
        observation = "observation" if self._by_name else first
        unknown = [
            name
            for name, parameter in parameters.items()
            if name not in (observation, *CONTEXT)
            and parameter.default is kinds.empty
            and parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        ]
        if unknown:
            raise ValueError(
                f"OpenEnvEnv `prompt_renderer` requires {', '.join(f'`{name}`' for name in unknown)}, which it is not "
                f"given; besides the observation it may take {', '.join(CONTEXT)}, or **kwargs."
            )

    async def __call__(self, observation: Any, *, may_be_empty: bool = False, **context: Any) -> Messages:
        """The messages for one observation; `context` is all of CONTEXT."""
        where = context["context"]
        known = context if self._takes_all else {name: context[name] for name in self._takes}
        try:
            if self._by_name:
                rendered = await maybe_await(self._function(observation=observation, **known))
            else:
                rendered = await maybe_await(self._function(observation, **known))
        except Exception as error:
            raise RendererError(
                f"OpenEnv prompt_renderer raised {type(error).__name__} for {where}: {error}{_has(observation, error)}"
            ) from error
        return _checked(rendered, where, may_be_empty)


def _has(observation: Any, error: Exception) -> str:
    """What the observation holds, for a renderer that looked for something else."""
    if isinstance(error, KeyError) and isinstance(observation, Mapping):
        return f" (the observation has {', '.join(map(repr, observation)) or 'nothing'})"
    return ""


def _checked(rendered: Any, where: str, may_be_empty: bool) -> Messages:
    returned = "OpenEnv prompt_renderer returned"
    if not isinstance(rendered, list | tuple):
        raise RendererError(
            f"{returned} invalid output for {where}: expected a non-empty chat messages list. Got: {_short(rendered)}."
        )
    if not rendered and not may_be_empty:
        raise RendererError(f"{returned} an empty messages list for {where}.")
    messages = []
    for index, item in enumerate(rendered):
        if not isinstance(item, (dict, Mapping)) and not hasattr(item, "model_dump"):
            raise RendererError(f"{returned} unsupported message type for {where}: {type(item).__name__}.")
        try:
            message = normalize_message(item)
        except (TypeError, ValueError) as error:
            raise RendererError(f"{returned} a message that is none for {where} at index {index}: {error}") from error
        if message.get("content") is None and not message.get("tool_calls"):
            raise RendererError(f"{returned} a message with null content for {where} at index {index}.")
        messages.append(message)
    return messages


def parse_action(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The action in a model's reply.

    A JSON object, bare or in a code fence; else, where the schema has one required string field (or one field, a
    string), the whole text is that field. Raises: UnparseableAction, with the schema for the model to read.
    """
    text = text.strip()
    if text.startswith("{") and (action := _json_object(text)) is not None:
        return action
    fence = re.match(r"```[\w-]*", text)
    fenced = fence is not None and len(text) >= 6 and text.endswith("```")
    plain = text[fence.end() : -3].strip() if fence and fenced else text
    action = _json_object(plain)
    if action is None and not fenced:
        # A model may repeat one character for pages: no two neighbours here match the same one, or it takes minutes.
        blocks = re.findall(r"```[\w-]*[^\S\n]*\n(.*?)```", text, re.DOTALL)
        actions = [found for block in blocks if (found := _json_object(block))]
        action = actions[0] if len(actions) == 1 else None
    if action is not None:
        return action
    field = text_field(schema)
    if field is not None and plain:
        return {field: plain}
    shown = json.dumps(schema)
    if len(shown) > MAX_SCHEMA_CHARACTERS:
        raise UnparseableAction(UNPARSEABLE)
    raise UnparseableAction(f"{UNPARSEABLE} Action schema: {shown}")


def text_field(schema: Mapping[str, Any]) -> str | None:
    """The one string field that a bare text may stand for."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    required = [name for name in schema.get("required") or () if name in properties]
    candidates = required if required else list(properties)
    if len(candidates) != 1:
        return None
    field = properties[candidates[0]]
    return candidates[0] if isinstance(field, Mapping) and _is_string(field) else None


def _is_string(field: Mapping[str, Any]) -> bool:
    if field.get("type") == "string":
        return True
    values = field.get("enum")
    return field.get("type") is None and bool(values) and all(isinstance(value, str) for value in values)


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments of a tool call. Raises: UnparseableAction."""
    try:
        arguments = _read_json(text or "{}")
    except ValueError as error:
        raise UnparseableAction(f"The tool call's arguments are not valid JSON: {error}.") from error
    if not isinstance(arguments, dict):
        raise UnparseableAction("The tool call's arguments must be a JSON object.")
    return arguments


def _read_json(text: str) -> Any:
    """What a model has written as JSON, read strictly. Raises: ValueError; for NaN, infinities and endless nesting too,
    which Python would read but nobody can send.
    """
    try:
        return _STRICT.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = _read_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


_STRICT = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def tool_answer(observation: Any) -> tuple[str, list[dict[str, Any]]]:
    """What a tool's observation says to the model: the result's data, or the error, or the whole observation; and the
    pictures among it, as content parts for a user message, because a tool's message holds text only.
    """
    result = observation.get("result") if isinstance(observation, Mapping) else None
    parts = result.get("content") if isinstance(result, Mapping) and result.get("data") is None else None
    pictures = [_picture(part) for part in parts if _kind(part) == "image"] if isinstance(parts, list) else []
    return _tool_text(observation), pictures


def _picture(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("mimeType") or part.get("mime_type") or "image/png"
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{part.get('data', '')}"}}


def _kind(part: Any) -> str:
    return str(part.get("type", "")) if isinstance(part, Mapping) else ""


def _tool_text(observation: Any) -> str:
    if isinstance(observation, Mapping) and "tool_name" in observation and {"result", "error"} & observation.keys():
        error = observation.get("error")
        if error:
            return f"Error: {error.get('message') if isinstance(error, Mapping) else error}"
        result = observation.get("result")
        if isinstance(result, Mapping):
            text = _result_text(result)
            return f"Error: {text}" if result.get("is_error") or result.get("isError") else text
        return _text(result)
    return _text(observation)


def _result_text(result: Mapping[str, Any]) -> str:
    """A FastMCP CallToolResult: `data` where it has some, else its text parts."""
    if result.get("data") is not None:
        return _text(result["data"])
    parts = result.get("content")
    if isinstance(parts, list):
        texts = [_part_text(part) for part in parts]
        if any(texts):
            return "\n".join(text for text in texts if text)
    return _text(result)


def _part_text(part: Any) -> str:
    """A part of a tool's answer in words; bytes in it are named, not shown."""
    kind = _kind(part)
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if kind == "image":
        return "(image, shown below)"
    if kind in ("audio", "resource", "resource_link"):
        what = part.get("mimeType") or part.get("mime_type") or part.get("uri") or ""
        resource = part.get("resource")
        if isinstance(resource, Mapping):
            if isinstance(resource.get("text"), str):
                return resource["text"]
            what = resource.get("uri") or what
        return f"({kind.replace('_', ' ')} {what}, not shown)" if what else f"({kind.replace('_', ' ')}, not shown)"
    return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
