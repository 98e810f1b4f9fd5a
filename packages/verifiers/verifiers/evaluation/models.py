"""From a model's name to something that answers.

An entry of the endpoints registry; `baseline/…`; else an OpenAI-compatible endpoint: the given base URL,
`OPENAI_BASE_URL`, or the OpenAI API when `OPENAI_API_KEY` is set.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from verifiers.clients.client import Client
from verifiers.evaluation.policies import POLICIES, PREFIX
from verifiers.evaluation.recordings import RecordingError, read_recordings
from verifiers.evaluation.replay import REPLAY, ReplayPolicy
from verifiers.types import ClientConfig
from verifiers.utils.urls import shown_url

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
DEFAULT_MODEL = "openai/gpt-4.1-mini"
DEFAULT_ENDPOINTS_PATH = "./configs/endpoints.toml"


class ModelNotResolved(ValueError):
    """No endpoint for a model; the text says the ways out."""


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
class Endpoint:
    """One `[[endpoint]]` of the registry. `api_key_var` is the name of an environment variable."""

    endpoint_id: str
    model: str
    api_base_url: str
    api_key_var: str
    headers: Mapping[str, str] = field(default_factory=dict)


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
        tables = tomllib.loads(file.read_text(encoding="utf-8")).get("endpoint", [])
    except (OSError, ValueError) as error:
        raise ModelNotResolved(f"The endpoints registry {file} cannot be read: {error}.") from None
    found: dict[str, list[Endpoint]] = {}
    for number, table in enumerate(tables if isinstance(tables, list) else [tables], 1):
        endpoint = _endpoint(table, f"[[endpoint]] number {number} of {file}")
        found.setdefault(endpoint.endpoint_id, []).append(endpoint)
    return found


def _endpoint(table: Any, place: str) -> Endpoint:
    if not isinstance(table, Mapping):
        raise ModelNotResolved(f"{place} must be a table, not {table!r}.")
    values = {
        "endpoint_id": table.get("endpoint_id"),
        "model": table.get("model"),
        "url": table.get("url", table.get("api_base_url")),
        "key": table.get("key", table.get("api_key_var")),
    }
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise ModelNotResolved(f"{place} needs a string `{name}`.")
    endpoint_id, model, url, key = (str(value) for value in values.values())
    kind = table.get("type", table.get("api_client_type", "openai_chat_completions"))
    if kind != "openai_chat_completions":
        raise ModelNotResolved(f"{place} has type {kind!r}; this version speaks openai_chat_completions.")
    check_address(url, f"The `url` of {place}")
    headers: dict[str, str] = {}
    for name in ("headers", "extra_headers"):
        given = table.get(name, {})
        if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
            raise ModelNotResolved(f"{place}: `{name}` must be a table of strings.")
        headers.update(given)
    return Endpoint(endpoint_id, model, url, key, headers)


def resolve_model(
    name: str,
    *,
    base_url: str | None = None,
    api_key_var: str | None = None,
    endpoints_path: str | os.PathLike[str] = DEFAULT_ENDPOINTS_PATH,
    headers: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedModel:
    """Who answers for `name`. Raises ModelNotResolved with a sentence that says the ways out."""
    environ = os.environ if environ is None else environ
    if base_url:
        check_address(base_url, "-b")
    registry = {} if base_url and api_key_var else read_registry(endpoints_path)
    if name in registry:
        return _from_registry(registry[name], base_url, api_key_var, headers, environ, endpoints_path)
    if name.startswith(PREFIX):
        return _baseline(name)
    url = base_url or environ.get("OPENAI_BASE_URL")
    if not url and not environ.get(api_key_var or OPENAI_KEY):
        raise ModelNotResolved(
            f"No endpoint for the model {name!r}: set {api_key_var or OPENAI_KEY}, give an OpenAI-like server with "
            f"-b URL or OPENAI_BASE_URL, add {name!r} to {endpoints_path}, or try without a model: -m baseline/random."
        )
    url = url or OPENAI_URL
    check_address(url, "OPENAI_BASE_URL")
    if _host(url) == _host(OPENAI_URL):
        owner, _, plain = name.rpartition("/")
        if owner not in ("", "openai"):
            raise ModelNotResolved(
                f"The model {name!r} is not one of OpenAI's: give the server that has it with -b URL, "
                f"or add it to {endpoints_path}."
            )
        name = plain
    config = ClientConfig(
        api_key_var=_key_variable(api_key_var, url, environ), api_base_url=url, extra_headers=dict(headers or {})
    )
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


def _from_registry(
    variants: list[Endpoint],
    base_url: str | None,
    api_key_var: str | None,
    headers: Mapping[str, str] | None,
    environ: Mapping[str, str],
    endpoints_path: str | os.PathLike[str],
) -> ResolvedModel:
    if len(variants) > 1:
        raise ModelNotResolved(
            f"The endpoint {variants[0].endpoint_id!r} stands {len(variants)} times in {endpoints_path}; "
            "keep one of them."
        )
    entry = variants[0]
    url = base_url or entry.api_base_url
    config = ClientConfig(
        api_key_var=_key_variable(api_key_var or entry.api_key_var, url, environ),
        api_base_url=url,
        extra_headers={**entry.headers, **(headers or {})},
    )
    return ResolvedModel(entry.model, config, shown_url(url))


def _key_variable(name: str | None, url: str, environ: Mapping[str, str]) -> str:
    """The variable that holds the key; one that was named must be set, unless the server is on this machine."""
    local = _host(url) in ("localhost", "127.0.0.1", "::1")
    if name and not environ.get(name) and not local:
        raise ModelNotResolved(
            f"The environment variable {name} with the key for {_host(url)} is not set: export {name}=..."
        )
    return name or OPENAI_KEY


def check_address(url: str, place: str, example: str = "http://localhost:8000/v1") -> None:
    """Raises ModelNotResolved when `url`, given at `place`, is no http address. Keys in it are not repeated."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ModelNotResolved(f"{place} must be an address such as {example}, not {shown_url(url)!r}.")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
