"""Files of a sandbox: looked at, read, written, and moved in and out, folders as a stream that is never whole in memory."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_core.files import atomic_file
from prime_sandboxes.exceptions import APIError, DownloadTimeoutError, UploadTimeoutError
from prime_sandboxes.gateway import about_file
from prime_sandboxes.models import FileInfo, FileUploadResponse, ReadFileResponse

if TYPE_CHECKING:
    from prime_sandboxes.gateway import Gateway

FILE_SECONDS = 300.0
READ_SECONDS = 30.0
SILENCE_SECONDS = 300.0  # a large folder is packed before its first byte comes
CHUNK_BYTES = 1 << 18

Progress = Callable[[int], object]
"""Called with the bytes moved so far."""


class AsyncFiles:
    """The files of one sandbox. Paths are absolute, or relative to the image's working directory.

    Every call raises SandboxFileNotFoundError for a path that is not there, APIError with the reason for what cannot be
    done, SandboxNotRunningError. `timeout` None is no limit but five minutes without any progress.
    """

    def __init__(self, gateway: Gateway, sandbox_id: str) -> None:
        self._gateway = gateway
        self.sandbox_id = sandbox_id

    async def _json(self, method: str, operation: str, path: str) -> dict[str, Any]:
        try:
            return await self._gateway.json(self.sandbox_id, method, operation, READ_SECONDS, params={"path": path})
        except APIError as error:
            raise about_file(error, path) from None

    async def stat(self, path: str) -> FileInfo:
        """One entry: kind, size, permissions, time."""
        return FileInfo.from_wire(await self._json("GET", "files/stat", path))

    async def exists(self, path: str) -> bool:
        """Whether there is such an entry."""
        try:
            await self.stat(path)
        except APIError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def list(self, path: str = ".") -> builtins.list[FileInfo]:
        """What lies in a folder, by name."""
        answer = await self._json("GET", "files/entries", path)
        return [FileInfo.from_wire(item) for item in answer.get("entries", [])]

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it; nothing when it is there."""
        await self._json("POST", "files/folder", path)

    async def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it."""
        await self._json("DELETE", "files", path)

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file, or of a part of it; a negative offset counts from the end."""
        params = {"path": path, "offset": offset or None, "length": length}
        with _in_time(DownloadTimeoutError, f"{path} could not be read"):
            try:
                return await self._gateway.send(self.sandbox_id, "GET", "files", SILENCE_SECONDS, params=params)
            except APIError as error:
                raise about_file(error, path) from None

    async def read_text(self, path: str) -> str:
        """A file's text; bytes that are no UTF-8 are replaced."""
        return (await self.read(path)).decode("utf-8", "replace")

    async def write(
        self, path: str, content: bytes | str | Path, mode: int | None = None, progress: Progress | None = None
    ) -> int:
        """Write a file in one step, its folders made where missing; the bytes written. A local Path is streamed.

        `mode` are the permission bits, None the sandbox's usual ones.
        """
        data = content.encode() if isinstance(content, str) else content

        def body() -> Any:
            return _pieces(data, progress) if isinstance(data, Path) or progress else data

        params = {"path": path, "mode": None if mode is None else f"{mode & 0o7777:o}"}
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        with _in_time(UploadTimeoutError, f"{path} could not be written"):
            try:
                await self._gateway.send(
                    self.sandbox_id, "PUT", "files", SILENCE_SECONDS, params=params, body=body, repeatable=True
                )
            except APIError as error:
                raise about_file(error, path) from None
        return size

    async def upload(
        self, source: str | Path, target: str, timeout: float | None = None, progress: Progress | None = None
    ) -> int:
        """Copy a local file or folder to `target` in the sandbox; the bytes moved.

        A folder's content goes into the folder `target`. Raises UploadTimeoutError, OSError for the local side.
        """
        import asyncio

        local = Path(source)
        async with _limit(timeout, UploadTimeoutError, f"The upload of {local.name}"):
            if not await asyncio.to_thread(local.is_dir):
                mode = (await asyncio.to_thread(local.stat)).st_mode & 0o777
                return await self.write(target, local, mode | 0o600, progress)
            from prime_sandboxes.folders import pack

            count = _Count(progress)
            with _in_time(UploadTimeoutError, f"The folder {local} could not be sent"):
                try:
                    await self._gateway.send(
                        self.sandbox_id,
                        "PUT",
                        "files/tree",
                        SILENCE_SECONDS,
                        params={"path": target},
                        body=lambda: pack(local, count),
                    )
                except APIError as error:
                    raise about_file(error, target) from None
            return count.bytes

    async def download(
        self, source: str, target: str | Path, timeout: float | None = None, progress: Progress | None = None
    ) -> int:
        """Copy a file or folder out of the sandbox to the local `target`; the bytes moved.

        A folder's content goes into the folder `target`; nothing in it is written elsewhere, whatever the sandbox sends,
        and what is no file, folder or link inside it is left out. Raises DownloadTimeoutError, OSError.
        """
        local = Path(target)
        async with _limit(timeout, DownloadTimeoutError, f"The download of {source}"):
            info = await self.stat(source)
            if info.kind == "folder":
                return await self._download_folder(source, local, progress)
            return await self._download_file(source, local, "files", progress)

    async def _download_file(self, source: str, target: Path, operation: str, progress: Progress | None) -> int:
        import asyncio

        import httpx

        count = _Count(progress)
        with _in_time(DownloadTimeoutError, f"The download of {source} stood still"):
            try:
                response = await self._gateway.open(
                    self.sandbox_id, "GET", operation, SILENCE_SECONDS, params={"path": source}
                )
                try:
                    with atomic_file(target) as file:
                        async for chunk in response.aiter_bytes(CHUNK_BYTES):
                            await asyncio.to_thread(file.write, chunk)
                            count.add(len(chunk))
                finally:
                    await response.aclose()
            except httpx.TimeoutException:
                raise
            except httpx.HTTPError as error:
                raise APIError(f"The download of {source} broke: {error or type(error).__name__}.") from None
            except APIError as error:
                raise about_file(error, source) from None
        return count.bytes

    async def _download_folder(self, source: str, target: Path, progress: Progress | None) -> int:
        import httpx

        from prime_sandboxes.folders import unpack

        count = _Count(progress)
        with _in_time(DownloadTimeoutError, f"The download of {source} stood still"):
            try:
                response = await self._gateway.open(
                    self.sandbox_id, "GET", "files/tree", SILENCE_SECONDS, params={"path": source}
                )
                try:
                    await unpack(response.aiter_bytes(CHUNK_BYTES), target, count)
                finally:
                    await response.aclose()
            except httpx.TimeoutException:
                raise
            except httpx.HTTPError as error:
                raise APIError(f"The download of {source} broke: {error or type(error).__name__}.") from None
            except APIError as error:
                raise about_file(error, source) from None
        return count.bytes


class _Count:
    """Adds up bytes and says so."""

    def __init__(self, progress: Progress | None) -> None:
        self.bytes = 0
        self._progress = progress

    def add(self, size: int) -> None:
        self.bytes += size
        if self._progress is not None:
            self._progress(self.bytes)


async def _pieces(content: Path | bytes, progress: Progress | None) -> AsyncIterator[bytes]:
    import asyncio

    count = _Count(progress)
    if isinstance(content, bytes):
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
            count.add(len(content[start : start + CHUNK_BYTES]))
        return
    with content.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
            count.add(len(chunk))


class _in_time:
    """Silence of the other side, as the kind of error that the caller knows."""

    def __init__(self, kind: type[Exception], what: str) -> None:
        self._kind, self._what = kind, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            raise self._kind(f"{self._what}: nothing moved for {SILENCE_SECONDS:g} seconds.") from None


class _limit:
    """A time limit over several requests."""

    def __init__(self, seconds: float | None, kind: type[Exception], what: str) -> None:
        import asyncio

        self._seconds, self._kind, self._what = seconds, kind, what
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *reason: Any) -> None:
        try:
            await self._timeout.__aexit__(*reason)
        except TimeoutError:
            raise self._kind(f"{self._what} did not end within {self._seconds:g} seconds.") from None


class FileCalls:
    """The part of AsyncSandboxClient about files, by the official names."""

    _gateway: Gateway

    def files(self, sandbox_id: str) -> AsyncFiles:
        """All that can be done with the files of a sandbox."""
        return AsyncFiles(self._gateway, sandbox_id)

    async def upload_file(
        self, sandbox_id: str, file_path: str, local_file_path: str | Path, timeout: float | None = None
    ) -> FileUploadResponse:
        """Copy a local file into the sandbox, to `file_path`; 300 seconds at most unless told.

        Raises UploadTimeoutError, OSError.
        """
        import asyncio

        path = Path(local_file_path)
        data = await asyncio.to_thread(path.open, "rb")
        with data:
            return await self._upload(sandbox_id, file_path, data, path.name, timeout or FILE_SECONDS)

    async def upload_bytes(
        self, sandbox_id: str, file_path: str, file_bytes: bytes, filename: str, timeout: float | None = None
    ) -> FileUploadResponse:
        """Write a file in the sandbox, 300 seconds at most unless told. Raises UploadTimeoutError."""
        import io

        return await self._upload(sandbox_id, file_path, io.BytesIO(file_bytes), filename, timeout or FILE_SECONDS)

    async def _upload(self, sandbox_id: str, path: str, data: Any, name: str, seconds: float) -> FileUploadResponse:
        params = {"path": path, "sandbox_id": sandbox_id}
        files = {"file": (name, data, "application/octet-stream")}
        async with _limit(seconds, UploadTimeoutError, f"The upload of {name}"):
            with _in_time(UploadTimeoutError, f"The upload of {name} stood still"):
                answer = await self._gateway.json(
                    sandbox_id, "POST", "upload", SILENCE_SECONDS, params=params, files=files
                )
        return FileUploadResponse.from_wire(answer)

    async def download_file(
        self, sandbox_id: str, file_path: str, local_file_path: str | Path, timeout: float | None = None
    ) -> None:
        """Copy a file out of the sandbox; the local file appears in one step. 300 seconds at most unless told.

        Raises SandboxFileNotFoundError, DownloadTimeoutError, OSError.
        """
        files = self.files(sandbox_id)
        async with _limit(timeout or FILE_SECONDS, DownloadTimeoutError, f"The download of {file_path}"):
            await files._download_file(file_path, Path(local_file_path), "download", None)

    async def read_file(
        self,
        sandbox_id: str,
        file_path: str,
        timeout: float | None = None,
        offset: int | None = None,
        length: int | None = None,
    ) -> ReadFileResponse:
        """A file's text, or a window of it in bytes; a negative offset counts from the end.

        Raises SandboxFileNotFoundError, SandboxFileTooLargeError, DownloadTimeoutError.
        """
        params = {"path": file_path, "offset": offset, "length": length}
        async with _limit(timeout or READ_SECONDS, DownloadTimeoutError, f"Reading {file_path}"):
            with _in_time(DownloadTimeoutError, f"Reading {file_path} stood still"):
                try:
                    answer = await self._gateway.json(sandbox_id, "GET", "read-file", SILENCE_SECONDS, params=params)
                except APIError as error:
                    raise about_file(error, file_path) from None
        return ReadFileResponse.from_wire(answer)
