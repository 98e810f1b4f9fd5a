"""Folders as a tar archive that is made and read while it moves.

What comes out of a sandbox was packed by a stranger's system: names and links that lead out of the folder, devices and
surplus permissions are never followed. Regular files and folders are made first, links last and only those that stay
inside, so that nothing is ever written through a link of the archive's.
"""

from __future__ import annotations

import errno
import os
import queue
import secrets
import stat
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from prime_sandboxes.exceptions import APIError

CHUNK_BYTES = 1 << 18
AHEAD = 8
MAX_ENTRIES = 1_000_000
WAKE_SECONDS = 0.5


class Counter(Protocol):
    """Adds up what moved."""

    def add(self, size: int) -> None:
        """So many bytes more."""


class _Stopped(Exception):
    """The other side has gone."""


async def pack(folder: Path, count: Counter) -> AsyncIterator[bytes]:
    """The folder's content as a tar, names relative to it; links as links, and nothing that is no file, folder or link.

    Raises OSError.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(AHEAD)
    stopped = threading.Event()

    def put(item: bytes | BaseException | None) -> None:
        future = asyncio.run_coroutine_threadsafe(pieces.put(item), loop)
        while not stopped.is_set():
            try:
                return future.result(WAKE_SECONDS)
            except TimeoutError:
                continue
        future.cancel()
        raise _Stopped

    def work() -> None:
        try:
            _write(folder, cast("IO[bytes]", _Writer(put)))
        except _Stopped:
            return
        except BaseException as error:
            ended: BaseException | None = error
        else:
            ended = None
        try:
            put(ended)
        except _Stopped:
            pass

    worker = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while (piece := await pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            count.add(len(piece))
    finally:
        stopped.set()
        while not pieces.empty():
            pieces.get_nowait()
        await asyncio.shield(worker)


class _Writer:
    def __init__(self, put: Any) -> None:
        self._put = put

    def write(self, data: bytes) -> int:
        self._put(bytes(data))
        return len(data)


def _write(folder: Path, target: IO[bytes]) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK_BYTES) as archive:
        for path in _walk(folder):
            member = archive.gettarinfo(path, path.relative_to(folder).as_posix())
            if member is None:  # a socket, say
                continue
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.isreg():
                with path.open("rb") as content:
                    archive.addfile(member, content)
            elif member.isdir() or member.issym() or member.islnk():
                archive.addfile(member)


def _walk(folder: Path) -> Any:
    for entry in sorted(folder.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)


async def unpack(archive: AsyncIterator[bytes], target: Path, count: Counter) -> None:
    """Unpack such an archive into `target`, made where missing. Raises APIError for an archive that is none, OSError."""
    import asyncio

    loop = asyncio.get_running_loop()
    pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    room = asyncio.Semaphore(AHEAD)
    stopped = threading.Event()
    reader = _Reader(pieces, stopped, lambda: loop.call_soon_threadsafe(room.release))
    worker = asyncio.ensure_future(asyncio.to_thread(_read, cast("IO[bytes]", reader), target))
    worker.add_done_callback(lambda _: room.release())
    try:
        async for piece in archive:
            await room.acquire()
            if worker.done():
                break
            pieces.put(piece)
            count.add(len(piece))
        pieces.put(None)
        await asyncio.shield(worker)
    except BaseException:
        stopped.set()
        pieces.put(None)
        await asyncio.gather(worker, return_exceptions=True)
        raise


class _Reader:
    """The pieces of a queue as one file."""

    def __init__(
        self, pieces: queue.SimpleQueue[bytes | None], stopped: threading.Event, taken: Callable[[], object]
    ) -> None:
        self._pieces, self._stopped, self._taken = pieces, stopped, taken
        self._rest = bytearray()
        self._over = False

    def read(self, size: int = -1) -> bytes:
        while not self._over and (size < 0 or len(self._rest) < size):
            piece = self._pieces.get()
            if self._stopped.is_set():
                raise _Stopped
            if piece is None:
                self._over = True
            else:
                self._taken()
                self._rest += piece
        size = len(self._rest) if size < 0 else size
        found = bytes(self._rest[:size])
        del self._rest[:size]
        return found


def _read(source: IO[bytes], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    links: list[tuple[PurePosixPath, str]] = []
    modes: list[tuple[PurePosixPath, int]] = []
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK_BYTES) as archive:
            for number, member in enumerate(archive):
                if number >= MAX_ENTRIES:
                    raise APIError(f"The folder has more than {MAX_ENTRIES} entries; download it in parts.")
                _take(archive, member, target, links, modes)
        while source.read(CHUNK_BYTES):
            pass  # what a tar is padded with
    except tarfile.TarError as error:
        raise APIError(f"What the sandbox sent is no whole archive of the folder: {error}.") from None
    for name, to in links:
        _link(target, name, to)
    for name, mode in reversed(modes):
        where = target / name
        if not where.is_symlink():
            where.chmod(mode)


def _take(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    target: Path,
    links: list[tuple[PurePosixPath, str]],
    modes: list[tuple[PurePosixPath, int]],
) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise APIError(f"What the sandbox sent holds a name that leads out of the folder: {member.name!r}.")
    if not name.parts:
        return
    if member.isdir():
        _folder(target, name)
        modes.append((name, (member.mode & 0o777) | 0o700))
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        with _new_file(target, name, (member.mode & 0o777) | 0o600) as file:
            while chunk := content.read(CHUNK_BYTES):
                file.write(chunk)
    elif member.issym():
        links.append((name, member.linkname))
    elif member.islnk():
        other = PurePosixPath(member.linkname)
        if not other.is_absolute() and ".." not in other.parts and (target / other).is_file():
            _folder(target, other.parent)
            if not (target / other).is_symlink():
                where = _place(target, name)
                os.link(target / other, where, follow_symlinks=False)


def _folder(target: Path, name: PurePosixPath) -> Path:
    """The folder of that name, made step by step, none of which is a link."""
    where = target
    for part in name.parts:
        where = where / part
        try:
            where.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(where.lstat().st_mode):
                raise NotADirectoryError(
                    errno.ENOTDIR, "A file or link is where a folder is needed", str(where)
                ) from None
    return where


def _place(target: Path, name: PurePosixPath) -> Path:
    """Where the entry goes, with nothing there any more."""
    where = _folder(target, name.parent) / name.name
    if os.path.lexists(where):
        where.unlink()
    return where


@contextmanager
def _new_file(target: Path, name: PurePosixPath, mode: int) -> Generator[IO[bytes]]:
    """A file that takes its place when it is whole, so that no half of one stands there when the rest never comes."""
    where = _folder(target, name.parent) / name.name
    part = where.with_name(f".{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        part.replace(where)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _link(target: Path, name: PurePosixPath, to: str) -> None:
    """Make a link, unless it leads out of the folder: relative, with `..` only in front and no more than it has folders
    above it.
    """
    parts = PurePosixPath(to).parts
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    if not parts or PurePosixPath(to).is_absolute() or ".." in parts[up:] or up > len(name.parts) - 1:
        return
    _place(target, name).symlink_to(to)
