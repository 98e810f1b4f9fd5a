"""What the clients for the APIs of OpenAI have in common."""

from __future__ import annotations

from typing import Any

from verifiers.clients.config import ClientConfig
from verifiers.clients.sdk_client import AnsweredWithError, SDKClient
from verifiers.errors import InvalidModelResponseError, UnreadableResponseError
from verifiers.types import Usage


class OpenAIClient(SDKClient):
    """Takes a ClientConfig or an `openai.AsyncOpenAI`."""

    @staticmethod
    def sdk() -> Any:
        import openai

        return openai

    def open_native(self, config: ClientConfig, http_client: Any) -> Any:
        openai = self.sdk()
        return openai.AsyncOpenAI(
            api_key=config.api_key(),
            base_url=config.api_base_url,
            timeout=openai.Timeout(config.timeout, connect=config.connect_timeout),
            max_retries=0,
            default_headers=config.headers(),
            http_client=http_client,
        )

    async def send(self, request: dict[str, Any], state: Any) -> Any:
        answer = await super().send(request, state)
        # Routers answer 200 and say in the body that the provider behind them failed.
        if (error := getattr(answer, "error", None)) and not getattr(answer, "choices", None):
            raise as_error(error)
        return answer

    def only_choice(self, response: Any) -> Any:
        """The one choice of an answer. Raises UnreadableResponseError or InvalidModelResponseError."""
        if response is None:
            raise UnreadableResponseError("Model returned no response")
        if not hasattr(response, "choices"):
            raise self.unreadable(response)
        if response.choices is None:
            raise UnreadableResponseError("Model returned no response choices")
        if len(response.choices) != 1:
            raise InvalidModelResponseError(f"Model returned {len(response.choices)} choices, expected 1")
        return response.choices[0]


_CODES = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "server_error": 500}


def as_error(error: Any) -> AnsweredWithError:
    """The error in an answer that came with HTTP 200: `{"code": 429 or a word, "message": …}`."""
    said = error if isinstance(error, dict) else vars(error)
    code = said.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else _CODES.get(str(code), 400)
    return AnsweredWithError(status, f"{said.get('message') or code} ({code})", str(code))


def usage_of(usage: Any) -> Usage | None:
    """The usage that chat completions and completions give."""
    if usage is None:
        return None
    output = getattr(usage, "completion_tokens_details", None)
    given = getattr(usage, "prompt_tokens_details", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        reasoning_tokens=getattr(output, "reasoning_tokens", None) or 0,
        total_tokens=usage.total_tokens or 0,
        # DeepSeek has a name of its own.
        cached_tokens=getattr(given, "cached_tokens", None) or getattr(usage, "prompt_cache_hit_tokens", None) or 0,
    )
