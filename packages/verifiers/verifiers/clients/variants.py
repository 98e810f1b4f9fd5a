"""Several endpoints that serve the same model, used in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from verifiers.clients.client import Client
from verifiers.types import Messages, MessagesLike, Response, Tool


class VariantsClient(Client):
    """Gives each group of rollouts (one example) one of `clients`, in turn from number `first`, and keeps it there, so
    that the server's cache of the conversation serves all of its turns. Calls outside a rollout take turns one by one.
    """

    def __init__(self, clients: Sequence[Client], first: int = 0) -> None:
        self.clients = list(clients)
        self._turns = count(first)
        self._given: dict[Any, Client] = {}
        for client in self.clients:
            client.on_retry = self._tell_retry
        super().__init__()

    def setup_client(self, client_or_config: Any) -> None:
        return None

    @property
    def client(self) -> Any:
        """The first client's own."""
        return self.clients[0].client

    @client.setter
    def client(self, client: Any) -> None:
        pass

    def of(self, state: Any = None) -> Client:
        """The client of this rollout's group."""
        example = None if state is None else state.get("example_id")
        if example is None:
            return self._next()
        found = self._given.get(example)
        if found is None:
            found = self._given[example] = self._next()
        return found

    def _next(self) -> Client:
        return self.clients[next(self._turns) % len(self.clients)]

    async def get_response(
        self,
        prompt: MessagesLike,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Response:
        return await self.of(kwargs.get("state")).get_response(prompt, model, sampling_args, tools, **kwargs)

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    # Asked piece by piece, it answers as its first client.

    async def to_native_tool(self, tool: Tool) -> Any:
        return await self.clients[0].to_native_tool(tool)

    async def to_native_prompt(self, messages: Messages) -> tuple[Any, dict[str, Any]]:
        return await self.clients[0].to_native_prompt(messages)

    async def get_native_response(
        self, prompt: Any, model: str, sampling_args: Mapping[str, Any], tools: list[Any] | None, **kwargs: Any
    ) -> Any:
        return await self.clients[0].get_native_response(prompt, model, sampling_args, tools, **kwargs)

    async def raise_from_native_response(self, response: Any) -> None:
        await self.clients[0].raise_from_native_response(response)

    async def from_native_response(self, response: Any) -> Response:
        return await self.clients[0].from_native_response(response)
