"""A Hub's HTTP conventions, without any transport: what a request looks like and what an answer means.

Source: protocols/hub.md §1.6 and §6. `prime_core.api` sends what is built here, once over a sync and once over an
async client.
"""

from __future__ import annotations

import json as jsonlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from prime_core import errors
from prime_core.config import clean_base_url

RETRIES = 3
RETRY_STATUS = frozenset({429, 502, 503, 504})
MAX_WAIT_SECONDS = 10.0
UPLOAD_TIMEOUT_SECONDS = 600.0
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_BY_STATUS: dict[int, type[errors.APIError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
    507: errors.StorageFull,
}
_HINTS = {401: "Run 'prime login' to get a new key."}


def user_agent(program: str = "prime") -> str:
    """`prime/0.1.0 python/3.11.7`."""
    from importlib import metadata

    try:
        version = metadata.version("prime-core")
    except metadata.PackageNotFoundError:
        version = "0"
    return f"{program}/{version} python/{platform.python_version()}"


@dataclass(frozen=True)
class Request:
    """One request as the transports send it. `retry` says that it may be sent again after an answer of RETRY_STATUS."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    params: list[tuple[str, str]] | None = None

    @property
    def retry(self) -> bool:
        return self.method in ("GET", "HEAD")


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port, by which two addresses belong to the same server or not."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's loopback, where no proxy is ever asked."""
    return origin(url)[1] in LOOPBACK_HOSTS


def _params(params: Mapping[str, Any] | None) -> list[tuple[str, str]] | None:
    if not params:
        return None
    flat: list[tuple[str, str]] = []
    for name, value in params.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is not None:
                flat.append((name, str(item).lower() if isinstance(item, bool) else str(item)))
    return flat


class Wire:
    """Builds requests for one Hub and one key, and turns its answers into dicts or errors."""

    def __init__(self, base_url: str, api_key: str | None, agent: str) -> None:
        self.base_url = clean_base_url(base_url) or ""
        self._api_key = api_key
        self._agent = agent

    def url(self, path: str) -> str:
        """`{base}/api/v1{path}`; an absolute URL stays as it is."""
        if path.startswith(("http://", "https://")):
            return path
        return f"{self.base_url}/api/v1/{path.lstrip('/')}"

    def headers(self, url: str) -> dict[str, str]:
        """User agent, and the key when `url` is on the Hub it belongs to."""
        headers = {"User-Agent": self._agent}
        if self._api_key and origin(url) == origin(self.base_url):
            headers["Authorization"] = f"Bearer {self._api_key}"
        return headers

    def request(self, method: str, path: str, json: Any = None, params: Mapping[str, Any] | None = None) -> Request:
        """A JSON request. `params` with a list repeat the name; None is left out."""
        url = self.url(path)
        headers = {**self.headers(url), "Content-Type": "application/json", "Accept": "application/json"}
        content = None if json is None else jsonlib.dumps(json).encode()
        return Request(method, url, headers, content, _params(params))

    def answer(self, status: int, body: bytes, url: str) -> dict[str, Any]:
        """The JSON object of a good answer ({} for an empty one). Raises APIError and its kinds."""
        if not 200 <= status < 300:
            raise self.failure(status, body, url)
        if not body.strip():
            return {}
        try:
            content = jsonlib.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise errors.APIError(
                f"{_shown(url)} did not answer with a JSON object, so it may not be a Hub.",
                status,
                hint="Check the address with 'prime config view'.",
            )
        return content

    def failure(self, status: int, body: bytes, url: str) -> errors.APIError:
        """The error that an answer stands for, its sentence taken from `{"detail": str | list}` when there is one."""
        detail, code = _detail(body)
        if detail is None:
            text = _text(body)
            detail = f"{_shown(url)} answered {status}" + (f": {text}" if text else " without saying why")
        kind = _BY_STATUS.get(status, errors.APIError)
        # The status is for programs written for the official client (protocols/sandboxes.md §2); people get `sentence`.
        message = detail if status in _BY_STATUS else f"HTTP {status}: {detail}"
        if 300 <= status < 400:
            message = f"{_shown(url)} answered with a redirect ({status}), which is not followed for an upload."
        return kind(message, status, detail, _HINTS.get(status), code)

    def unreachable(self, url: str, reason: str) -> errors.Unreachable:
        """The error for a connection that could not be made, or broke."""
        return errors.Unreachable(
            f"Cannot reach {_shown(url)}: {reason.strip() or 'the connection broke'}.",
            hint="Check the address with 'prime config view', or start a Hub of your own with 'prime hub start'.",
        )

    def timed_out(self, url: str, seconds: float | None) -> errors.APITimeout:
        """The error for an answer that did not come."""
        limit = f" within {seconds:g} seconds" if seconds else " in time"
        return errors.APITimeout(f"{_shown(url)} did not answer{limit}.", hint="Try again, or see 'prime hub logs'.")


def _shown(url: str) -> str:
    # Without query and credentials: upload addresses carry a signature there.
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _detail(body: bytes) -> tuple[str | None, str | None]:
    """What a Hub says in a JSON answer, and its word for programs."""
    try:
        content = jsonlib.loads(body[:100_000])
    except ValueError:
        return None, None
    if not isinstance(content, dict):
        return None, None
    detail, code = content.get("detail"), content.get("error")
    if isinstance(detail, list):
        detail = "; ".join(_validation(item) for item in detail)
    return (detail.strip() or None if isinstance(detail, str) else None), (code if isinstance(code, str) else None)


def _text(body: bytes) -> str | None:
    """The words of an answer that is no JSON. A page of HTML helps nobody."""
    text = body[:500].decode("utf-8", "replace").strip()
    return None if text.startswith(("<", "{", "[")) else " ".join(text.split()) or None


def _validation(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = ".".join(str(part) for part in item.get("loc", []) if part != "body")
    return f"{where}: {item.get('msg', 'is not valid')}" if where else str(item.get("msg", "is not valid"))


def wait_before(attempt: int, retry_after: str | None) -> float:
    """Seconds before attempt `attempt` + 1, from 0; what the server asks for is honoured up to MAX_WAIT_SECONDS."""
    if retry_after and retry_after.strip().isdigit():
        return min(float(retry_after), MAX_WAIT_SECONDS)
    return min(0.2 * 3**attempt, MAX_WAIT_SECONDS)
