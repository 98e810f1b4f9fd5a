"""The file system of a box: every operation is done inside it, by a process of its own, through pipes of the runner.

So a link, a device or a race in it leads nowhere that the box's own programs could not go.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

from prime_hub.runner.building import trees
from prime_hub.runner.runtimes.base import ExecError, FileMissing, Files
from prime_hub.runner.runtimes.box_client import BoxSilent, Control, Question
from prime_hub.runner.runtimes.values import FileInfo, FileKind, Window, window

CHUNK_BYTES = 1 << 18
PIPE_SECONDS = 120.0
LIST_BYTES = 32 << 20
MAX_SIZE = 1 << 62
_REFUSALS = {
    "folder": "{path} is a folder.",
    "irregular": "{path} is not a regular file.",
    "everything": "The whole file system of a sandbox cannot be removed; delete the sandbox.",
    "archive": "The archive cannot be unpacked into {path}: it is no readable tar archive.",
    "outside": "The archive cannot be unpacked into {path}: it holds an entry that would lie elsewhere.",
    "broken": "{path} was not written, because its content did not arrive whole.",
}


class BoxFiles(Files):
    """`control` is the way to the box, `workdir` what relative paths start at."""

    def __init__(self, control: Control, workdir: str) -> None:
        self._control = control
        self._workdir = workdir

    async def _ask(self, what: str, path: str, descriptors: tuple[int, ...] = (), **more: Any) -> Question:
        where = {"do": "work", "what": what, "path": self._absolute(path), "cwd": "/"}
        return await Question.ask(self._control, {**where, **more}, descriptors)

    def _absolute(self, path: str) -> str:
        # `..` stays: behind a link it leads where the link's own parent is.
        return path if path.startswith("/") else f"{self._workdir.rstrip('/')}/{path}"

    async def _done(self, what: str, path: str, missing: str | None = "file") -> dict[str, Any]:
        question = await self._ask(what, path)
        try:
            return await _good(question, path, missing=missing)
        finally:
            question.close()

    async def stat(self, path: str) -> FileInfo:
        return _described(await self._done("stat", path), trees.absolute(path, self._workdir))

    async def entries(self, path: str) -> list[FileInfo]:
        read, write = os.pipe()
        reader = _Reader(read)
        try:
            try:
                question = await self._ask("entries", path, (write,))
            finally:
                os.close(write)
            try:
                listed = bytearray()
                while data := await reader.read():
                    listed += data
                    if len(listed) > LIST_BYTES:
                        raise ExecError(f"The folder {path} holds too much to be listed.")
                await _good(question, path, missing="folder")
            finally:
                question.close()
        finally:
            reader.close()
        shown = trees.absolute(path, self._workdir).rstrip("/")
        return await asyncio.to_thread(_listed, bytes(listed), shown)

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> Window:
        read, write = os.pipe()
        reader = _Reader(read)
        try:
            try:
                question = await self._ask("read", path, (write,), offset=offset, length=length)
            finally:
                os.close(write)
            try:
                size = _integer(await _good(question, path), "size")
            finally:
                question.close()
        except BaseException:
            reader.close()
            raise
        start, wanted = window(size, offset, length)
        return Window(size, start, wanted, _content(reader, wanted, path))

    async def write(self, path: str, content: AsyncIterable[bytes], mode: int | None = None) -> int:
        size = 0

        def count(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)

        await self._pour("write", path, content, count, mode=mode)
        return size

    async def unpack(self, path: str, archive: AsyncIterable[bytes]) -> None:
        await self._pour("unpack", path, archive, lambda chunk: None)

    async def _pour(
        self, what: str, path: str, content: AsyncIterable[bytes], seen: Callable[[bytes], None], **more: Any
    ) -> None:
        """Give content to the box and hear that it is whole; an answer that comes before the end is a refusal."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        try:
            try:
                question = await self._ask(what, path, (read,), **more)
            finally:
                os.close(read)
            try:
                await _good(question, path, missing=None)
                try:
                    async for chunk in content:
                        seen(chunk)
                        await _write(write, chunk)
                except BrokenPipeError:
                    await _good(question, path, missing=None)
                    raise BoxSilent from None
                os.close(write)
                write = -1
                question.say(b"whole")
                await _good(question, path, missing=None)
            finally:
                question.close()
        finally:
            if write >= 0:
                os.close(write)

    async def make_folder(self, path: str) -> None:
        await self._done("make_folder", path, None)

    async def remove(self, path: str) -> None:
        await self._done("remove", path)

    async def pack(self, path: str) -> AsyncIterator[bytes]:
        read, write = os.pipe()
        reader = _Reader(read)
        try:
            try:
                question = await self._ask("pack", path, (write,))
            finally:
                os.close(write)
            try:
                await _good(question, path, missing="folder")
            except BaseException:
                question.close()
                raise
        except BaseException:
            reader.close()
            raise
        return _packed(reader, question, path)


async def _good(
    question: Question, path: str, seconds: float | None = PIPE_SECONDS, missing: str | None = "file"
) -> dict[str, Any]:
    """`missing` None: where the operation makes what is missing, so that something else stands in its way."""
    try:
        found = await question.good_answer(path, seconds)
    except FileMissing:
        if missing is None:
            raise ExecError(f"{path} cannot be made: a part of the path is no folder.") from None
        raise FileMissing(f"There is no {missing} {path} in the sandbox.") from None
    word = found.get("refused")
    if word is not None:
        raise ExecError(_REFUSALS.get(str(word), "The sandbox refused it for {path}.").format(path=path))
    return found


def _integer(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_SIZE:
        raise BoxSilent
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4096 or "\0" in value:
        raise BoxSilent
    # Names are bytes, and those that are no text come as half of a character.
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        raise BoxSilent from None


def _described(found: dict[str, Any], shown: str) -> FileInfo:
    mode = _integer(found, "mode")
    kinds: list[tuple[bool, FileKind]] = [
        (stat.S_ISREG(mode), "file"),
        (stat.S_ISDIR(mode), "folder"),
        (stat.S_ISLNK(mode), "link"),
    ]
    kind = next((kind for matches, kind in kinds if matches), "other")
    modified = found.get("modified")
    if not isinstance(modified, int | float) or not -1e12 < modified < 1e12:
        raise BoxSilent
    target = _text(found.get("target")) if kind == "link" else None
    return FileInfo(shown, kind, _integer(found, "size"), stat.S_IMODE(mode), float(modified), target)


def _listed(data: bytes, shown: str) -> list[FileInfo]:
    found = []
    for line in data.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise BoxSilent from None
        if not isinstance(entry, dict):
            raise BoxSilent
        name = _text(entry.get("name"))
        if not name or "/" in name:
            raise BoxSilent
        found.append(_described(entry, f"{shown}/{name}"))
    return found


class _Reader:
    """The reading end of a pipe, which is this program's alone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Some bytes; b"" at the end. Raises BoxSilent when nothing comes for long."""
        while True:
            try:
                return os.read(self._descriptor, limit)
            except BlockingIOError:
                pass
            await _ready(self._descriptor, writing=False)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


async def _ready(descriptor: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    add, drop = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(descriptor, lambda: ready.done() or ready.set_result(None))
    try:
        async with asyncio.timeout(PIPE_SECONDS):
            await ready
    except TimeoutError:
        raise BoxSilent from None
    finally:
        drop(descriptor)


async def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            await _ready(descriptor, writing=True)


async def _content(reader: _Reader, length: int, path: str) -> AsyncIterator[bytes]:
    try:
        while length > 0:
            data = await reader.read(min(CHUNK_BYTES, length))
            if not data:
                raise ExecError(f"{path} became shorter while it was read.")
            length -= len(data)
            yield data
    finally:
        reader.close()


async def _packed(reader: _Reader, question: Question, path: str) -> AsyncIterator[bytes]:
    try:
        while data := await reader.read():
            yield data
        if not (await _good(question, path)).get("whole"):
            raise BoxSilent
    finally:
        reader.close()
        question.close()
