"""Anthropic Messages. Needs the `anthropic` package: `verifiers[anthropic]`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from verifiers.clients.config import ClientConfig
from verifiers.clients.content import arguments_object, data_url, image, parts
from verifiers.clients.sdk_client import SDKClient, plain, sampling
from verifiers.errors import EmptyModelResponseError, ModelError, UnreadableResponseError
from verifiers.types import AssistantMessage, Message, Messages, Response, Tool, ToolCall, Usage
from verifiers.utils.message_utils import content_text

DEFAULT_MAX_TOKENS = 8192
"""The API wants a limit; this is it where the sampling arguments have none, besides a budget for thinking."""
NOT_INSTALLED = (
    "The Anthropic Messages API needs the anthropic package, an extra of verifiers: uv pip install 'anthropic>=2,<3'"
)
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_THINKING = frozenset({"thinking", "redacted_thinking"})


class AnthropicMessagesClient(SDKClient):
    """Takes a ClientConfig or an `anthropic.AsyncAnthropic`.

    System messages at the beginning become `system`; one further on stays where it is, in the user's turn. Messages of
    one side are joined into one turn, results of tools first. An answer with thinking is kept whole in the message's
    `native_content` (signatures and all) and given back word for word. Sampling arguments of chat completions are
    translated: max_tokens (DEFAULT_MAX_TOKENS where there is none), stop, tool_choice, parallel_tool_calls,
    reasoning_effort, response_format with a JSON Schema.
    """

    CLIENT_TYPE = "anthropic_messages"
    PATH = "/v1/messages"
    CREATE = "messages.create"
    ANSWER = "a message"

    @staticmethod
    def sdk() -> Any:
        import anthropic

        return anthropic

    def setup_client(self, client_or_config: Any) -> Any:
        # Here and not with the first request: what is not installed fails every rollout.
        if find_spec("anthropic") is None:
            raise ImportError(NOT_INSTALLED)
        return super().setup_client(client_or_config)

    def open_native(self, config: ClientConfig, http_client: Any) -> Any:
        anthropic = self.sdk()
        return anthropic.AsyncAnthropic(
            api_key=config.api_key(),
            base_url=config.api_base_url.rstrip("/").removesuffix("/v1"),
            timeout=anthropic.Timeout(config.timeout, connect=config.connect_timeout),
            max_retries=0,
            default_headers=config.headers(),
            http_client=http_client,
        )

    def answer_class(self) -> type:
        return self.sdk().types.Message

    async def to_native_tool(self, tool: Tool) -> dict[str, Any]:
        native = {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        return {**native, "strict": True} if tool.strict else native

    async def to_native_prompt(self, messages: Messages) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        first = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
        system = [block for message in messages[:first] for block in _blocks(message.get("content"))]
        turns: list[dict[str, Any]] = []
        for message in messages[first:]:
            role = "assistant" if message["role"] == "assistant" else "user"
            blocks = _turn(message)
            if not blocks:
                continue
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
        for turn in turns:
            if turn["role"] == "user":
                turn["content"].sort(key=lambda block: block.get("type") != "tool_result")
        if not system:
            return turns, {}
        one = len(system) == 1 and set(system[0]) == {"type", "text"}
        return turns, {"system": system[0]["text"] if one else system}

    async def get_native_response(
        self,
        prompt: Any,
        model: str,
        sampling_args: Mapping[str, Any],
        tools: list[Any] | None,
        state: Any = None,
        **extra: Any,
    ) -> Any:
        arguments = _translated(sampling(sampling_args))
        if tools:
            arguments["tools"] = tools
        return await self.send({"model": model, "messages": prompt, **extra, **arguments}, state)

    async def raise_from_native_response(self, response: Any) -> None:
        if response is None:
            raise UnreadableResponseError("Model returned no response")
        if getattr(response, "content", None) is None:
            raise self.unreadable(response)
        if not any(_says(block) for block in response.content or ()):
            raise EmptyModelResponseError("Model returned no content, reasoning, and did not call any tools")

    async def from_native_response(self, response: Any) -> Response:
        blocks = response.content
        message = AssistantMessage(
            "".join(block.text for block in blocks if block.type == "text") or None,
            tool_calls=[
                ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))
                for block in blocks
                if block.type == "tool_use"
            ],
            reasoning_content="\n\n".join(b.thinking for b in blocks if b.type == "thinking" and b.thinking) or None,
        )
        if any(block.type in _THINKING for block in blocks):
            message["native_content"] = [plain(block) for block in blocks]
        finish = _FINISH.get(response.stop_reason, response.stop_reason)
        return Response(
            message=message,
            usage=_usage(response.usage),
            finish_reason=finish,
            is_truncated=finish == "length",
            id=response.id or "",
            model=response.model or "",
        )


def _turn(message: Message) -> list[dict[str, Any]]:
    if message["role"] == "assistant":
        return _said(message)
    if message["role"] != "tool":
        return _blocks(message.get("content"))
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.get("tool_call_id") or ""}
    content = message.get("content")
    shown: Any = _blocks(content) if isinstance(content, list) else content_text(content)
    return [{**result, "content": shown} if shown else result]


def _said(message: Message) -> list[dict[str, Any]]:
    calls = message.get("tool_calls") or []
    kept = message.get("native_content") or []
    text = content_text(message.get("content"))
    if any(block.get("type") in _THINKING for block in kept) and _same(kept, text, calls):
        return [dict(block) for block in kept]
    # The API refuses a text block of white space alone.
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text.strip() else []
    return blocks + [
        {"type": "tool_use", "id": call["id"], "name": call["name"], "input": arguments_object(call["arguments"])}
        for call in calls
    ]


def _same(kept: list[Any], text: str, calls: list[Any]) -> bool:
    """Whether the kept blocks still say what the message says; an environment may have changed it."""
    said = "".join(block.get("text", "") for block in kept if block.get("type") == "text")
    called = [block.get("id") for block in kept if block.get("type") == "tool_use"]
    return said == text and called == [call["id"] for call in calls]


def _blocks(content: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in parts(content):
        kind = part.get("type")
        if kind == "text" and not str(part.get("text") or "").strip():
            continue
        if kind == "image_url":
            found.append({"type": "image", "source": _source(image(part)[0])})
        elif kind == "input_audio":
            raise ModelError(
                "The Anthropic Messages API takes no audio, and the prompt has a part of type 'input_audio'."
            )
        else:  # text is the same in both, and what is written for this API stays as it is
            found.append(dict(part))
    return found


def _source(url: str) -> dict[str, str]:
    if (data := data_url(url)) is not None:
        return {"type": "base64", "media_type": data[0], "data": data[1]}
    return {"type": "url", "url": url}


def _translated(arguments: dict[str, Any]) -> dict[str, Any]:
    if "max_completion_tokens" in arguments:
        arguments.setdefault("max_tokens", arguments.pop("max_completion_tokens"))
    thinking = arguments.get("thinking") or (arguments.get("extra_body") or {}).get("thinking") or {}
    arguments.setdefault("max_tokens", DEFAULT_MAX_TOKENS + (thinking.get("budget_tokens") or 0))
    if arguments.get("n") == 1:
        del arguments["n"]
    if "stop" in arguments:
        stop = arguments.pop("stop")
        arguments.setdefault("stop_sequences", [stop] if isinstance(stop, str) else stop)
    output = dict(arguments.get("output_config") or {})
    if "reasoning_effort" in arguments:
        output.setdefault("effort", arguments.pop("reasoning_effort"))
    shape = arguments.get("response_format") or {}
    if shape.get("type") == "json_schema":
        del arguments["response_format"]
        output.setdefault("format", {"type": "json_schema", "schema": shape["json_schema"]["schema"]})
    if output:
        arguments["output_config"] = output
    choice = arguments.get("tool_choice")
    if isinstance(choice, str):
        arguments["tool_choice"] = {"type": "any" if choice == "required" else choice}
    elif isinstance(choice, Mapping) and "function" in choice:
        arguments["tool_choice"] = {"type": "tool", "name": choice["function"]["name"]}
    if "parallel_tool_calls" in arguments:
        one = {"disable_parallel_tool_use": not arguments.pop("parallel_tool_calls")}
        arguments["tool_choice"] = {"type": "auto", **one, **arguments.get("tool_choice", {})}
    return arguments


def _says(block: Any) -> bool:
    if block.type == "text":
        return bool(block.text)
    return block.type in ("tool_use", *_THINKING)


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    cached = getattr(usage, "cache_read_input_tokens", None) or 0
    # `input_tokens` counts only what was neither read from the cache nor written to it.
    prompt = (usage.input_tokens or 0) + cached + (getattr(usage, "cache_creation_input_tokens", None) or 0)
    details = getattr(usage, "output_tokens_details", None)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=usage.output_tokens or 0,
        reasoning_tokens=getattr(details, "thinking_tokens", None) or 0,
        total_tokens=prompt + (usage.output_tokens or 0),
        cached_tokens=cached,
    )
