"""Where models answer: the endpoints registry (endpoints.toml) and the providers known by name.

    [[endpoint]]
    endpoint_id = "qwen"                      what -m takes
    model = "Qwen/Qwen3-8B"                   the name that is sent
    url = "http://localhost:8000/v1"          or api_base_url
    key = "VLLM_API_KEY"                      or api_key_var: the NAME of an environment variable
    type = "openai_chat_completions"          or api_client_type; this one where it is left out
    headers = { "X-Team" = "blue" }           or extra_headers
    headers_from_state = { "X-Session-ID" = "example_id" }    or extra_headers_from_state
    input_price = 0.15                        USD per million tokens; with output_price, and cached_input_price where
    output_price = 0.6                        input read from the provider's cache is cheaper

Also timeout, connect_timeout (seconds), max_retries, max_connections and max_keepalive_connections. Tables with the same
endpoint_id are variants: the same model in several places, used in turn, each example staying with one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from verifiers.clients.resolve import CLIENT_TYPES, refusal
from verifiers.types import ClientConfig, Prices
from verifiers.utils.urls import shown_url


class ModelNotResolved(ValueError):
    """No endpoint for a model; the text says the ways out."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One `[[endpoint]]` of the registry."""

    endpoint_id: str
    model: str
    config: ClientConfig


@dataclass(frozen=True, slots=True)
class Provider:
    """An address known by name; `key` names the environment variable that its users have their key in."""

    url: str
    key: str
    client_type: str = "openai_chat_completions"
    own_models: bool = True
    """Whether it serves models of its own, so that `NAME/model` is `model` to it."""


PROVIDERS = {
    "prime": Provider("https://api.pinference.ai/api/v1", "PRIME_API_KEY", own_models=False),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", own_models=False),
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "anthropic_messages"),
    "minimax": Provider("https://api.minimax.io/v1", "MINIMAX_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "glm": Provider("https://api.z.ai/api/paas/v4", "GLM_API_KEY"),
    "local": Provider("http://localhost:8000/v1", "VLLM_API_KEY", own_models=False),
    "vllm": Provider("http://localhost:8000/v1", "VLLM_API_KEY", own_models=False),
}


def provider_config(name: str) -> ClientConfig:
    """How to reach a provider. Raises ModelNotResolved with the names there are."""
    provider = PROVIDERS.get(name)
    if provider is None:
        raise ModelNotResolved(f"There is no provider {name!r}; there are {', '.join(PROVIDERS)}.")
    return ClientConfig(client_type=provider.client_type, api_base_url=provider.url, api_key_var=provider.key)


def check_client_type(client_type: Any, place: str) -> str:
    """The type itself. Raises ModelNotResolved when it is not spoken."""
    if client_type not in CLIENT_TYPES:
        raise ModelNotResolved(f"{place}: {refusal(client_type)}")
    return client_type


def check_address(url: str, place: str, example: str = "http://localhost:8000/v1") -> None:
    """Raises ModelNotResolved when `url`, given at `place`, is no http address. Keys in it are not repeated."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ModelNotResolved(f"{place} must be an address such as {example}, not {shown_url(url)!r}.")


# The registry

_SPELLINGS = {
    "url": "api_base_url",
    "key": "api_key_var",
    "type": "client_type",
    "api_client_type": "client_type",
    "headers": "extra_headers",
    "headers_from_state": "extra_headers_from_state",
}
_PRICES = ("input_price", "output_price", "cached_input_price")
_NUMBERS = ("timeout", "connect_timeout", "max_retries", "max_connections", "max_keepalive_connections")
_WHOLE = _NUMBERS[2:]
_TABLES = ("extra_headers", "extra_headers_from_state")
_TEXTS = ("endpoint_id", "model", "api_base_url", "api_key_var")
_KNOWN = {*_TEXTS, "client_type", *_TABLES, *_NUMBERS, *_PRICES}
_SHORT = {"api_base_url": "url", "api_key_var": "key"}


def read_registry(path: str | os.PathLike[str]) -> dict[str, list[Endpoint]]:
    """The registry at `path`; empty when there is no file. Raises ModelNotResolved with a sentence for a broken one."""
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / "endpoints.toml"
    if not file.is_file():
        return {}
    if file.suffix == ".py":
        raise ModelNotResolved(
            f"{file} is a Python endpoint registry; write it as endpoints.toml with [[endpoint]] tables."
        )
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotResolved(f"The endpoints registry {file} cannot be read: {error}.") from None
    if near := get_close_matches("endpoint", [name for name in written if name != "endpoint"], 1):
        raise ModelNotResolved(f"{file} has [[{near[0]}]], meant is perhaps [[endpoint]].")
    tables = written.get("endpoint", [])
    found: dict[str, list[Endpoint]] = {}
    for number, table in enumerate(tables if isinstance(tables, list) else [tables], 1):
        endpoint = _endpoint(table, f"[[endpoint]] number {number} of {file}")
        found.setdefault(endpoint.endpoint_id, []).append(endpoint)
    return found


def _endpoint(table: Any, place: str) -> Endpoint:
    if not isinstance(table, Mapping):
        raise ModelNotResolved(f"{place} must be a table, not {table!r}.")
    given: dict[str, Any] = {}
    for written, value in table.items():
        name = _SPELLINGS.get(written, written)
        if name not in _KNOWN:
            raise ModelNotResolved(f"{place} has an unknown field `{written}`{_meant(written)}.")
        if name in given and name not in _TABLES:
            raise ModelNotResolved(f"{place} gives `{written}` twice, in two spellings.")
        given[name] = {**given.get(name, {}), **_table(value, written, place)} if name in _TABLES else value
    for name in _TEXTS:
        if not isinstance(given.get(name), str) or not given[name]:
            raise ModelNotResolved(f"{place} needs a string `{_SHORT.get(name, name)}`.")
    kind = check_client_type(given.get("client_type", "openai_chat_completions"), place)
    check_address(given["api_base_url"], f"The `url` of {place}")
    numbers = {name: _number(given[name], name, place) for name in (*_NUMBERS, *_PRICES) if name in given}
    config = ClientConfig(
        **{name: given[name] for name in ("api_base_url", "api_key_var", *_TABLES) if name in given},
        **{name: numbers[name] for name in _NUMBERS if name in numbers},
        client_type=kind,
        prices=_prices(numbers, place),
    )
    return Endpoint(given["endpoint_id"], given["model"], config)


def _meant(written: str) -> str:
    near = get_close_matches(written, [*_KNOWN, *_SPELLINGS], 1)
    return f", meant is perhaps `{near[0]}`" if near else ""


def _table(value: Any, name: str, place: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(inner, str) for inner in value.values()):
        raise ModelNotResolved(f"{place}: `{name}` must be a table of strings.")
    return dict(value)


def _number(value: Any, name: str, place: str) -> Any:
    usable = isinstance(value, int if name in _WHOLE else int | float) and not isinstance(value, bool) and value >= 0
    if not usable:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise ModelNotResolved(f"{place}: `{name}` must be {kind}, 0 or more, not {value!r}.")
    return value


def _prices(numbers: Mapping[str, Any], place: str) -> Prices | None:
    given = [name for name in _PRICES if name in numbers]
    if not given:
        return None
    for name in _PRICES[:2]:
        if name not in numbers:
            raise ModelNotResolved(
                f"{place} has `{given[0]}` and no `{name}`: a cost needs both (USD per million tokens)."
            )
    return Prices(numbers["input_price"], numbers["output_price"], numbers.get("cached_input_price"))
