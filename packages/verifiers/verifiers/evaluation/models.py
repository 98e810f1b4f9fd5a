"""From a model's name to something that answers.

An entry of the endpoints registry; `baseline/…`; else a provider, known by name or by its address: the given base URL,
`OPENAI_BASE_URL`, or the OpenAI API when `OPENAI_API_KEY` is set. What is given explicitly (provider, then address, key
variable, client type, headers) is laid over an entry of the registry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from urllib.parse import urlsplit

from verifiers.clients.client import Client
from verifiers.clients.config import ANTHROPIC, OPENAI, PRIME_HOST, PRIME_KEY, prime_login
from verifiers.evaluation.endpoints import (
    PROVIDERS,
    Endpoint,
    ModelNotResolved,
    check_address,
    check_client_type,
    provider_config,
    read_registry,
)
from verifiers.evaluation.policies import POLICIES, PREFIX
from verifiers.evaluation.recordings import RecordingError, read_recordings
from verifiers.evaluation.replay import REPLAY, ReplayPolicy
from verifiers.types import ClientConfig
from verifiers.utils.urls import shown_url

__all__ = ["ModelNotResolved", "ResolvedModel", "check_address", "provider_config", "read_registry", "resolve_model"]

DEFAULT_MODEL = "openai/gpt-4.1-mini"
DEFAULT_ENDPOINTS_PATH = "./configs/endpoints.toml"
DEFAULT_HEADERS_FROM_STATE = {"X-Session-ID": "example_id"}
"""What routers use to send the turns of one conversation to one server, where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The name to send, and what to send it to: a ClientConfig, or a policy.

    `base_url` is the address without anything secret in it, "" for a policy. `recording` is the file that is replayed.
    """

    model: str
    client: Client | ClientConfig
    base_url: str = ""
    recording: str = ""


@dataclass(frozen=True, slots=True)
class _Given:
    """What was said besides the model's name."""

    provider: str | None
    base_url: str | None
    api_key_var: str | None
    client_type: str | None
    headers: Mapping[str, str]
    headers_from_state: Mapping[str, str]
    environ: Mapping[str, str]

    def over(self, config: ClientConfig, key_needed: bool = True) -> ClientConfig:
        """The config with all of it, checked. key_needed: somebody has named the variable with the key."""
        if self.provider:
            named = provider_config(self.provider)
            config = replace(
                config,
                api_base_url=named.api_base_url,
                api_key_var=named.api_key_var,
                client_type=named.client_type,
                prices=None,
            )
        if self.client_type:
            config = replace(config, client_type=check_client_type(self.client_type, "--api-client-type"))
        url = self.base_url or config.api_base_url
        if config.client_type == "anthropic_messages" and find_spec("anthropic") is None:
            from verifiers.clients.anthropic_messages_client import NOT_INSTALLED

            raise ModelNotResolved(NOT_INSTALLED)
        key = self.api_key_var or config.api_key_var
        if key_needed:
            _check_key(key, url, self.environ)
        return replace(
            config,
            api_base_url=url,
            api_key_var=key,
            extra_headers={**config.extra_headers, **self.headers},
            extra_headers_from_state={**config.extra_headers_from_state, **self.headers_from_state}
            or DEFAULT_HEADERS_FROM_STATE,
        )


def resolve_model(
    name: str,
    *,
    provider: str | None = None,
    base_url: str | None = None,
    api_key_var: str | None = None,
    client_type: str | None = None,
    endpoints_path: str | os.PathLike[str] = DEFAULT_ENDPOINTS_PATH,
    headers: Mapping[str, str] | None = None,
    headers_from_state: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedModel:
    """Who answers for `name`. Raises ModelNotResolved with a sentence that says the ways out."""
    environ = os.environ if environ is None else environ
    if base_url:
        check_address(base_url, "-b")
    given = _Given(provider, base_url, api_key_var, client_type, headers or {}, headers_from_state or {}, environ)
    registry = {} if base_url and api_key_var else read_registry(endpoints_path)
    if name in registry:
        return _from_registry(registry[name], given)
    if name.startswith(PREFIX):
        return _baseline(name)
    if provider:
        config = given.over(ClientConfig())
        if PROVIDERS[provider].own_models:
            name = name.removeprefix(f"{provider}/")
        return ResolvedModel(name, config, shown_url(config.api_base_url))
    anthropic = client_type == "anthropic_messages"
    (default_url, key), url_variable = (ANTHROPIC, "ANTHROPIC_BASE_URL") if anthropic else (OPENAI, "OPENAI_BASE_URL")
    url = base_url or environ.get(url_variable)
    if not url and not environ.get(api_key_var or key):
        raise ModelNotResolved(
            f"No endpoint for the model {name!r}: set {api_key_var or key}, name a provider with -p, give an OpenAI-like "
            f"server with -b URL or OPENAI_BASE_URL, add {name!r} to {endpoints_path}, or try without a model: "
            "-m baseline/random."
        )
    url = url or default_url
    check_address(url, url_variable)
    if _host(url) == _host(OPENAI[0]):
        owner, _, plain = name.rpartition("/")
        if owner not in ("", "openai"):
            raise ModelNotResolved(
                f"The model {name!r} is not one of OpenAI's: name the provider that has it with -p, give its server with "
                f"-b URL, or add it to {endpoints_path}."
            )
        name = plain
    elif _host(url) == _host(ANTHROPIC[0]):
        name = name.removeprefix("anthropic/")
    config = ClientConfig(
        client_type="anthropic_messages" if anthropic else "openai_chat_completions", api_base_url=url
    )
    config = given.over(config, key_needed=bool(api_key_var))
    return ResolvedModel(name, config, shown_url(url))


def _baseline(name: str) -> ResolvedModel:
    if name in POLICIES:
        return ResolvedModel(name, POLICIES[name]())
    plain, _, file = name.partition(":")
    if plain == REPLAY:
        if not file:
            raise ModelNotResolved(f"{REPLAY} needs what to replay, the results of a run: -m {REPLAY}:FILE.")
        try:
            recordings = read_recordings(file)
        except RecordingError as error:
            raise ModelNotResolved(str(error)) from None
        return ResolvedModel(f"{REPLAY}:{recordings.label}", ReplayPolicy(recordings), recording=str(recordings.path))
    near = get_close_matches(
        plain.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in (*POLICIES, REPLAY)], 1
    )
    meant = f" Did you mean {PREFIX}{near[0]}?" if near else ""
    raise ModelNotResolved(f"There is no policy {name!r}.{meant} There are {', '.join(POLICIES)} and {REPLAY}:FILE.")


def _from_registry(variants: list[Endpoint], given: _Given) -> ResolvedModel:
    models = list(dict.fromkeys(variant.model for variant in variants))
    if len(models) > 1:
        raise ModelNotResolved(
            f"The endpoint {variants[0].endpoint_id!r} stands {len(variants)} times in the registry, with the models "
            f"{' and '.join(models)}: a run measures one model, so give each an endpoint_id of its own."
        )
    if given.base_url or given.provider:  # one address, whatever the registry has
        variants = variants[:1]
    configs = [given.over(variant.config) for variant in variants]
    client = configs[0] if len(configs) == 1 else replace(configs[0], endpoint_configs=configs)
    places = dict.fromkeys(shown_url(config.api_base_url) for config in configs)
    return ResolvedModel(variants[0].model, client, ", ".join(places))


def _check_key(variable: str, url: str, environ: Mapping[str, str]) -> None:
    """The variable with the key must be set, unless the server is on this machine."""
    local = _host(url) in ("localhost", "127.0.0.1", "::1")
    saved = variable == PRIME_KEY and _host(url) == PRIME_HOST and prime_login().get("api_key")
    if not environ.get(variable) and not local and not saved:
        raise ModelNotResolved(
            f"The environment variable {variable} with the key for {_host(url)} is not set: export {variable}=..."
        )


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
