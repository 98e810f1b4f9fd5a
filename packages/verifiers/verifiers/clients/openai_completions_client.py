"""OpenAI completions: plain text in, plain text out, no chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verifiers.clients.openai_client import OpenAIClient, usage_of
from verifiers.clients.sdk_client import sampling
from verifiers.errors import EmptyModelResponseError, ModelError
from verifiers.types import AssistantMessage, Messages, Response, ResponseTokens, Tool
from verifiers.utils.message_utils import content_text

_CONTINUED = frozenset({"text", "assistant"})


class OpenAICompletionsClient(OpenAIClient):
    """Takes a ClientConfig or an `openai.AsyncOpenAI`. For environments with `message_type="completion"`.

    The prompt is the text of the messages: text messages and what the model said follow one another directly; where
    there is any chat message (system, user, tool), a blank line stands between all of them. Images, audio and tools
    are refused with a ModelError.
    """

    CLIENT_TYPE = "openai_completions"
    PATH = "/completions"
    CREATE = "completions.create"
    ANSWER = "a completion"

    def answer_class(self) -> type:
        from openai.types import Completion

        return Completion

    async def to_native_tool(self, tool: Tool) -> Any:
        raise ModelError(
            f"The completions API takes no tools, and the environment has {tool.name!r}: "
            "use client type openai_chat_completions."
        )

    async def to_native_prompt(self, messages: Messages) -> tuple[str, dict[str, Any]]:
        for message in messages:
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
                if isinstance(part, Mapping) and part.get("type") != "text":
                    raise ModelError(
                        f"The completions API takes text only, and the prompt has a part of type {part.get('type')!r}: "
                        "use client type openai_chat_completions."
                    )
        texts = [content_text(message.get("content")) for message in messages]
        continued = len(texts) < 2 or all(message["role"] in _CONTINUED for message in messages)
        return ("" if continued else "\n\n").join(texts), {}

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
        if "max_completion_tokens" in arguments:
            arguments.setdefault("max_tokens", arguments.pop("max_completion_tokens"))
        return await self.send({"model": model, "prompt": prompt, **extra, **arguments}, state)

    async def raise_from_native_response(self, response: Any) -> None:
        if not self.only_choice(response).text:
            raise EmptyModelResponseError("Model returned no content")

    async def from_native_response(self, response: Any) -> Response:
        choice = response.choices[0]
        return Response(
            message=AssistantMessage(choice.text),
            usage=usage_of(response.usage),
            finish_reason=choice.finish_reason,
            is_truncated=choice.finish_reason == "length",
            id=response.id or "",
            created=response.created or 0,
            model=response.model or "",
            tokens=_tokens(response, choice),
        )


def _tokens(response: Any, choice: Any) -> ResponseTokens | None:
    """The tokens, where the endpoint gave all of them (vLLM: `return_token_ids` and `logprobs`)."""
    prompt = getattr(choice, "prompt_token_ids", None) or getattr(response, "prompt_token_ids", None)
    said = getattr(choice, "token_ids", None)
    logprobs = getattr(getattr(choice, "logprobs", None), "token_logprobs", None)
    if prompt is None or said is None or logprobs is None:
        return None
    return ResponseTokens(
        prompt_ids=prompt,
        prompt_mask=[0] * len(prompt),
        completion_ids=said,
        completion_mask=[1] * len(said),
        completion_logprobs=logprobs,
    )
