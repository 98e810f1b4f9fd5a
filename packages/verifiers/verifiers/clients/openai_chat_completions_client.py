"""OpenAI-compatible chat completions: the OpenAI API itself, and every server that speaks it, on any base URL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from verifiers.clients.content import parts
from verifiers.clients.openai_client import OpenAIClient, usage_of
from verifiers.clients.sdk_client import plain, sampling
from verifiers.errors import EmptyModelResponseError
from verifiers.types import AssistantMessage, Message, Messages, Response, ResponseTokens, Tool, ToolCall
from verifiers.utils.message_utils import content_text

_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


class OpenAIChatCompletionsClient(OpenAIClient):
    """Takes a ClientConfig or an `openai.AsyncOpenAI`.

    Reasoning is kept in `reasoning_content`. An endpoint that gives it gets it back under the same name with the tool
    calls since the last user message, as interleaved thinking needs; an endpoint that never gave any is never sent any.
    """

    CLIENT_TYPE = "openai_chat_completions"
    PATH = "/chat/completions"
    CREATE = "chat.completions.create"
    ANSWER = "a chat completion"

    def __init__(self, client_or_config: Any) -> None:
        self._reasoning_name: str | None = None
        super().__init__(client_or_config)

    def answer_class(self) -> type:
        from openai.types.chat import ChatCompletion

        return ChatCompletion

    async def to_native_tool(self, tool: Tool) -> dict[str, Any]:
        return tool.to_openai()

    async def to_native_prompt(self, messages: Messages) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        native = [_native_message(message) for message in messages]
        if self._reasoning_name is not None:
            _give_back_reasoning(messages, native, self._reasoning_name)
        audio = any(
            isinstance(part, Mapping) and part.get("type") == "input_audio"
            for message in native
            if isinstance(message["content"], list)
            for part in message["content"]
        )
        return native, {"modalities": ["text"]} if audio else {}

    async def get_native_response(
        self,
        prompt: Any,
        model: str,
        sampling_args: Mapping[str, Any],
        tools: list[Any] | None,
        state: Any = None,
        **extra: Any,
    ) -> Any:
        arguments = sampling(sampling_args)
        if "max_tokens" in arguments:
            arguments.setdefault("max_completion_tokens", arguments.pop("max_tokens"))
        if tools:
            arguments["tools"] = tools
        return await self.send({"model": model, "messages": prompt, **extra, **arguments}, state)

    async def raise_from_native_response(self, response: Any) -> None:
        message = self.only_choice(response).message
        if message is None or not (
            message.content
            or message.tool_calls
            or getattr(message, "refusal", None)
            or getattr(message, "audio", None)
            or _reasoning(message)[1]
        ):
            raise EmptyModelResponseError("Model returned no content, reasoning, and did not call any tools")

    async def from_native_response(self, response: Any) -> Response:
        choice = response.choices[0]
        said = choice.message
        calls = [
            ToolCall(id=call.id or "", name=call.function.name, arguments=_arguments(call.function.arguments))
            for call in said.tool_calls or ()
            if getattr(call, "function", None) is not None
        ]
        name, reasoning = _reasoning(said)
        self._reasoning_name = name or self._reasoning_name
        message = AssistantMessage(said.content, tool_calls=calls, reasoning_content=reasoning)
        details = getattr(said, "reasoning_details", None)
        if isinstance(details, list) and details:
            message["reasoning_details"] = details
        if refusal := getattr(said, "refusal", None):
            message["refusal"] = refusal
            message["content"] = said.content or refusal
        if (audio := getattr(said, "audio", None)) is not None:
            message["audio"] = plain(audio)
            message["content"] = said.content or audio.transcript
        return Response(
            message=message,
            usage=usage_of(response.usage),
            finish_reason=choice.finish_reason,
            is_truncated=choice.finish_reason == "length",
            id=response.id or "",
            created=response.created or 0,
            model=response.model or "",
            tokens=_tokens(response, choice),
        )


def _native_message(message: Message) -> dict[str, Any]:
    role = message["role"]
    content = message.get("content")
    content = parts(content) if isinstance(content, list) else content
    native: dict[str, Any] = {"role": "user" if role == "text" else role, "content": content}
    if role == "assistant":
        if message.get("tool_calls"):
            native["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in message["tool_calls"]
            ]
        elif native["content"] is None:
            native["content"] = ""
        if message.get("reasoning_details"):
            native["reasoning_details"] = message["reasoning_details"]
        if message.get("audio"):
            native["audio"] = {"id": message["audio"]["id"]}
    elif role == "tool":
        native["tool_call_id"] = message.get("tool_call_id") or ""
        native["content"] = content if isinstance(content, list) else content_text(content)
    elif native["content"] is None:
        native["content"] = ""
    if message.get("name") and role != "tool":
        native["name"] = message["name"]
    return native


def _give_back_reasoning(messages: Messages, native: list[dict[str, Any]], name: str) -> None:
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if message["role"] == "user":
            return
        if message.get("reasoning_content") and message.get("tool_calls") and not message.get("reasoning_details"):
            native[position][name] = message["reasoning_content"]


def _arguments(given: Any) -> str:
    """The arguments of a tool call as text; some servers give an object."""
    return given if isinstance(given, str) and given else json.dumps(given or {}, ensure_ascii=False)


def _reasoning(message: Any) -> tuple[str | None, str | None]:
    """The name under which the endpoint gave reasoning, and the reasoning."""
    for name in _REASONING:
        value = getattr(message, name, None)
        if isinstance(value, str) and value:
            return name, value
    details = getattr(message, "reasoning_details", None)
    if isinstance(details, list):
        texts = [part.get("text") or part.get("summary") for part in details if isinstance(part, Mapping)]
        if found := "".join(text for text in texts if isinstance(text, str)):
            return None, found
    return None, None


def _tokens(response: Any, choice: Any) -> ResponseTokens | None:
    """The tokens, where the endpoint gave all of them (vLLM: `return_token_ids` and `logprobs`)."""
    prompt = getattr(response, "prompt_token_ids", None)
    if prompt is None:
        return None
    said = getattr(choice, "token_ids", None)
    logprobs = getattr(getattr(choice, "logprobs", None), "content", None)
    if said is None or logprobs is None:
        return None
    return ResponseTokens(
        prompt_ids=prompt,
        prompt_mask=[0] * len(prompt),
        completion_ids=said,
        completion_mask=[1] * len(said),
        completion_logprobs=[token.logprob for token in logprobs],
    )
