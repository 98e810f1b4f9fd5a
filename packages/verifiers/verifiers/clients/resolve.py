"""What may be given as a client, and the client it becomes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from verifiers.clients.client import Client
from verifiers.types import ClientConfig

CLIENT_TYPES = {
    "openai_chat_completions": "OpenAIChatCompletionsClient",
    "openai_chat_completions_token": "OpenAIChatCompletionsTokenClient",
    "openai_completions": "OpenAICompletionsClient",
    "openai_responses": "OpenAIResponsesClient",
    "anthropic_messages": "AnthropicMessagesClient",
}
_REFUSED = {
    "renderer": "it renders prompts into tokens on this side, with the model's tokenizer, and needs packages that this "
    "version does not use",
    "nemorl_chat_completions": "it is a dialect that only the server of a NeMo RL training run speaks",
}


def client_class(client_type: str) -> type[Client]:
    """The class for a client type. Raises ValueError with a sentence for one that is not spoken."""
    name = CLIENT_TYPES.get(client_type)
    if name is None:
        raise ValueError(refusal(client_type))
    return getattr(import_module(f"verifiers.clients.{client_type}_client"), name)


def refusal(client_type: Any) -> str:
    """Why a client type is not spoken, and what is."""
    if why := _REFUSED.get(client_type):
        return (
            f"Unsupported client type: {client_type!r}: {why}. Use 'openai_chat_completions_token' where token ids are "
            "needed, else 'openai_chat_completions'."
        )
    return f"Unsupported client type: {client_type!r}. Use one of {', '.join(CLIENT_TYPES)}."


def as_client(client: Any) -> Client:
    """A Client from a Client, a ClientConfig (with `endpoint_configs` one that takes them in turn), an
    `openai.AsyncOpenAI` or an `anthropic.AsyncAnthropic`, which stay the caller's to close.

    Raises ValueError with a sentence for anything else.
    """
    if isinstance(client, Client):
        return client
    if isinstance(client, ClientConfig):
        if client.endpoint_configs:
            from verifiers.clients.variants import VariantsClient

            return VariantsClient([as_client(variant) for variant in client.variants()], client.client_idx)
        return client_class(client.client_type)(client)
    if hasattr(client, "base_url") and hasattr(client, "chat"):
        return client_class("openai_chat_completions")(client)
    if hasattr(client, "base_url") and hasattr(client, "messages"):
        return client_class("anthropic_messages")(client)
    raise ValueError(
        f"Unsupported client type: {type(client).__name__}. "
        "Give a vf.Client, a vf.ClientConfig, an openai.AsyncOpenAI or an anthropic.AsyncAnthropic."
    )
