"""Client: the seam between a rollout and whatever answers it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

from verifiers.clients.config import Prices
from verifiers.clients.retry import LONGEST_TROUBLE_SECONDS
from verifiers.errors import Error, ModelError
from verifiers.types import Messages, MessagesLike, Response, Tool
from verifiers.utils.activity import MODEL_AGAIN, doing
from verifiers.utils.message_utils import normalize_messages, normalize_tool

_OF_THE_PACKAGE = frozenset({"api_key", "base_url", "chat", "completions", "embeddings", "messages", "responses"})


class Client(ABC):
    """Translates messages and tools into a provider's own shape, asks it, and translates the answer back.

    `get_response` raises: ModelAuthError (the key or the account was refused), RateLimitError, OverlongPromptError,
    EmptyModelResponseError, InvalidModelResponseError, ModelError (anything else the provider did). One client may be
    used by many rollouts at once.

    `retries` counts the requests that were repeated; `on_retry(reason, wait_seconds)` is called before each wait, and
    so are the runs that use the client (`heard_by`).
    `prices`, where known, give every response its `cost`. `client` is the provider's own client, where there is one.
    """

    retries: int = 0
    on_retry: Callable[[str, float], Any] | None = None
    prices: Prices | None = None
    _listeners: tuple[Callable[[str, float], Any], ...] = ()

    def __init__(self, client_or_config: Any = None) -> None:
        self.client = self.setup_client(client_or_config)

    def __getattr__(self, name: str) -> Any:
        # In an environment written for 0.1.10 the package's own client stands in this place.
        if name in _OF_THE_PACKAGE and (client := self.client) is not None:
            return getattr(client, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @abstractmethod
    def setup_client(self, client_or_config: Any) -> Any:
        """The provider's own client; no I/O."""

    @abstractmethod
    async def to_native_tool(self, tool: Tool) -> Any:
        """A tool in the provider's shape."""

    @abstractmethod
    async def to_native_prompt(self, messages: Messages) -> tuple[Any, dict[str, Any]]:
        """The messages in the provider's shape, and further arguments of the request that they call for."""

    @abstractmethod
    async def get_native_response(
        self, prompt: Any, model: str, sampling_args: Mapping[str, Any], tools: list[Any] | None, **kwargs: Any
    ) -> Any:
        """Send the request."""

    @abstractmethod
    async def raise_from_native_response(self, response: Any) -> None:
        """Raise EmptyModelResponseError or InvalidModelResponseError for an answer that is not usable."""

    @abstractmethod
    async def from_native_response(self, response: Any) -> Response:
        """The answer in our shape."""

    @abstractmethod
    async def close(self) -> None:
        """Close connections. The client can be used again afterwards."""

    def translate_error(self, error: Exception) -> Error:
        """The provider's exception as one of ours."""
        return ModelError(f"{type(error).__name__}: {error}")

    def wait_before_retry(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before asking again, for the time number `attempt`; None when `error` is final."""
        return None

    def retry_note(self, error: Exception) -> str:
        """What is to be said of the wait after `error`, beside the error itself."""
        return ""

    async def may_ask(self) -> None:
        """Wait while the endpoint wants no requests."""
        return

    async def get_response(
        self,
        prompt: MessagesLike,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Response:
        """One answer to `prompt`; kwargs carries `state`, which offline policies look at."""
        try:
            native, extra = await self.to_native_prompt(normalize_messages(prompt))
            native_tools = [await self.to_native_tool(normalize_tool(tool)) for tool in tools] if tools else None
        except Error:
            raise
        except Exception as error:
            raise ModelError(
                f"The model was not asked, because of the prompt or the tools: {type(error).__name__}: {error}"
            ) from error
        try:
            attempt, waited = 0, 0.0
            while True:
                await self.may_ask()
                try:
                    answer = await self.get_native_response(
                        native, model, sampling_args or {}, native_tools, **extra, **kwargs
                    )
                    break
                except Exception as error:
                    attempt += 1
                    wait = self.wait_before_retry(error, attempt)
                    waited += wait or 0.0
                    if wait is None or waited > LONGEST_TROUBLE_SECONDS:
                        if attempt == 1:
                            raise
                        raise self._given_up(error, attempt) from error
                    reason = self._retrying(error, wait)
                with doing(MODEL_AGAIN, reason):
                    await asyncio.sleep(wait)
            await self.raise_from_native_response(answer)
            response = await self.from_native_response(answer)
        except Error:
            raise
        except Exception as error:
            raise self.translate_error(error) from error
        if self.prices is not None and (used := response.usage) is not None:
            response.cost = self.prices.cost(used.prompt_tokens, used.completion_tokens, used.cached_tokens)
        return response

    @contextmanager
    def heard_by(self, listener: Callable[[str, float], Any]) -> Generator[None]:
        """Meanwhile `listener(reason, wait_seconds)` is called before each wait, beside `on_retry` and other listeners."""
        self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            left = list(self._listeners)
            left.remove(listener)
            self._listeners = tuple(left)

    def _given_up(self, error: Exception, times: int) -> Error:
        """The error after which the request is not repeated any more, with how often it was made."""
        final = copy(error) if isinstance(error, Error) else self.translate_error(error)
        final.args = (f"{str(final).rstrip('. ')}. It was asked {times} times.", *final.args[1:])
        return final

    def _retrying(self, error: Exception, wait: float) -> str:
        reason = str(error if isinstance(error, Error) else self.translate_error(error)) + self.retry_note(error)
        self._tell_retry(reason, wait)
        return reason

    def _tell_retry(self, reason: str, wait: float) -> None:
        self.retries += 1
        for listener in (self.on_retry, *self._listeners):
            if listener is not None:
                listener(reason, wait)
