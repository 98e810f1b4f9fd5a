"""What a run may spend: when the limit is reached nothing new is begun, and what is under way is finished and recorded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from verifiers.clients.client import Client
from verifiers.errors import ModelError
from verifiers.types import Messages, MessagesLike, Response, Tool


class LimitReached(ModelError):
    """A limit that was set for the run is reached, so the model was not asked."""


class Budget:
    """Counts what the calls of one or several runs use. max_cost: USD; max_tokens: input and output together.

    Calls that are under way when a limit is reached are finished, so the end may lie a little above it. Answers that were
    errors tell no usage, and are not counted; nor are calls that do not go to the model that is evaluated (judges).
    """

    def __init__(self, max_cost: float | None = None, max_tokens: int | None = None) -> None:
        self.max_cost, self.max_tokens = max_cost, max_tokens
        self.cost, self.tokens = 0.0, 0

    def add(self, response: Response) -> None:
        """Count one call."""
        if (usage := response.usage) is not None:
            self.tokens += usage.prompt_tokens + usage.completion_tokens
        self.cost += response.cost or 0.0

    @property
    def reached(self) -> str:
        """Which limit is reached, in a sentence; "" while there is something left."""
        if self.max_cost is not None and self.cost >= self.max_cost:
            return f"The limit of ${self.max_cost:g} is reached: ${self.cost:.4f} are spent."
        if self.max_tokens is not None and self.tokens >= self.max_tokens:
            return f"The limit of {self.max_tokens:,} tokens is reached: {self.tokens:,} are used."
        return ""


class Metered(Client):
    """A client whose calls count against a budget, and are refused (LimitReached) when that is used up."""

    def __init__(self, inner: Client, budget: Budget) -> None:
        self.inner, self.budget = inner, budget
        super().__init__()

    def setup_client(self, client_or_config: Any) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        if name in ("inner", "budget"):
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def client(self) -> Any:
        """The provider's own client."""
        return self.inner.client

    @client.setter
    def client(self, client: Any) -> None:
        pass

    async def get_response(
        self,
        prompt: MessagesLike,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Response:
        if reached := self.budget.reached:
            raise LimitReached(reached)
        response = await self.inner.get_response(prompt, model, sampling_args, tools, **kwargs)
        self.budget.add(response)
        return response

    @contextmanager
    def heard_by(self, listener: Callable[[str, float], Any]) -> Generator[None]:
        with self.inner.heard_by(listener):
            yield

    async def close(self) -> None:
        await self.inner.close()

    # Asked piece by piece, it answers as the client behind it.

    async def to_native_tool(self, tool: Tool) -> Any:
        return await self.inner.to_native_tool(tool)

    async def to_native_prompt(self, messages: Messages) -> tuple[Any, dict[str, Any]]:
        return await self.inner.to_native_prompt(messages)

    async def get_native_response(
        self, prompt: Any, model: str, sampling_args: Mapping[str, Any], tools: list[Any] | None, **kwargs: Any
    ) -> Any:
        return await self.inner.get_native_response(prompt, model, sampling_args, tools, **kwargs)

    async def raise_from_native_response(self, response: Any) -> None:
        await self.inner.raise_from_native_response(response)

    async def from_native_response(self, response: Any) -> Response:
        return await self.inner.from_native_response(response)
