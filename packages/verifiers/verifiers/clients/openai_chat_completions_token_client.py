"""Chat completions with token ids: for training, on servers such as vLLM that give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verifiers.clients.openai_chat_completions_client import OpenAIChatCompletionsClient
from verifiers.errors import ModelError
from verifiers.types import Response


class OpenAIChatCompletionsTokenClient(OpenAIChatCompletionsClient):
    """Asks for `logprobs` and `return_token_ids`, so that every response has `tokens`. Raises ModelError where an
    endpoint does not give them.
    """

    CLIENT_TYPE = "openai_chat_completions_token"

    async def get_native_response(
        self,
        prompt: Any,
        model: str,
        sampling_args: Mapping[str, Any],
        tools: list[Any] | None,
        state: Any = None,
        **extra: Any,
    ) -> Any:
        body = {"return_token_ids": True, **(sampling_args.get("extra_body") or {})}
        asked = {**sampling_args, "logprobs": True, "extra_body": body}
        return await super().get_native_response(prompt, model, asked, tools, state, **extra)

    async def from_native_response(self, response: Any) -> Response:
        found = await super().from_native_response(response)
        if found.tokens is None:
            raise ModelError(
                f"The model endpoint {self.address} gives no token ids and logprobs, which client type {self.CLIENT_TYPE} "
                "needs: serve the model with vLLM 0.10.2 or later, or use client type openai_chat_completions."
            )
        if len(found.tokens.completion_ids) != len(found.tokens.completion_logprobs):
            raise ModelError(
                f"The model endpoint {self.address} gave {len(found.tokens.completion_ids)} token ids and "
                f"{len(found.tokens.completion_logprobs)} logprobs for one answer."
            )
        return found
