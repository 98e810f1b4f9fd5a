"""OpenAI-compatible chat completions: the OpenAI API itself, and every server that speaks it, on any base URL."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

from verifiers.clients.client import Client
from verifiers.errors import (
    EmptyModelResponseError,
    Error,
    InvalidModelResponseError,
    ModelAuthError,
    ModelError,
    OverlongPromptError,
)
from verifiers.types import AssistantMessage, ClientConfig, Message, Messages, Response, Tool, ToolCall, Usage
from verifiers.utils.message_utils import content_text
from verifiers.utils.urls import shown_url

NO_KEY = "EMPTY"
_OVERLONG = (
    "this model's maximum context length is",
    "is longer than the model's context length",
    "is longer than the maximum model length",
    "exceeds the model's context length",
    "exceed the configured limit",
    "exceeds the configured limit",
    "exceeded model",
    "prompt_too_long",
    "context length",
    "context_length_exceeded",
    "maximum model length",
)
_REQUEST_OPTIONS = {
    "extra_headers": "headers",
    "extra_query": "params",
    "extra_body": "extra_json",
    "timeout": "timeout",
}


class OpenAIChatCompletionsClient(Client):
    """Takes a ClientConfig, or an `openai.AsyncOpenAI` that stays the caller's to close.

    From a config, connections belong to the running event loop: another loop gets new ones. Connection errors,
    timeouts, 408, 409, 429 and 5xx are retried `max_retries` times by the openai package, which heeds Retry-After.
    """

    def __init__(self, client_or_config: Any) -> None:
        self.config: ClientConfig | None = None
        self._open: tuple[asyncio.AbstractEventLoop, Any] | None = None
        super().__init__(client_or_config)

    def setup_client(self, client_or_config: Any) -> Any:
        if isinstance(client_or_config, ClientConfig):
            self.config = client_or_config
            return None
        return client_or_config

    def native(self) -> Any:
        """The `openai.AsyncOpenAI` for the running loop."""
        if self.config is None:
            return self.client
        loop = asyncio.get_running_loop()
        if self._open is None or self._open[0] is not loop:
            import openai

            self._open = (
                loop,
                openai.AsyncOpenAI(
                    api_key=os.environ.get(self.config.api_key_var) or NO_KEY,
                    base_url=self.config.api_base_url,
                    timeout=openai.Timeout(self.config.timeout, connect=self.config.connect_timeout),
                    max_retries=self.config.max_retries,
                    default_headers=self.config.extra_headers,
                ),
            )
        return self._open[1]

    async def close(self) -> None:
        if self._open is not None and self._open[0] is asyncio.get_running_loop():
            (_, native), self._open = self._open, None
            await native.close()

    async def to_native_tool(self, tool: Tool) -> dict[str, Any]:
        return tool.to_openai()

    async def to_native_prompt(self, messages: Messages) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        native = [_native_message(message) for message in messages]
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
        arguments = {key: value for key, value in sampling_args.items() if value is not None}
        if "max_tokens" in arguments:
            arguments.setdefault("max_completion_tokens", arguments.pop("max_tokens"))
        if not arguments.get("extra_body"):
            arguments.pop("extra_body", None)
        if tools:
            arguments["tools"] = tools
        request = {"model": model, "messages": prompt, **extra, **arguments}
        if self.config is None or request.get("stream"):
            return await self.native().chat.completions.create(**request)
        from openai.types.chat import ChatCompletion

        # The same request without the walk over every message that `create` makes first: half of what a call costs.
        options = {name: request.pop(given) for given, name in _REQUEST_OPTIONS.items() if given in request}
        return await self.native().post("/chat/completions", cast_to=ChatCompletion, body=request, options=options)

    async def raise_from_native_response(self, response: Any) -> None:
        if response is None:
            raise EmptyModelResponseError("Model returned no response")
        if not hasattr(response, "choices"):
            raise InvalidModelResponseError(
                f"Model returned something that is not a chat completion: {response!r:.200}"
            )
        if response.choices is None:
            raise EmptyModelResponseError("Model returned no response choices")
        if len(response.choices) != 1:
            raise InvalidModelResponseError(f"Model returned {len(response.choices)} choices, expected 1")
        message = response.choices[0].message
        if message is None or not (message.content or message.tool_calls or _reasoning(message)):
            raise EmptyModelResponseError("Model returned no content, reasoning, and did not call any tools")

    async def from_native_response(self, response: Any) -> Response:
        choice = response.choices[0]
        calls = [
            ToolCall(id=call.id or "", name=call.function.name, arguments=call.function.arguments or "{}")
            for call in choice.message.tool_calls or ()
            if getattr(call, "function", None) is not None
        ]
        message = AssistantMessage(
            choice.message.content, tool_calls=calls, reasoning_content=_reasoning(choice.message)
        )
        return Response(
            message=message,
            usage=_usage(response.usage),
            finish_reason=choice.finish_reason,
            is_truncated=choice.finish_reason == "length",
            id=response.id or "",
            created=response.created or 0,
            model=response.model or "",
        )

    def translate_error(self, error: Exception) -> Error:
        import openai

        text = _said(error)
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelAuthError(f"The model endpoint {self.address} refused the key: {text}")
        refused = isinstance(error, openai.APIStatusError) and not isinstance(error, openai.RateLimitError)
        if refused and any(sign in str(error).lower() for sign in _OVERLONG):
            return OverlongPromptError(text)
        if isinstance(error, openai.APIResponseValidationError | json.JSONDecodeError):
            return InvalidModelResponseError(f"Model returned something that is not a chat completion: {text}")
        if isinstance(error, openai.APITimeoutError):
            return ModelError(f"The model endpoint {self.address} did not answer in time.")
        if isinstance(error, openai.APIConnectionError):
            return ModelError(f"Could not reach the model endpoint {self.address}: {_reason(error)}")
        return ModelError(f"The model endpoint {self.address} failed: {text}")

    @property
    def address(self) -> str:
        """The base URL, without anything secret in it."""
        return shown_url(self.config.api_base_url if self.config is not None else str(self.client.base_url))


def _native_message(message: Message) -> dict[str, Any]:
    role = message["role"]
    native: dict[str, Any] = {"role": "user" if role == "text" else role, "content": message.get("content")}
    if role == "assistant" and message.get("tool_calls"):
        native["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in message["tool_calls"]
        ]
    elif role == "tool":
        native["tool_call_id"] = message.get("tool_call_id") or ""
        native["content"] = message.get("content") if isinstance(message.get("content"), list) else _text(message)
    elif native["content"] is None:
        native["content"] = ""
    if message.get("name") and role != "tool":
        native["name"] = message["name"]
    return native


def _said(error: Exception) -> str:
    """The endpoint's own words where it has any, with the HTTP status."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        for name in ("message", "detail"):
            if isinstance(body.get(name), str):
                return f"{body[name]} (HTTP {getattr(error, 'status_code', '?')})"
    return str(error) or type(error).__name__


def _reason(error: Exception) -> str:
    """What lies behind a connection error, in the first words that say something."""
    cause = error.__cause__
    while cause is not None and not str(cause):
        cause = cause.__cause__
    return str(cause or error) or type(error).__name__


def _text(message: Message) -> str:
    return content_text(message.get("content"))


def _reasoning(message: Any) -> str | None:
    for name in ("reasoning", "reasoning_content", "reasoning_details"):
        value = getattr(message, name, None)
        if isinstance(value, str) and value:
            return value
    return None


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    details = getattr(usage, "completion_tokens_details", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        reasoning_tokens=getattr(details, "reasoning_tokens", None) or 0,
        total_tokens=usage.total_tokens or 0,
    )
