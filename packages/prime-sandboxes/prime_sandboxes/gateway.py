"""The inside of sandboxes: commands and files, with a token of the sandbox's own (protocols/sandboxes.md §2.2)."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_core.files import atomic_file
from prime_core.wire import Wire
from prime_sandboxes.exceptions import (
    APIError,
    CommandTimeoutError,
    DownloadTimeoutError,
    SandboxFileNotFoundError,
    SandboxFileTooLargeError,
    UploadTimeoutError,
    not_running,
)

if TYPE_CHECKING:
    import httpx

    from prime_sandboxes.transport import Transport

REFRESH_SECONDS = 60.0
SLACK_SECONDS = 15.0
CHUNK_BYTES = 1 << 18


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

    async def send(
        self,
        sandbox_id: str,
        method: str,
        operation: str,
        seconds: float,
        *,
        params: dict[str, Any] | None = None,
        target: Path | None = None,
        **keywords: Any,
    ) -> bytes:
        """One call, its body (or nothing, when it went to `target`). Raises APIError and its kinds,
        SandboxNotRunningError, and httpx.TimeoutException.
        """
        import httpx

        http = await self._transport.http()
        limits = httpx.Timeout(seconds, connect=10.0)
        for attempt in (0, 1):
            access = await self._access(sandbox_id)
            url = f"{access.url}/{operation}"
            wire = Wire(access.url, None, self._transport.agent)
            request = http.build_request(
                method,
                url,
                params=params,
                timeout=limits,
                headers={"Authorization": f"Bearer {access.token}"},
                **keywords,
            )
            try:
                response = await http.send(request, stream=True)
                try:
                    if response.is_success:
                        return await _received(response, target)
                    body = await response.aread()
                finally:
                    await response.aclose()
            except httpx.TimeoutException:
                raise
            except httpx.HTTPError as error:
                raise wire.unreachable(url, str(error)) from None
            if response.status_code == 401 and attempt == 0:
                self.forget(sandbox_id)
                continue
            raise await self._failure(
                sandbox_id, response.status_code, body, wire.failure(response.status_code, body, url)
            )
        raise AssertionError

    async def _failure(self, sandbox_id: str, status: int, body: bytes, error: APIError) -> Exception:
        try:
            code = json.loads(body).get("error")
        except (ValueError, AttributeError):
            code = None
        if code == "sandbox_not_found":
            return not_running(sandbox_id, None, None, error.detail)
        if status == 410 or code == "sandbox_not_running":
            context = await self.error_context(sandbox_id)
            message = context.get("errorMessage") or error.detail
            return not_running(sandbox_id, context.get("status"), context.get("errorType"), message)
        return error

    async def error_context(self, sandbox_id: str) -> dict[str, Any]:
        """What the Hub knows of a sandbox's end; {} when it says nothing."""
        api = await self._transport.api()
        try:
            return await api.get(f"/sandbox/{sandbox_id}/error-context")
        except APIError:
            return {}

    async def execute(
        self, sandbox_id: str, command: str, working_dir: str | None, env: dict[str, str] | None, seconds: float
    ) -> dict[str, Any]:
        """Run a shell command. Raises CommandTimeoutError."""
        import httpx

        body = {
            "command": command,
            "working_dir": working_dir,
            "env": env or {},
            "sandbox_id": sandbox_id,
            "timeout": seconds,
        }
        late = CommandTimeoutError(
            f"The command did not end within {seconds:g} seconds and was killed: {command[:200]}"
        )
        try:
            return json.loads(await self.send(sandbox_id, "POST", "exec", seconds + SLACK_SECONDS, json=body))
        except httpx.TimeoutException:
            raise late from None
        except APIError as error:
            if error.status == 408:
                raise late from None
            raise

    async def upload(
        self, sandbox_id: str, path: str, content: Path | bytes, name: str, seconds: float
    ) -> dict[str, Any]:
        """Put a file into the sandbox; a file on disk is streamed. Raises UploadTimeoutError."""
        import httpx

        params = {"path": path, "sandbox_id": sandbox_id}
        data = await asyncio.to_thread(content.open, "rb") if isinstance(content, Path) else io.BytesIO(content)
        try:
            with data:
                files = {"file": (name, data, "application/octet-stream")}
                return json.loads(await self.send(sandbox_id, "POST", "upload", seconds, params=params, files=files))
        except httpx.TimeoutException:
            raise UploadTimeoutError(f"The upload of {name} did not end within {seconds:g} seconds.") from None

    async def download(self, sandbox_id: str, path: str, target: Path, seconds: float) -> None:
        """Fetch a file; `target` is written in one step. Raises DownloadTimeoutError, SandboxFileNotFoundError."""
        import httpx

        params = {"path": path, "sandbox_id": sandbox_id}
        try:
            await self.send(sandbox_id, "GET", "download", seconds, params=params, target=target)
        except httpx.TimeoutException:
            raise DownloadTimeoutError(f"The download of {path} did not end within {seconds:g} seconds.") from None
        except APIError as error:
            raise _about_file(error, path) from None

    async def read(
        self, sandbox_id: str, path: str, offset: int | None, length: int | None, seconds: float
    ) -> dict[str, Any]:
        """A window of a file as text. Raises SandboxFileNotFoundError, SandboxFileTooLargeError."""
        import httpx

        window = {name: value for name, value in (("offset", offset), ("length", length)) if value is not None}
        params = {"path": path, **window}
        try:
            return json.loads(await self.send(sandbox_id, "GET", "read-file", seconds, params=params))
        except httpx.TimeoutException:
            raise DownloadTimeoutError(f"{path} could not be read within {seconds:g} seconds.") from None
        except APIError as error:
            raise _about_file(error, path) from None


def _about_file(error: APIError, path: str) -> APIError:
    if error.status == 404:
        return SandboxFileNotFoundError(error.detail or f"There is no file {path} in the sandbox.", 404, error.detail)
    if error.status == 413:
        return SandboxFileTooLargeError(error.detail or f"{path} is too large to be read at once.", 413, error.detail)
    return error


async def _received(response: httpx.Response, target: Path | None) -> bytes:
    if target is None:
        return await response.aread()
    with atomic_file(target) as file:
        async for chunk in response.aiter_bytes(CHUNK_BYTES):
            await asyncio.to_thread(file.write, chunk)
    return b""
