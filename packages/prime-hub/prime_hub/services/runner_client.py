"""The Hub's side of the runner's wire: HTTP and JSON over a unix socket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from prime_hub.errors import (
    BadGateway,
    Conflict,
    Gone,
    HubError,
    Invalid,
    NotFound,
    RequestTimeout,
    StorageFull,
    TooLarge,
    Unavailable,
)
from prime_hub.operations.request_ids import HEADER, current

QUICK_SECONDS = 15.0
HOLD_SLACK_SECONDS = 10.0


class RunnerDown(Unavailable):
    """Nobody answers on the runner's socket."""


class RunnerClient:
    """Calls on one runner. Every method raises RunnerDown when it is not there, and HubError kinds for its refusals."""

    def __init__(self, socket: Path, on_down: Callable[[], None] = lambda: None) -> None:
        self._on_down = on_down
        transport = httpx.AsyncHTTPTransport(
            uds=str(socket), limits=httpx.Limits(max_connections=None, max_keepalive_connections=32)
        )
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://runner", trust_env=False, event_hooks={"request": [_name_request]}
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        params: dict[str, Any] | None = None,
        timeout: float = QUICK_SECONDS,
    ) -> dict[str, Any]:
        """One JSON call."""
        try:
            answer = await self._http.request(method, path, json=body, params=params, timeout=timeout)
        except httpx.TimeoutException as error:
            raise Unavailable(f"The Hub's runner did not answer within {timeout:g} seconds.") from error
        except httpx.TransportError as error:
            raise self._down("is not answering; it is started again by itself") from error
        if answer.status_code >= 400:
            raise refusal(answer.status_code, answer.content)
        return answer.json() if answer.content else {}

    async def hold(self, path: str, wait: float, **params: Any) -> dict[str, Any]:
        """A GET that the runner may hold for `wait` seconds."""
        return await self.call("GET", path, params={"wait": wait, **params}, timeout=wait + HOLD_SLACK_SECONDS)

    def _down(self, what: str) -> RunnerDown:
        self._on_down()
        return RunnerDown(f"The Hub's runner {what}.")

    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content: AsyncIterator[bytes] | bytes | None = None,
        silence: float | None = QUICK_SECONDS,
    ) -> httpx.Response:
        """A call whose answer is read while it comes, and closed by the caller. `silence` is how many seconds the
        runner may take for the next part of it.
        """
        # How long a sandbox takes for what it is sent is its own affair.
        limits = httpx.Timeout(silence, connect=QUICK_SECONDS, write=None)
        request = self._http.build_request(method, path, params=params, json=body, content=content, timeout=limits)
        try:
            answer = await self._http.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise Unavailable(f"The Hub's runner did not answer within {silence:g} seconds.") from error
        except httpx.TransportError as error:
            raise self._down("is not answering; it is started again by itself") from error
        if answer.status_code < 400:
            return answer
        try:
            raise refusal(answer.status_code, await answer.aread())
        finally:
            await answer.aclose()

    async def put_file(self, sandbox: str, path: str, chunks: AsyncIterator[bytes], timeout: float) -> dict[str, Any]:
        """Stream a file into a sandbox."""
        try:
            answer = await self._http.put(
                f"/sandboxes/{sandbox}/files", params={"path": path}, content=chunks, timeout=timeout
            )
        except httpx.TimeoutException as error:
            raise Unavailable(f"The Hub's runner did not take the file within {timeout:g} seconds.") from error
        except httpx.TransportError as error:
            raise self._down("went away while a file was being sent; try again") from error
        if answer.status_code >= 400:
            raise refusal(answer.status_code, answer.content)
        return answer.json() if answer.content else {}

    async def get_file(
        self, sandbox: str, path: str, offset: int, length: int | None, timeout: float
    ) -> tuple[int, int, AsyncIterator[bytes]]:
        """(the whole file's size, the window's first byte, the window in parts)."""
        params: dict[str, Any] = {"path": path, "offset": offset}
        if length is not None:
            params["length"] = length
        request = self._http.build_request("GET", f"/sandboxes/{sandbox}/files", params=params, timeout=timeout)
        try:
            answer = await self._http.send(request, stream=True)
            if answer.status_code >= 400:
                body = await answer.aread()
                await answer.aclose()
                raise refusal(answer.status_code, body)
        except httpx.TimeoutException as error:
            raise Unavailable(f"The Hub's runner did not give the file within {timeout:g} seconds.") from error
        except httpx.TransportError as error:
            raise self._down("went away while a file was being read; try again") from error
        size = int(answer.headers["x-file-size"])
        return size, int(answer.headers["x-file-offset"]), parts(answer)


async def _name_request(request: httpx.Request) -> None:
    """The runner's log says for which request it did something."""
    if request_id := current():
        request.headers[HEADER] = request_id


async def parts(answer: httpx.Response) -> AsyncGenerator[bytes]:
    """The rest of an answer as it comes; closes it, and raises RunnerDown when it breaks off."""
    try:
        async for part in answer.aiter_raw():
            yield part
    except httpx.TransportError as error:
        raise RunnerDown("The Hub's runner went away in the middle of its answer; try again.") from error
    finally:
        await answer.aclose()


def refusal(status: int, body: bytes) -> HubError:
    """The runner's refusal as the Hub's own, its sentence and code kept."""
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    detail = str(content.get("detail") or f"the runner answered {status}")
    code = content.get("error") if isinstance(content.get("error"), str) else None
    kinds: dict[int, type[HubError]] = {
        404: NotFound,
        408: RequestTimeout,
        410: Gone,
        400: Invalid,
        409: Conflict,
        413: TooLarge,
        422: Invalid,
        507: StorageFull,
    }
    return kinds.get(status, BadGateway)(detail, code=code)
