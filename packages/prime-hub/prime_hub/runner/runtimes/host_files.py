"""The file system of a sandbox that has no mount namespace: its own copy of the image's tree in a folder of this host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path

from prime_hub.runner.runtimes.base import BuildError, ExecError, FileMissing, Files
from prime_hub.runner.runtimes.paths import PathMap
from prime_hub.runner.runtimes.values import FileInfo, FileKind, Window, window

CHUNK_BYTES = 1 << 18


class HostFiles(Files):
    """Files by the image's paths. A link that leads out of the sandbox is refused: this runtime does not isolate, so
    that is for order, not for protection.
    """

    def __init__(self, paths: PathMap) -> None:
        self._paths = paths

    def _on_host(self, path: str) -> Path:
        try:
            return self._paths.on_host(path)
        except BuildError:
            raise ExecError(f"The path {path} leads out of the sandbox by a link.") from None

    def _own(self, path: str) -> Path:
        """Where something is to be changed, which must be the sandbox's alone."""
        if self._paths.of_the_image(path):
            raise ExecError(
                f"{path} lies in the image's virtual environment, which its other sandboxes use as well; change it in "
                "the Dockerfile and build again."
            )
        return self._on_host(path)

    async def stat(self, path: str) -> FileInfo:
        try:
            return file_info(self._on_host(path), self._paths.absolute(path))
        except (FileNotFoundError, NotADirectoryError):
            raise FileMissing(f"There is no file {path} in the sandbox.") from None

    async def entries(self, path: str) -> list[FileInfo]:
        folder, shown = self._on_host(path), self._paths.absolute(path).rstrip("/")
        if not folder.exists():
            raise FileMissing(f"There is no folder {path} in the sandbox.")
        if not folder.is_dir():
            raise ExecError(f"{path} is not a folder.")

        def look() -> list[FileInfo]:
            found = []
            for item in sorted(folder.iterdir()):
                with contextlib.suppress(FileNotFoundError):  # it went away meanwhile
                    found.append(file_info(item, f"{shown}/{item.name}"))
            return found

        return await asyncio.to_thread(look)

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> Window:
        found = self._on_host(path)
        if not found.exists():
            raise FileMissing(f"There is no file {path} in the sandbox.")
        if not found.is_file():
            raise ExecError(f"{path} is a folder." if found.is_dir() else f"{path} is not a regular file.")
        if not self._paths.holds(found):
            raise ExecError(f"The path {path} leads out of the sandbox by a link.")
        size = found.stat().st_size
        start, wanted = window(size, offset, length)
        return Window(size, start, wanted, _content(found, start, wanted))

    async def write(self, path: str, content: AsyncIterable[bytes], mode: int | None = None) -> int:
        target = self._own(path)
        if target.is_dir():
            raise ExecError(f"{path} is a folder; name the file in it.")
        # One for each writer: two of the same file must not write into each other's.
        scratch = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                async for chunk in content:
                    await asyncio.to_thread(file.write, chunk)
                size = file.tell()
            if mode is not None:
                scratch.chmod(mode)
            scratch.replace(target)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise ExecError(f"{path} cannot be written: {error.strerror}.") from None
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)
        return size

    async def make_folder(self, path: str) -> None:
        try:
            self._own(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExecError(f"The folder {path} cannot be made: {error.strerror}.") from None

    async def remove(self, path: str) -> None:
        target = self._own(path)
        if target == self._paths.root:
            raise ExecError("The whole file system of a sandbox cannot be removed; delete the sandbox.")
        if not os.path.lexists(target):
            raise FileMissing(f"There is no file {path} in the sandbox.")
        try:
            if target.is_dir() and not target.is_symlink():
                await asyncio.to_thread(shutil.rmtree, target)
            else:
                target.unlink()
        except OSError as error:
            raise ExecError(f"{path} cannot be removed: {error.strerror}.") from None

    async def pack(self, path: str) -> AsyncIterator[bytes]:
        folder = self._on_host(path)
        if not folder.is_dir():
            missing = not folder.exists()
            raise (
                FileMissing(f"There is no folder {path} in the sandbox.")
                if missing
                else ExecError(f"{path} is not a folder.")
            )
        return _pack(folder)

    async def unpack(self, path: str, archive: AsyncIterable[bytes]) -> None:
        folder = self._own(path)
        await self.make_folder(path)
        with tempfile.TemporaryFile() as scratch:
            async for chunk in archive:
                await asyncio.to_thread(scratch.write, chunk)
            scratch.seek(0)

            def extract() -> None:
                with tarfile.open(fileobj=scratch, mode="r|*") as archive_file:
                    archive_file.extractall(folder, filter="data")

            try:
                await asyncio.to_thread(extract)
            except (tarfile.TarError, EOFError, ValueError) as error:
                raise ExecError(f"The archive cannot be unpacked into {path}: {error}.") from None
            except OSError as error:
                raise ExecError(f"The archive cannot be unpacked into {path}: {error.strerror}.") from None


def file_info(item: Path, shown: str) -> FileInfo:
    """An entry of this host's file system under the path that it has in the sandbox. Raises OSError."""
    found = item.lstat()
    kinds: list[tuple[bool, FileKind]] = [
        (stat.S_ISREG(found.st_mode), "file"),
        (stat.S_ISDIR(found.st_mode), "folder"),
        (stat.S_ISLNK(found.st_mode), "link"),
    ]
    kind = next((kind for matches, kind in kinds if matches), "other")
    target = str(item.readlink()) if kind == "link" else None
    return FileInfo(shown, kind, found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime, target)


async def _content(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while length > 0 and (chunk := await asyncio.to_thread(file.read, min(CHUNK_BYTES, length))):
            length -= len(chunk)
            yield chunk


async def _pack(folder: Path) -> AsyncIterator[bytes]:
    """A tar archive as it is made, a file at a time."""
    with tempfile.TemporaryFile() as scratch:

        def make() -> None:
            with tarfile.open(fileobj=scratch, mode="w") as archive:
                for item in _walk(folder):
                    _add(archive, item, str(item.relative_to(folder)))

        await asyncio.to_thread(make)
        scratch.seek(0)
        while chunk := await asyncio.to_thread(scratch.read, CHUNK_BYTES):
            yield chunk


def _add(archive: tarfile.TarFile, item: Path, name: str) -> None:
    with contextlib.ExitStack() as opened:
        try:
            entry = archive.gettarinfo(item, name)
            content = opened.enter_context(item.open("rb")) if entry.isreg() else None
        except OSError:  # it went away meanwhile
            return
        try:
            archive.addfile(entry, content)
        except OSError as error:
            # Its head has promised more, so what would follow could not be read.
            raise ExecError(f"{name} changed while it was packed: {error}.") from None


def _walk(folder: Path) -> Iterator[Path]:
    try:
        items = sorted(folder.iterdir())
    except OSError:  # it went away meanwhile, or is not to be looked into
        return
    for item in items:
        if not (item.is_socket() or item.is_fifo()):
            yield item
        if item.is_dir() and not item.is_symlink():
            yield from _walk(item)
