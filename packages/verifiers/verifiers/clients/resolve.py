"""What may be given as a client, and the client it becomes."""

from __future__ import annotations

from typing import Any

from verifiers.clients.client import Client
from verifiers.types import ClientConfig


def as_client(client: Any) -> Client:
    """A Client from a Client, a ClientConfig, or an `openai.AsyncOpenAI`.

    Raises ValueError with a sentence for anything else.
    """
    if isinstance(client, Client):
        return client
    if isinstance(client, ClientConfig):
        if client.client_type != "openai_chat_completions":
            raise ValueError(f"Unsupported client type: {client.client_type!r}. Use 'openai_chat_completions'.")
    elif not (hasattr(client, "chat") and hasattr(client, "base_url")):
        raise ValueError(
            f"Unsupported client type: {type(client).__name__}. "
            "Give a vf.Client, a vf.ClientConfig or an openai.AsyncOpenAI."
        )
    from verifiers.clients.openai_chat import OpenAIChatCompletionsClient

    return OpenAIChatCompletionsClient(client)
