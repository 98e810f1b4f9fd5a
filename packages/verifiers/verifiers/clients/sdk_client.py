"""What the clients over a provider's own package have in common: connections, requests, errors and their repetition.

The `openai` and `anthropic` packages are built alike, down to the names of their exceptions.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from inspect import signature
from operator import attrgetter
from typing import Any, ClassVar

from verifiers.clients.client import Client
from verifiers.clients.config import ClientConfig, headers_from_state
from verifiers.clients.content import encodable
from verifiers.clients.retry import (
    LONGEST_RETRY_AFTER_SECONDS,
    SILENT_RETRIES,
    Pause,
    asked_for,
    backoff,
    is_repeated,
    pause_of,
    retry_after,
)
from verifiers.errors import Error, ModelAuthError, ModelError, OverlongPromptError, UnreadableResponseError
from verifiers.errors import RateLimitError as RateLimited
from verifiers.utils.urls import shown_url

_OVERLONG = (
    "this model's maximum context length is",
    "is longer than the model's context length",
    "is longer than the maximum model length",
    "exceeds the model's context length",
    "exceed the configured limit",
    "exceeds the configured limit",
    "exceeded model",
    "prompt_too_long",
    "prompt is too long",
    "context length",
    "context_length_exceeded",
    "context window",
    "exceed context limit",
    "maximum model length",
)
HIDDEN = "[key]"
_SECRET_NAMES = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
"""Of headers whose values are hidden like the key."""
_NO_MONEY = ("insufficient_quota", "credit balance is too low", "insufficient balance")
_REQUEST_OPTIONS = {
    "extra_headers": "headers",
    "extra_query": "params",
    "extra_body": "extra_json",
    "timeout": "timeout",
}


class AnsweredWithError(Exception):
    """An error that came with HTTP 200: what it says, its code, and the status it should have had."""

    def __init__(self, status: int, text: str, code: str = "") -> None:
        super().__init__(text)
        self.status_code = status
        self.code = code


class SDKClient(Client):
    """Takes a ClientConfig, or the package's own asynchronous client, which stays the caller's to close.

    From a config, connections belong to the running event loop: every loop has its own. Requests are repeated by
    us and not by the package: up to the config's, or the given client's, `max_retries` (see `verifiers.clients.retry`).
    """

    CLIENT_TYPE: ClassVar[str]
    PATH: ClassVar[str]
    """Where requests go, below the base URL."""
    CREATE: ClassVar[str]
    """The method of the package's client that does the same."""
    ANSWER: ClassVar[str]
    """What is expected back, for messages."""

    def __init__(self, client_or_config: Any) -> None:
        self.config: ClientConfig | None = None
        self.max_retries = 0
        self.retry_delay_seconds = 1.0
        self._open: dict[asyncio.AbstractEventLoop, tuple[Any, type]] = {}
        self._answered = False
        self._parameters: frozenset[str] | None = None
        self._takes_all = False
        self._native: Any = None
        self._pause: Pause | None = None
        super().__init__(client_or_config)

    def setup_client(self, client_or_config: Any) -> Any:
        if isinstance(client_or_config, ClientConfig):
            self.config = check_config(client_or_config.of_type(self.CLIENT_TYPE))
            self.max_retries = self.config.max_retries
            self.prices = self.config.prices
            return None
        self._native = client_or_config
        if any(base.__name__ == "SyncAPIClient" for base in type(client_or_config).__mro__):
            raise ValueError(
                f"Unsupported client type: {type(client_or_config).__name__} answers only one request at a time. "
                f"Give Async{type(client_or_config).__name__} or a vf.ClientConfig."
            )
        # A copy that shares the connections, since the package would wait and ask again without a word to anybody.
        copy = getattr(type(client_or_config), "with_options", None)
        if copy is None or "create" in vars(attrgetter(self.CREATE.rpartition(".")[0])(client_or_config)):
            return client_or_config
        self.max_retries = client_or_config.max_retries
        self._native = copy(client_or_config, max_retries=0)
        return client_or_config

    @property
    def client(self) -> Any:
        """The package's client: the one that was given, or else that of the running event loop."""
        return self._given if self.config is None else self.native()

    @client.setter
    def client(self, client: Any) -> None:
        self._given = client

    @staticmethod
    @abstractmethod
    def sdk() -> Any:
        """The package."""

    @abstractmethod
    def open_native(self, config: ClientConfig, http_client: Any) -> Any:
        """The package's client over `http_client`."""

    @abstractmethod
    def answer_class(self) -> type:
        """The package's class of an answer."""

    def native(self) -> Any:
        """The package's client for the running loop."""
        return self._native if self.config is None else self._opened()[0]

    def _opened(self) -> tuple[Any, type]:
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            config, sdk = self.config or ClientConfig(), self.sdk()
            # The package names its limits, but not their class.
            limits = type(sdk.DEFAULT_CONNECTION_LIMITS)(
                max_connections=config.max_connections, max_keepalive_connections=config.max_keepalive_connections
            )
            http_client = sdk.DefaultAsyncHttpxClient(limits=limits)
            self._open = {other: opened for other, opened in self._open.items() if not other.is_closed()}
            self._open[loop] = self.open_native(config, http_client), self.answer_class()
        return self._open[loop]

    async def close(self) -> None:
        """Close the connections of the running event loop. The client can be used again afterwards."""
        native, _ = self._open.pop(asyncio.get_running_loop(), (None, None))
        if native is not None:
            await native.close()

    async def send(self, request: dict[str, Any], state: Any) -> Any:
        """The package's answer to `request`, whose `extra_headers`, `extra_query`, `extra_body` and `timeout` are
        options of the call.
        """
        if request.pop("stream", None):
            raise ModelError("A rollout waits for whole answers: leave `stream` out of the sampling arguments.")
        try:
            return await self._sent(dict(request), state)
        except UnicodeEncodeError:  # a model may well have written half a character
            return await self._sent(encodable(request), state)

    async def _sent(self, request: dict[str, Any], state: Any) -> Any:
        if self.config is None:
            create = attrgetter(self.CREATE)(self._native)
            answer = await create(**self._as_it_takes(create, request))
        else:
            if self.config.extra_headers_from_state and state is not None:
                told = headers_from_state(self.config.extra_headers_from_state, state)
                request["extra_headers"] = {**told, **(request.get("extra_headers") or {})}
            native, expected = self._opened()
            # What the package's `create` does, without its walk over every message: half of what a call costs.
            options = {name: request.pop(given) for given, name in _REQUEST_OPTIONS.items() if given in request}
            answer = await native.post(self.PATH, cast_to=expected, body=request, options=options)
        self._answered = True
        return answer

    def _as_it_takes(self, create: Any, request: dict[str, Any]) -> dict[str, Any]:
        """The request for `create`, which refuses names it does not know: such sampling arguments go into extra_body."""
        if self._parameters is None:
            found = signature(create).parameters
            self._parameters = frozenset(found)
            self._takes_all = any(part.kind is part.VAR_KEYWORD for part in found.values())
        unknown = () if self._takes_all else request.keys() - self._parameters
        if unknown:
            further = {name: request.pop(name) for name in unknown}
            request["extra_body"] = {**further, **(request.get("extra_body") or {})}
        return request

    # What goes wrong

    def wait_before_retry(self, error: Exception, attempt: int) -> float | None:
        if attempt > self.max_retries:
            return None
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            self._answered = True
            headers = _headers(error)
            if status < 400 or not is_repeated(status, headers) or self._refused(status, error):
                return None
            asked = retry_after(headers)
            if asked is None:
                return backoff(attempt, self.retry_delay_seconds)
            self.pause.extend(asked, f"the endpoint asked for a pause of {asked:g} s (HTTP {status})")
            return asked * random.uniform(1, 1.1)
        sdk = self.sdk()
        if not isinstance(error, sdk.APIConnectionError):
            return None
        silent = not self._answered or (isinstance(error, sdk.APITimeoutError) and not _while_connecting(error))
        if attempt > SILENT_RETRIES and silent:
            return None
        return backoff(attempt, self.retry_delay_seconds)

    def retry_note(self, error: Exception) -> str:
        asked = asked_for(_headers(error))
        if asked is None or asked <= LONGEST_RETRY_AFTER_SECONDS:
            return ""
        return (
            f" (it asks to wait {asked:.0f} s; {LONGEST_RETRY_AFTER_SECONDS:g} s is the most that is waited at a time)"
        )

    @property
    def pause(self) -> Pause:
        """The pause that the endpoint has asked for, shared by all clients of its address."""
        if self._pause is None:
            self._pause = pause_of(self.address)
        return self._pause

    async def may_ask(self) -> None:
        await self.pause.over()

    def translate_error(self, error: Exception) -> Error:
        sdk = self.sdk()
        text = self._without_key(error)
        status = getattr(error, "status_code", None)
        if isinstance(error, sdk.APIResponseValidationError | json.JSONDecodeError):
            return self.unreadable(text)
        if isinstance(status, int):
            refused = self._refused(status, error)
            if refused:
                return ModelAuthError(f"The model endpoint {self.address} refused the {refused}: {text}")
            if status == 429:
                return RateLimited(f"The model endpoint {self.address} failed: {text}")
            if status == 413 or any(sign in str(error).lower() for sign in _OVERLONG):
                return OverlongPromptError(text)
        elif isinstance(error, sdk.APITimeoutError):
            return ModelError(f"The model endpoint {self.address} did not answer in time.")
        elif isinstance(error, sdk.APIConnectionError):
            return ModelError(f"Could not reach the model endpoint {self.address}: {_reason(error)}")
        elif not isinstance(error, sdk.APIError):  # nothing that the endpoint did
            kind = type(error).__name__
            return ModelError(f"Asking the model endpoint {self.address} failed on this side: {kind}: {error}")
        return ModelError(f"The model endpoint {self.address} failed: {text}")

    def unreadable(self, answer: Any) -> UnreadableResponseError:
        """The error for what is no answer of a model at all."""
        said = " ".join(answer.split()) if isinstance(answer, str) else repr(answer)
        shown = f"{said:.200}" if said else "an empty body"
        page = said[:200].lower()
        hint = " (a web page: is the base URL right?)" if "<html" in page or "<!doctype" in page else ""
        return UnreadableResponseError(
            f"Model returned something that is not {self.ANSWER}: {shown}{hint}. It came from {self.address}"
        )

    def _without_key(self, error: Exception) -> str:
        """What the error says. An endpoint may repeat the key it was given, and so may a header that cannot be sent: it is
        taken out, of the error itself and its causes too.
        """
        key = self.config.api_key() if self.config is not None else getattr(self._native, "api_key", None)
        headers = {} if self.config is None else self.config.headers()
        given = [key, *(value for name, value in headers.items() if _SECRET_NAMES.search(name))]
        # A word such as EMPTY, which local servers take, is none.
        secrets = [one for one in given if isinstance(one, str) and len(one) >= 8]
        text = _hidden(_said(error), secrets)
        link: BaseException | None = error
        seen: set[int] = set()
        while link is not None and id(link) not in seen:
            seen.add(id(link))
            if any(_hidden(str(part), secrets) != str(part) for part in link.args):
                link.args = tuple(part if isinstance(part, int) else _hidden(str(part), secrets) for part in link.args)
            link = link.__cause__
        return text

    def _refused(self, status: int, error: Exception) -> str:
        """What was refused, the key or the account, if that is what the answer says; "" otherwise."""
        if status in (401, 403):
            return "key"
        said = f"{getattr(error, 'code', None)} {error}".lower()
        return "account" if status == 402 or any(sign in said for sign in _NO_MONEY) else ""

    @property
    def address(self) -> str:
        """The base URL, without anything secret in it."""
        return shown_url(self.config.api_base_url if self.config is not None else str(self._native.base_url))


def check_config(config: ClientConfig) -> ClientConfig:
    """The config itself. Raises ValueError with a sentence for what no single client can do."""
    if config.endpoint_configs:
        raise ValueError("A config with several endpoints (endpoint_configs) is for vf.as_client, not for one client.")
    if config.renderer != "auto":
        raise ValueError(
            f"ClientConfig(renderer={config.renderer!r}) asks for prompts that are rendered here. They are rendered by the "
            "server: leave renderer out, and use client_type 'openai_chat_completions_token' where token ids are needed."
        )
    return config


def sampling(sampling_args: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling arguments that say something."""
    arguments = {key: value for key, value in sampling_args.items() if value is not None}
    if not arguments.get("extra_body"):
        arguments.pop("extra_body", None)
    return arguments


def plain(value: Any) -> dict[str, Any]:
    """A part of the package's answer as JSON data, without what is null."""
    return value.to_dict(exclude_none=True) if hasattr(value, "to_dict") else dict(value)


def _headers(error: Exception) -> Mapping[str, str]:
    return getattr(getattr(error, "response", None), "headers", None) or {}


def _while_connecting(error: Exception) -> bool:
    return "Connect" in type(error.__cause__).__name__


def _hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, also as `repr` writes them."""
    for secret in secrets:
        for written in (secret, repr(secret)[1:-1], repr(secret.encode("utf-8", "replace"))[2:-1]):
            text = text.replace(written, HIDDEN)
    return text


def _said(error: Exception) -> str:
    """The endpoint's own words where it has any, with the HTTP status."""
    body = getattr(error, "body", None)
    status = getattr(error, "status_code", "?")
    if isinstance(body, Mapping):
        inner = body.get("error")
        for part in (inner if isinstance(inner, Mapping) else {}, body):
            for name in ("message", "detail"):
                if isinstance(part.get(name), str):
                    return f"{part[name]} (HTTP {status})"
    return str(error) or type(error).__name__


def _reason(error: Exception) -> str:
    """What lies behind a connection error, in the first words that say something."""
    cause = error.__cause__
    while cause is not None and not str(cause):
        cause = cause.__cause__
    return str(cause or error) or type(error).__name__
