"""Talking to a Hub: the same calls once sync and once async.

What is sent and what an answer means is `prime_core.wire`; here are only the two transports. httpx is imported at the
first call, so that importing this module costs nothing. Retried, at most three times: connections that could not be
made, and GET after 429, 502, 503, 504 or a broken connection. An upload or a download is sent once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from prime_core import errors
from prime_core.files import atomic_file
from prime_core.wire import (
    RETRIES,
    RETRY_STATUS,
    UPLOAD_TIMEOUT_SECONDS,
    Request,
    Wire,
    is_loopback,
    user_agent,
    wait_before,
)

if TYPE_CHECKING:
    import httpx

CHUNK_BYTES = 1 << 20
# A Hub may be anybody's: what it sends is not taken in without end.
MAX_ANSWER_BYTES = 64 << 20
MAX_DOWNLOAD_BYTES = 2 << 30


class _Client:
    """What both clients share: the wire, the time limit and the meaning of a transport's exceptions."""

    def __init__(
        self, base_url: str, api_key: str | None = None, user_agent: str | None = None, timeout: float = 30.0
    ) -> None:
        self._wire = Wire(base_url, api_key, user_agent or _default_agent())
        self._timeout = timeout

    @property
    def base_url(self) -> str:
        """The Hub's address, without `/api/v1`."""
        return self._wire.base_url

    def _limits(self, timeout: float | None) -> httpx.Timeout:
        import httpx

        seconds = timeout or self._timeout
        return httpx.Timeout(seconds, connect=min(10.0, seconds))

    @contextmanager
    def _meaning(self, url: str, timeout: float | None) -> Generator[None]:
        import httpx

        try:
            yield
        except httpx.TimeoutException:
            raise self._wire.timed_out(url, timeout or self._timeout) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise self._wire.unreachable(url, "this is not an http(s) address") from None
        except httpx.HTTPError as error:
            raise self._wire.unreachable(url, str(error) or type(error).__name__) from None

    def _again(self, request: Request, attempt: int, outcome: httpx.Response | Exception) -> float | None:
        """Seconds to wait before sending `request` again, or None when `outcome` stands."""
        import httpx

        if attempt + 1 >= RETRIES:
            return None
        if isinstance(outcome, httpx.Response):
            again = request.retry and outcome.status_code in RETRY_STATUS
            return wait_before(attempt, outcome.headers.get("Retry-After")) if again else None
        never_sent = isinstance(outcome, httpx.ConnectError)
        broken = isinstance(outcome, httpx.TransportError) and not isinstance(outcome, httpx.TimeoutException)
        return wait_before(attempt, None) if never_sent or (request.retry and broken) else None

    def _keywords(self, request: Request, timeout: float | None) -> dict[str, Any]:
        return {
            "headers": request.headers,
            "content": request.content,
            "params": request.params,
            "timeout": self._limits(timeout),
            "follow_redirects": True,
        }


@contextmanager
def _written(target: Path) -> Generator[BinaryIO]:
    try:
        with atomic_file(target) as file:
            yield file
    except OSError as error:
        raise errors.APIError(f"The download cannot be written to {target}: {error.strerror or error}.") from None


def _default_agent() -> str:
    return user_agent()


class _Answer:
    """The body of an answer as it comes, unpacked; too much of it is an APIError."""

    def __init__(self, url: str) -> None:
        self._url, self._body = url, bytearray()

    def add(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > MAX_ANSWER_BYTES:
            raise errors.APIError(
                f"The answer of {self._url.split('?')[0]} is larger than {MAX_ANSWER_BYTES} bytes; it was not read.",
                hint="See with 'prime config view' whether this is a Hub.",
            )

    def of(self, response: httpx.Response) -> httpx.Response:
        """The whole answer, not packed any more."""
        import httpx

        kept = {name: value for name, value in response.headers.items() if name == "retry-after"}
        return httpx.Response(response.status_code, headers=kept, content=bytes(self._body))


class _Sink:
    """Where a download goes: counts, hashes and writes what comes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_DOWNLOAD_BYTES:
            raise errors.APIError(f"The download is larger than {MAX_DOWNLOAD_BYTES} bytes; it was thrown away.")
        self._hash.update(chunk)
        self._file.write(chunk)

    def check(self, url: str, sha256: str | None) -> None:
        """Raises APIError when what came is not what was announced."""
        found = self._hash.hexdigest()
        if sha256 and found != sha256.removeprefix("sha256:").lower():
            name = url.split("?")[0].rsplit("/", 1)[-1]
            raise errors.APIError(
                f"The download of {name} has sha256 {found}, but the Hub announced {sha256}; it was thrown away.",
                hint="Try again; if it stays so, tell the Hub's operator.",
            )


class APIClient(_Client):
    """A Hub, synchronously. A context manager; `close()` ends its connections.

    Every call raises APIError or one of its kinds (`prime_core.errors`).
    """

    _http: httpx.Client | None = None

    def _session(self) -> httpx.Client:
        import httpx

        if self._http is None:
            self._http = httpx.Client(trust_env=not is_loopback(self.base_url))
        return self._http

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Send a JSON request to `{base}/api/v1{path}` and return the JSON object of the answer; `timeout` in
        seconds.
        """
        request = self._wire.request(method, path, json, params)
        with self._meaning(request.url, timeout):
            response = self._send(request, timeout)
        return self._wire.answer(response.status_code, response.content, request.url)

    def _send(self, request: Request, timeout: float | None) -> httpx.Response:
        import httpx

        attempt = 0
        while True:
            outcome: httpx.Response | Exception
            try:
                with self._session().stream(
                    request.method, request.url, **self._keywords(request, timeout)
                ) as response:
                    answer = _Answer(request.url)
                    for chunk in response.iter_bytes():
                        answer.add(chunk)
                outcome = answer.of(response)
            except httpx.TransportError as error:
                outcome = error
            wait = self._again(request, attempt, outcome)
            if wait is None:
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
            time.sleep(wait)
            attempt += 1

    def get(self, path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
        """GET. Repeated after a broken connection or an answer that says to try again."""
        return self.request("GET", path, None, params, timeout)

    def post(
        self, path: str, json: Any = None, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """POST with a JSON body, or with none."""
        return self.request("POST", path, json, params, timeout)

    def put(
        self, path: str, json: Any = None, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """PUT with a JSON body."""
        return self.request("PUT", path, json, params, timeout)

    def patch(
        self, path: str, json: Any = None, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """PATCH with a JSON body."""
        return self.request("PATCH", path, json, params, timeout)

    def delete(
        self, path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """DELETE."""
        return self.request("DELETE", path, None, params, timeout)

    def upload(self, url: str, content: Path | bytes, timeout: float = UPLOAD_TIMEOUT_SECONDS) -> dict[str, Any]:
        """PUT bytes or a file to the absolute address that the Hub gave out: no key, no redirects (protocols/hub.md
        §3.3).
        """
        headers, size = _upload_headers(content)
        with self._meaning(url, timeout):
            body: Any = content if isinstance(content, bytes) else _chunks(content)
            response = self._session().put(
                url, content=body, headers={**headers, "Content-Length": size}, timeout=self._limits(timeout)
            )
        if not response.is_success:
            raise self._wire.failure(response.status_code, response.content, url)
        return {}

    def download(self, url_or_path: str, target: Path, sha256: str | None = None, timeout: float | None = None) -> Path:
        """Fetch into `target` in one step, checked against `sha256` when given; nothing is left behind when it
        fails.
        """
        request = self._wire.request("GET", url_or_path)
        request.headers["Accept"] = "*/*"
        with self._meaning(request.url, timeout), _written(target) as file:
            sink = _Sink(file)
            keywords = self._keywords(request, timeout)
            with self._session().stream("GET", request.url, **keywords) as response:
                if not response.is_success:
                    raise self._wire.failure(response.status_code, response.read(), request.url)
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    sink.write(chunk)
            sink.check(request.url, sha256)
        return target

    def close(self) -> None:
        """End all connections; the client can be used again."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def __enter__(self) -> APIClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncAPIClient(_Client):
    """A Hub, asynchronously: the calls of APIClient as coroutines. An async context manager; `aclose()` ends its
    connections.
    """

    _http: httpx.AsyncClient | None = None

    def _session(self) -> httpx.AsyncClient:
        import httpx

        if self._http is None:
            self._http = httpx.AsyncClient(
                trust_env=not is_loopback(self.base_url),
                limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
            )
        return self._http

    async def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """As APIClient.request."""
        request = self._wire.request(method, path, json, params)
        with self._meaning(request.url, timeout):
            response = await self._send(request, timeout)
        return self._wire.answer(response.status_code, response.content, request.url)

    async def _send(self, request: Request, timeout: float | None) -> httpx.Response:
        import asyncio

        import httpx

        attempt = 0
        while True:
            outcome: httpx.Response | Exception
            try:
                keywords = self._keywords(request, timeout)
                async with self._session().stream(request.method, request.url, **keywords) as response:
                    answer = _Answer(request.url)
                    async for chunk in response.aiter_bytes():
                        answer.add(chunk)
                outcome = answer.of(response)
            except httpx.TransportError as error:
                outcome = error
            wait = self._again(request, attempt, outcome)
            if wait is None:
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
            await asyncio.sleep(wait)
            attempt += 1

    async def get(
        self, path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As APIClient.get."""
        return await self.request("GET", path, None, params, timeout)

    async def post(
        self, path: str, json: Any = None, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As APIClient.post."""
        return await self.request("POST", path, json, params, timeout)

    async def put(
        self, path: str, json: Any = None, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As APIClient.put."""
        return await self.request("PUT", path, json, params, timeout)

    async def patch(
        self, path: str, json: Any = None, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As APIClient.patch."""
        return await self.request("PATCH", path, json, params, timeout)

    async def delete(
        self, path: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As APIClient.delete."""
        return await self.request("DELETE", path, None, params, timeout)

    async def upload(self, url: str, content: Path | bytes, timeout: float = UPLOAD_TIMEOUT_SECONDS) -> dict[str, Any]:
        """As APIClient.upload."""
        headers, size = _upload_headers(content)
        with self._meaning(url, timeout):
            body: Any = content if isinstance(content, bytes) else _achunks(content)
            response = await self._session().put(
                url, content=body, headers={**headers, "Content-Length": size}, timeout=self._limits(timeout)
            )
        if not response.is_success:
            raise self._wire.failure(response.status_code, response.content, url)
        return {}

    async def download(
        self, url_or_path: str, target: Path, sha256: str | None = None, timeout: float | None = None
    ) -> Path:
        """As APIClient.download."""
        request = self._wire.request("GET", url_or_path)
        request.headers["Accept"] = "*/*"
        with self._meaning(request.url, timeout), _written(target) as file:
            sink = _Sink(file)
            keywords = self._keywords(request, timeout)
            async with self._session().stream("GET", request.url, **keywords) as response:
                if not response.is_success:
                    raise self._wire.failure(response.status_code, await response.aread(), request.url)
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    sink.write(chunk)
            sink.check(request.url, sha256)
        return target

    async def aclose(self) -> None:
        """End all connections; the client can be used again."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def close(self) -> None:
        """The same as `aclose`."""
        await self.aclose()

    async def __aenter__(self) -> AsyncAPIClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _upload_headers(content: Path | bytes) -> tuple[dict[str, str], str]:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return {"Content-Type": "application/octet-stream", "User-Agent": _default_agent()}, str(size)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


async def _achunks(path: Path) -> AsyncIterator[bytes]:
    for chunk in _chunks(path):
        yield chunk
