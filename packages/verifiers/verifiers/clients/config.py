"""How to reach a model: ClientConfig, which holds names of environment variables and never a key."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from verifiers.errors import ModelAuthError

OPENAI = ("https://api.openai.com/v1", "OPENAI_API_KEY")
ANTHROPIC = ("https://api.anthropic.com", "ANTHROPIC_API_KEY")
NO_KEY = "EMPTY"
PRIME_HOST = "api.pinference.ai"
PRIME_KEY = "PRIME_API_KEY"
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens. Input that was read from the provider's cache costs `cached_input`, or `input` where that
    is not given; writing to the cache counts as input.
    """

    input: float
    output: float
    cached_input: float | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """The price of one call in USD; `cached_tokens` are a part of `prompt_tokens`."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.input + cached_tokens * cached + completion_tokens * self.output) / 1_000_000


@dataclass(slots=True, kw_only=True)
class ClientConfig:
    """How to reach a model.

    client_type: openai_chat_completions, openai_chat_completions_token (the answer must hold token ids and logprobs),
    openai_completions, openai_responses or anthropic_messages. api_key_var: the name of an environment variable, so
    that no key is ever written down; without a key in it the word `EMPTY` is sent, which is what local servers expect.
    api_base_url, api_key_var: where not given, those of OpenAI or Anthropic, by client_type. timeout, connect_timeout:
    seconds for one request. max_retries: how often one request is repeated after passing trouble, see
    `verifiers.clients.retry`. extra_headers_from_state: header name → key of the rollout's state whose value is sent.
    endpoint_configs: several endpoints that serve the same model, as configs, or mappings of the fields that differ
    from this one; each group of rollouts (one example) keeps to one, in turn, beginning with number `client_idx`.
    renderer: only "auto", since prompts are rendered by the server. prices: what tokens cost, where that is known.
    """

    client_type: str = "openai_chat_completions"
    api_key_var: str = ""
    api_base_url: str = ""
    timeout: float = 3600.0
    connect_timeout: float = 5.0
    max_connections: int = 28000
    max_keepalive_connections: int = 28000
    max_retries: int = 10
    extra_headers: dict[str, str] = field(default_factory=dict)
    extra_headers_from_state: dict[str, str] = field(default_factory=dict)
    endpoint_configs: list[Any] = field(default_factory=list)
    client_idx: int = 0
    renderer: str = "auto"
    prices: Prices | None = None

    def __post_init__(self) -> None:
        url, key = _defaults(self.client_type)
        self.api_base_url = self.api_base_url or url
        self.api_key_var = self.api_key_var or key

    def of_type(self, client_type: str) -> ClientConfig:
        """This config for another API; an address and a key variable that were not chosen become that API's."""
        if client_type == self.client_type:
            return self
        url, key = _defaults(self.client_type)
        return replace(
            self,
            client_type=client_type,
            api_base_url="" if self.api_base_url == url else self.api_base_url,
            api_key_var="" if self.api_key_var == key else self.api_key_var,
        )

    def variants(self) -> list[ClientConfig]:
        """The endpoints of `endpoint_configs`, each a whole config. Raises ValueError for an entry that is none."""
        found = []
        for entry in self.endpoint_configs:
            if isinstance(entry, ClientConfig):
                found.append(entry)
            elif isinstance(entry, Mapping):
                try:
                    found.append(replace(self, **{"endpoint_configs": [], "client_idx": 0, **entry}))
                except TypeError as error:
                    raise ValueError(f"endpoint_configs has an entry that is no endpoint: {error}.") from None
            else:
                raise ValueError(
                    f"endpoint_configs takes ClientConfigs, or mappings of their fields, not {type(entry).__name__}."
                )
        return found

    def api_key(self) -> str:
        """The key, from the environment; for Prime's own inference also that of a login with Prime. Blanks around it,
        as a file's last line break, are no part of it. Raises ModelAuthError for one that no request can carry.
        """
        key = (os.environ.get(self.api_key_var) or self._prime_login().get("api_key") or "").strip() or NO_KEY
        wrong = next((place for place, letter in enumerate(key, 1) if not " " <= letter <= "~"), None)
        if wrong is not None:  # the sentence of whoever sends it would have the key in it
            raise ModelAuthError(
                f"The key in {self.api_key_var} cannot be one: its character {wrong} of {len(key)} is no plain letter, digit "
                "or sign. Copy it anew."
            )
        return key

    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        team = None
        if urlsplit(self.api_base_url).hostname == PRIME_HOST:
            team = os.environ.get("PRIME_TEAM_ID", self._prime_login().get("team_id"))
        return {**({"X-Prime-Team-ID": team} if team else {}), **self.extra_headers}

    def _prime_login(self) -> Mapping[str, Any]:
        if self.api_key_var != PRIME_KEY or urlsplit(self.api_base_url).hostname != PRIME_HOST:
            return {}
        return prime_login()


def _defaults(client_type: str) -> tuple[str, str]:
    return ANTHROPIC if client_type == "anthropic_messages" else OPENAI


def prime_login() -> Mapping[str, Any]:
    """What `~/.prime/config.json` holds of a login with Prime itself; nothing for any other Hub, whose key is its own."""
    from prime_core.config import VENDOR_BASE_URL, ConfigFile, clean_base_url
    from prime_core.errors import ConfigError

    try:
        saved = ConfigFile().read()
    except ConfigError:
        return {}
    return saved if clean_base_url(str(saved.get("base_url") or "")) == VENDOR_BASE_URL else {}


def headers_from_state(wanted: Mapping[str, str], state: Any) -> dict[str, str]:
    """The headers that tell of a rollout: those whose key its state has. What a header cannot hold is percent-encoded."""
    found = {}
    for name, key in wanted.items():
        value = state.get(key)
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            found[name] = quote(text, safe=_PRINTABLE)
    return found
