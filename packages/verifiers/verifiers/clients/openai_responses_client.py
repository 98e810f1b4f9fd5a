"""OpenAI Responses: input items instead of messages, and reasoning that is given back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verifiers.clients.content import image, parts
from verifiers.clients.openai_client import OpenAIClient
from verifiers.clients.sdk_client import plain, sampling
from verifiers.errors import EmptyModelResponseError, UnreadableResponseError
from verifiers.types import AssistantMessage, Message, Messages, Response, Tool, ToolCall, Usage
from verifiers.utils.message_utils import content_text


class OpenAIResponsesClient(OpenAIClient):
    """Takes a ClientConfig or an `openai.AsyncOpenAI`.

    An answer with reasoning items is kept whole in the message's `native_content` and given back word for word with the
    conversation. The server finds them by their ids; with the sampling argument `store` false it keeps nothing, so
    then the encrypted reasoning is asked for (where `reasoning` is asked for) and given back, and items without it are
    left out. Sampling arguments of chat completions are translated: max_tokens, reasoning_effort, response_format,
    tool_choice.
    """

    CLIENT_TYPE = "openai_responses"
    PATH = "/responses"
    CREATE = "responses.create"
    ANSWER = "a response"

    def answer_class(self) -> type:
        from openai.types.responses import Response as NativeResponse

        return NativeResponse

    async def to_native_tool(self, tool: Tool) -> dict[str, Any]:
        # Strict is what this API does unless told otherwise, chat completions the opposite.
        return {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": bool(tool.strict),
        }

    async def to_native_prompt(self, messages: Messages) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return [item for message in messages for item in _items(message)], {}

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
        if arguments.get("store") is False:
            prompt = [item for item in prompt if item.get("type") != "reasoning" or item.get("encrypted_content")]
            if "reasoning" in arguments:
                arguments.setdefault("include", ["reasoning.encrypted_content"])
        if tools:
            arguments["tools"] = tools
        return await self.send({"model": model, "input": prompt, **extra, **arguments}, state)

    async def raise_from_native_response(self, response: Any) -> None:
        if response is None:
            raise UnreadableResponseError("Model returned no response")
        if getattr(response, "output", None) is None:
            raise self.unreadable(response)
        if not any(_says(item) for item in response.output or ()):
            raise EmptyModelResponseError("Model returned no content, reasoning, and did not call any tools")

    async def from_native_response(self, response: Any) -> Response:
        texts, refusals, thoughts, calls = [], [], [], []
        for item in response.output:
            if item.type == "message":
                texts += [part.text for part in item.content if part.type == "output_text"]
                refusals += [part.refusal for part in item.content if part.type == "refusal"]
            elif item.type == "reasoning":
                thoughts += _thoughts(item)
            elif item.type == "function_call":
                calls.append(ToolCall(id=item.call_id, name=item.name, arguments=item.arguments or "{}"))
        refusal = "".join(refusals) or None
        message = AssistantMessage(
            "".join(texts) or refusal,
            tool_calls=calls,
            reasoning_content="\n\n".join(thoughts) or None,
            refusal=refusal,
        )
        if any(item.type == "reasoning" for item in response.output):
            message["native_content"] = [plain(item) for item in response.output]
        why = getattr(getattr(response, "incomplete_details", None), "reason", None)
        truncated = why == "max_output_tokens"
        return Response(
            message=message,
            usage=_usage(response.usage),
            finish_reason="length" if truncated else why or ("tool_calls" if calls else "stop"),
            is_truncated=truncated,
            id=response.id or "",
            created=int(response.created_at or 0),
            model=response.model or "",
        )


def _items(message: Message) -> list[dict[str, Any]]:
    role = message["role"]
    if role == "tool":
        content = message.get("content")
        output = _parts(content) if isinstance(content, list) else content_text(content)
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id") or "", "output": output}]
    if role == "assistant":
        return _said(message)
    content = message.get("content")
    shown = _parts(content) if isinstance(content, list) else content_text(content)
    return [{"role": "user" if role == "text" else role, "content": shown}]


def _said(message: Message) -> list[dict[str, Any]]:
    calls = message.get("tool_calls") or []
    kept = message.get("native_content") or []
    text = content_text(message.get("content"))
    if any(item.get("type") == "reasoning" for item in kept) and _same(kept, text, calls):
        return [dict(item) for item in kept]
    items: list[dict[str, Any]] = [{"role": "assistant", "content": text}] if text else []
    return items + [
        {"type": "function_call", "call_id": call["id"], "name": call["name"], "arguments": call["arguments"]}
        for call in calls
    ]


def _same(kept: list[Any], text: str, calls: list[Any]) -> bool:
    """Whether the kept items still say what the message says; an environment may have changed it."""
    inner = [part for item in kept if item.get("type") == "message" for part in item.get("content") or ()]
    said = "".join(part.get("text", part.get("refusal", "")) for part in inner)
    called = [item.get("call_id") for item in kept if item.get("type") == "function_call"]
    return said == text and called == [call["id"] for call in calls]


def _parts(content: list[Any]) -> list[Any]:
    found: list[Any] = []
    for part in parts(content):
        kind = part.get("type")
        if kind == "text":
            found.append({"type": "input_text", "text": part.get("text", "")})
        elif kind == "image_url":
            url, detail = image(part)
            found.append({"type": "input_image", "image_url": url, "detail": detail or "auto"})
        elif kind == "file":
            found.append({"type": "input_file", **part.get("file", {})})
        else:  # input_audio is the same in both, and what is written for this API stays as it is
            found.append(part)
    return found


def _translated(arguments: dict[str, Any]) -> dict[str, Any]:
    for name in ("max_completion_tokens", "max_tokens"):
        if name in arguments:
            arguments.setdefault("max_output_tokens", arguments.pop(name))
    if arguments.get("n") == 1:
        del arguments["n"]
    if "reasoning_effort" in arguments:
        effort = arguments.pop("reasoning_effort")
        arguments["reasoning"] = {"effort": effort, **arguments.get("reasoning", {})}
    if "response_format" in arguments:
        given = arguments.pop("response_format")
        shape = {"type": "json_schema", **given["json_schema"]} if given.get("type") == "json_schema" else given
        arguments["text"] = {"format": shape, **arguments.get("text", {})}
    choice = arguments.get("tool_choice")
    if isinstance(choice, Mapping) and "function" in choice:
        arguments["tool_choice"] = {"type": "function", "name": choice["function"]["name"]}
    return arguments


def _says(item: Any) -> bool:
    if item.type == "message":
        return any(getattr(part, "text", None) or getattr(part, "refusal", None) for part in item.content or ())
    return item.type == "function_call" or (item.type == "reasoning" and bool(_thoughts(item)))


def _thoughts(item: Any) -> list[str]:
    """The reasoning itself, which open models give, or else the summaries of it."""
    given = getattr(item, "content", None) or item.summary or ()
    return [part.text for part in given if part.text]


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    given = getattr(usage, "input_tokens_details", None)
    output = getattr(usage, "output_tokens_details", None)
    return Usage(
        prompt_tokens=usage.input_tokens or 0,
        completion_tokens=usage.output_tokens or 0,
        reasoning_tokens=getattr(output, "reasoning_tokens", None) or 0,
        total_tokens=usage.total_tokens or 0,
        cached_tokens=getattr(given, "cached_tokens", None) or 0,
    )
