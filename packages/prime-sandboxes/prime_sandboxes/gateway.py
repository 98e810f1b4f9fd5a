"""The inside of sandboxes: one request to it, with a token of the sandbox's own (protocols/sandboxes.md §2.2).

Sent again: what certainly never reached the sandbox (no connection, a token that ran out, 429 after as long as it says),
and GET after a broken connection or 502, 503, 504. Nothing else: a command that may have begun is never run twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prime_core.wire import RETRIES, Wire, wait_before
from prime_sandboxes.exceptions import (
    APIError,
    SandboxFileNotFoundError,
    SandboxFileTooLargeError,
    not_running,
)

if TYPE_CHECKING:
    import httpx

    from prime_sandboxes.transport import Transport

    Body = Callable[[], bytes | AsyncIterable[bytes]]

REFRESH_SECONDS = 60.0
CONNECT_SECONDS = 10.0
BUSY_ATTEMPTS = 6
PASSING = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Access:
    """Where a sandbox's inside is, and the token for it."""

    url: str
    token: str = field(repr=False)
    expires: float

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> Access:
        """Raises APIError when something is missing."""
        try:
            url = f"{str(answer['gateway_url']).rstrip('/')}/{answer['user_ns']}/{answer['job_id']}"
            moment = datetime.fromisoformat(str(answer["expires_at"]).replace("Z", "+00:00"))
            token = str(answer["token"])
        except (KeyError, ValueError):
            raise APIError("The Hub's answer does not say how the sandbox is reached; is it a newer Hub?") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return cls(url, token, moment.timestamp())


class Gateway:
    """Calls into sandboxes, through one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, Access] = {}

    @property
    def closings(self) -> int:
        """How often the connections were closed."""
        return self._transport.closings

    def remember(self, sandbox_id: str, answer: object) -> None:
        """Keep the access that came along with another answer."""
        if isinstance(answer, dict):
            self._known[sandbox_id] = Access.from_wire(answer)

    def forget(self, sandbox_id: str) -> None:
        """The sandbox is gone."""
        self._known.pop(sandbox_id, None)

    async def _access(self, sandbox_id: str) -> Access:
        known = self._known.get(sandbox_id)
        if known is None or known.expires - time.time() < REFRESH_SECONDS:
            api = await self._transport.api()
            known = Access.from_wire(await api.post(f"/sandbox/{sandbox_id}/auth"))
            self._known[sandbox_id] = known
        return known

    async def send(self, sandbox_id: str, method: str, operation: str, seconds: float | None, **keywords: Any) -> bytes:
        """One call and its whole answer. Raises what `open` raises."""
        import httpx

        response = await self.open(sandbox_id, method, operation, seconds, **keywords)
        try:
            return await response.aread()
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as error:
            raise self._broken(response, error) from None
        finally:
            await response.aclose()

    async def json(
        self, sandbox_id: str, method: str, operation: str, seconds: float | None, **keywords: Any
    ) -> dict[str, Any]:
        """One call and the object it answers. Raises what `open` raises."""
        answer = await self.send(sandbox_id, method, operation, seconds, **keywords)
        try:
            found = json.loads(answer or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise APIError("The sandbox's gateway did not answer with a JSON object; is something else in between?")
        return found

    async def open(
        self,
        sandbox_id: str,
        method: str,
        operation: str,
        seconds: float | None,
        *,
        params: dict[str, Any] | None = None,
        body: Body | None = None,
        repeatable: bool = False,
        **keywords: Any,
    ) -> httpx.Response:
        """One call, its answer's head; the caller reads and closes it. `seconds` is the longest silence.

        `body` makes what is sent, anew for each attempt; `repeatable` calls may be sent again as GETs are. Raises
        APIError and its kinds, SandboxNotRunningError and its kinds, and httpx.TimeoutException.
        """
        import asyncio

        import httpx

        http = await self._transport.http()
        limits = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        repeatable = repeatable or method in ("GET", "HEAD")
        given = {name: value for name, value in (params or {}).items() if value is not None}
        renewed, attempt, busy = False, 0, 0
        while True:
            access = await self._access(sandbox_id)
            url = f"{access.url}/{operation}"
            wire = Wire(access.url, None, self._transport.agent)
            if body is not None:
                keywords["content"] = body()
            headers = {"Authorization": f"Bearer {access.token}"}
            request = http.build_request(method, url, params=given, timeout=limits, headers=headers, **keywords)
            try:
                response = await http.send(request, stream=True)
            except httpx.HTTPError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                broken = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.TimeoutException)
                attempt += 1
                if attempt < RETRIES and (never_sent or (repeatable and broken)):
                    await asyncio.sleep(wait_before(attempt - 1, None))
                    continue
                if isinstance(error, httpx.TimeoutException) and not never_sent:
                    raise
                raise wire.unreachable(url, str(error)) from None
            if response.is_success:
                return response
            try:
                failed = await response.aread()
            except httpx.HTTPError:
                failed = b""
            finally:
                await response.aclose()
            status = response.status_code
            if status == 401 and not renewed:
                renewed = True
                self.forget(sandbox_id)
                continue
            if status == 429 and busy < BUSY_ATTEMPTS:
                await asyncio.sleep(wait_before(busy, response.headers.get("Retry-After")))
                busy += 1
                continue
            attempt += 1
            if repeatable and status in PASSING and attempt < RETRIES and not _word(failed):
                await asyncio.sleep(wait_before(attempt - 1, response.headers.get("Retry-After")))
                continue
            raise await self._failure(sandbox_id, status, failed, wire.failure(status, failed, url))

    def _broken(self, response: httpx.Response, error: Exception) -> APIError:
        url = str(response.url)
        return Wire(url, None, self._transport.agent).unreachable(url, str(error) or type(error).__name__)

    async def _failure(self, sandbox_id: str, status: int, body: bytes, error: APIError) -> Exception:
        word = _word(body)
        if word == "sandbox_not_found":
            return not_running(sandbox_id, None, None, error.detail)
        if status == 410 or word in ("sandbox_not_running", "sandbox_terminated"):
            return await self.ended(sandbox_id, error.detail)
        return error

    async def ended(self, sandbox_id: str, detail: str | None) -> Exception:
        """The error for a sandbox that is said not to run, of the kind that the Hub's record says."""
        context = await self.error_context(sandbox_id)
        message = context.get("errorMessage") or detail
        return not_running(sandbox_id, context.get("status"), context.get("errorType"), message)

    async def error_context(self, sandbox_id: str) -> dict[str, Any]:
        """What the Hub knows of a sandbox's end; {} when it says nothing."""
        api = await self._transport.api()
        try:
            return await api.get(f"/sandbox/{sandbox_id}/error-context")
        except APIError:
            return {}


def _word(body: bytes) -> str | None:
    """The `error` word of an answer, by which programs tell its kind."""
    try:
        found = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def about_file(error: APIError, path: str) -> APIError:
    """The error as the official kinds have it, when it is about a file."""
    if error.status == 404:
        return SandboxFileNotFoundError(error.detail or f"There is no file {path} in the sandbox.", 404, error.detail)
    if error.status == 413:
        return SandboxFileTooLargeError(error.detail or f"{path} is too large to be read at once.", 413, error.detail)
    return error
