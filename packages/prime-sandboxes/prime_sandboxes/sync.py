"""The clients for programs without asyncio: the same calls, driven in an event loop of their own."""

from __future__ import annotations

import asyncio
import builtins
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prime_sandboxes.client import AsyncSandboxClient
from prime_sandboxes.images import AsyncImageClient
from prime_sandboxes.models import (
    BulkDeleteSandboxResponse,
    Capacity,
    CommandResponse,
    CreateSandboxRequest,
    ErrorContext,
    ExposedPort,
    FileUploadResponse,
    Image,
    ImageBuild,
    ReadFileResponse,
    Sandbox,
    SandboxListResponse,
    Usage,
)

if TYPE_CHECKING:
    from prime_core.connection import Connection
    from prime_sandboxes.leases import LeaseKeeper
    from prime_sandboxes.transport import APIClient

Answer = TypeVar("Answer")
LAST_WORDS_SECONDS = 10.0  # for what a cancelled call still has to tell the Hub


class _Loop:
    """An event loop in a thread, begun at the first call and ended by `close`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """The call's answer; a caller that is interrupted cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_turn, args=(self._loop,), name="prime-sandboxes", daemon=True).start()
                # A client that is dropped without `close` takes its thread along.
                self._finalizer = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        ended = threading.Event()

        async def whole() -> Answer:
            try:
                return await call
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(LAST_WORDS_SECONDS)
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last call and end the thread; nothing when there was no first one."""
        if self._loop is not None:
            try:
                self.run(last())
            finally:
                self._loop = None
                self._finalizer()


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class SandboxClient:
    """Sandboxes of a Hub: the calls of AsyncSandboxClient without `await`. A context manager; usable from threads.

    What each call does, gives and raises stands there.
    """

    def __init__(self, connection: Connection | APIClient | None = None, *, api_key: str | None = None) -> None:
        self._client = AsyncSandboxClient(connection, api_key=api_key)
        self._loop = _Loop()

    def create(self, request: CreateSandboxRequest) -> Sandbox:
        """Ask for a sandbox."""
        return self._loop.run(self._client.create(request))

    def get(self, sandbox_id: str, wait: float = 0.0) -> Sandbox:
        """A sandbox."""
        return self._loop.run(self._client.get(sandbox_id, wait))

    def list(
        self,
        status: str | None = None,
        labels: Sequence[str] | None = None,
        page: int = 1,
        per_page: int = 50,
        exclude_terminated: bool | None = None,
    ) -> SandboxListResponse:
        """One page of sandboxes."""
        return self._loop.run(self._client.list(status, labels, page, per_page, exclude_terminated))

    def wait_for_creation(self, sandbox_id: str, max_attempts: int = 60) -> Sandbox:
        """Return when the sandbox runs."""
        return self._loop.run(self._client.wait_for_creation(sandbox_id, max_attempts))

    def error_context(self, sandbox_id: str) -> ErrorContext:
        """Why a sandbox ended."""
        return self._loop.run(self._client.error_context(sandbox_id))

    def delete(self, sandbox_id: str) -> dict[str, Any]:
        """End a sandbox."""
        return self._loop.run(self._client.delete(sandbox_id))

    def bulk_delete(
        self, sandbox_ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> BulkDeleteSandboxResponse:
        """End several sandboxes."""
        return self._loop.run(self._client.bulk_delete(sandbox_ids, labels))

    def renew(self, sandbox_id: str, lease_seconds: float) -> str | None:
        """Renew a lease."""
        return self._loop.run(self._client.renew(sandbox_id, lease_seconds))

    def keep_alive(self, sandbox_id: str, lease_seconds: float) -> LeaseKeeper:
        """Renew a lease in the background."""
        return self._client.keep_alive(sandbox_id, lease_seconds)

    def get_logs(self, sandbox_id: str) -> str:
        """What the start command has printed."""
        return self._loop.run(self._client.get_logs(sandbox_id))

    def expose(self, sandbox_id: str, port: int, name: str | None = None, protocol: str = "HTTP") -> ExposedPort:
        """Make a port reachable."""
        return self._loop.run(self._client.expose(sandbox_id, port, name, protocol))

    def unexpose(self, sandbox_id: str, exposure_id: str) -> None:
        """Take a port off the list."""
        self._loop.run(self._client.unexpose(sandbox_id, exposure_id))

    def list_exposed_ports(self, sandbox_id: str) -> builtins.list[ExposedPort]:
        """The ports that are open."""
        return self._loop.run(self._client.list_exposed_ports(sandbox_id))

    def capacity(self) -> Capacity:
        """What the machine of the sandboxes has."""
        return self._loop.run(self._client.capacity())

    def usage(self, sandbox_id: str) -> Usage:
        """What a sandbox uses of its machine."""
        return self._loop.run(self._client.usage(sandbox_id))

    def execute_command(
        self,
        sandbox_id: str,
        command: str,
        working_dir: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> CommandResponse:
        """Run a shell command."""
        return self._loop.run(self._client.execute_command(sandbox_id, command, working_dir, env, timeout))

    def upload_file(
        self, sandbox_id: str, file_path: str, local_file_path: str | Path, timeout: float | None = None
    ) -> FileUploadResponse:
        """Copy a file into the sandbox."""
        return self._loop.run(self._client.upload_file(sandbox_id, file_path, local_file_path, timeout))

    def upload_bytes(
        self, sandbox_id: str, file_path: str, file_bytes: bytes, filename: str, timeout: float | None = None
    ) -> FileUploadResponse:
        """Write a file in the sandbox."""
        return self._loop.run(self._client.upload_bytes(sandbox_id, file_path, file_bytes, filename, timeout))

    def download_file(
        self, sandbox_id: str, file_path: str, local_file_path: str | Path, timeout: float | None = None
    ) -> None:
        """Copy a file out of the sandbox."""
        self._loop.run(self._client.download_file(sandbox_id, file_path, local_file_path, timeout))

    def read_file(
        self,
        sandbox_id: str,
        file_path: str,
        timeout: float | None = None,
        offset: int | None = None,
        length: int | None = None,
    ) -> ReadFileResponse:
        """A file's text."""
        return self._loop.run(self._client.read_file(sandbox_id, file_path, timeout, offset, length))

    def close(self) -> None:
        """End connections, renewals and the thread. The client can be used again."""
        self._client.stop_renewals()
        self._loop.close(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ImageClient:
    """Images of a Hub: the calls of AsyncImageClient without `await`. A context manager."""

    def __init__(self, connection: Connection | APIClient | None = None, *, api_key: str | None = None) -> None:
        self._client = AsyncImageClient(connection, api_key=api_key)
        self._loop = _Loop()

    def build(
        self,
        name: str,
        tag: str,
        context: Path,
        dockerfile: str = "Dockerfile",
        no_cache: bool = False,
        on_log: Callable[[str], object] | None = None,
        build_args: dict[str, str] | None = None,
        port: int | None = None,
    ) -> ImageBuild:
        """Build an image; `on_log` is called from another thread."""
        return self._loop.run(self._client.build(name, tag, context, dockerfile, no_cache, on_log, build_args, port))

    def cancel(self, build_id: str) -> None:
        """Cancel a build."""
        self._loop.run(self._client.cancel(build_id))

    def list(self, search: str | None = None) -> builtins.list[Image]:
        """Images and unfinished builds."""
        return self._loop.run(self._client.list(search))

    def get(self, name: str, tag: str = "latest", owner: str | None = None) -> Image:
        """One image."""
        return self._loop.run(self._client.get(name, tag, owner))

    def close(self) -> None:
        """End connections and the thread. The client can be used again."""
        self._loop.close(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
