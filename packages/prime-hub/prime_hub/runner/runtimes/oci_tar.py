"""Folders as tar archives, streamed both ways: no more than a chunk is held, and no path is followed by its name alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import posixpath
import queue
import stat
import tarfile
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterator

from prime_hub.runner.runtimes import oci_rooted as rooted
from prime_hub.runner.runtimes.base import ExecError

CHUNK_BYTES = 1 << 18
BLOCK = 512
QUEUED = 8


async def pack(folder: int) -> AsyncIterator[bytes]:
    """The content of an open folder, which is closed afterwards. Devices, pipes and sockets are left out."""
    source = _archive(folder)
    try:
        while chunk := await asyncio.to_thread(_next, source):
            yield chunk
    finally:
        await asyncio.shield(asyncio.to_thread(source.close))
        os.close(folder)


def _next(source: Iterator[bytes]) -> bytes:
    return next(source, b"")


def _archive(folder: int) -> Generator[bytes]:
    held = bytearray()
    for piece in _pieces(folder):
        held += piece
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held + bytes(BLOCK * 2))


def _pieces(folder: int) -> Iterator[bytes]:
    for path, above, status, name in rooted.walk(folder):
        entry = tarfile.TarInfo(path)
        entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), status.st_mtime
        if stat.S_ISDIR(status.st_mode):
            entry.type = tarfile.DIRTYPE
            yield _head(entry)
        elif stat.S_ISLNK(status.st_mode):
            with contextlib.suppress(OSError):
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=above)
                yield _head(entry)
        elif stat.S_ISREG(status.st_mode):
            yield from _file(entry, above, name)


def _head(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(entry: tarfile.TarInfo, above: int, name: str) -> Iterator[bytes]:
    try:
        opened = rooted.open_regular(above, name, rooted.BENEATH)
    except OSError:  # it went away, or became something else
        return
    with rooted.held(opened):
        entry.size = left = os.fstat(opened).st_size
        yield _head(entry)
        while left > 0:
            # What was cut short meanwhile is filled up: the head has promised so much.
            data = os.read(opened, min(CHUNK_BYTES, left)) or bytes(min(CHUNK_BYTES, left))
            left -= len(data)
            yield data
    yield bytes(-entry.size % BLOCK)


class _Feed(io.RawIOBase):
    """What an extracting thread reads from, filled by the event loop; None is the end."""

    def __init__(self) -> None:
        self.chunks: queue.Queue[bytes | None] = queue.Queue(QUEUED)
        self._held = b""
        self._over = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._held:
                chunk = None if self._over else self.chunks.get()
                if chunk is None:
                    self._over = True
                    break
                self._held = chunk
            taken = self._held if size < 0 else self._held[: size - len(found)]
            self._held = self._held[len(taken) :]
            found += taken
        return bytes(found)


async def unpack(shown: str, folder: int, archive: AsyncIterable[bytes], owner: tuple[int, int]) -> None:
    """Unpack a tar archive, packed or not, into an open folder, which is closed afterwards. Raises ExecError, OSError."""
    feed = _Feed()
    work = asyncio.ensure_future(asyncio.to_thread(_extract, shown, folder, feed, owner))
    try:
        async for chunk in archive:
            await _give(feed, bytes(chunk), work)
            if work.done():
                break
        await _give(feed, None, work)
        await asyncio.shield(work)
    finally:
        await asyncio.shield(_finish(feed, work))
        os.close(folder)


async def _give(feed: _Feed, chunk: bytes | None, work: asyncio.Future[None]) -> None:
    """Hand a chunk over, waiting for room, unless the work is over."""
    while not work.done():
        try:
            return feed.chunks.put_nowait(chunk)
        except queue.Full:
            await asyncio.wait({work}, timeout=0.01)
    return None


async def _finish(feed: _Feed, work: asyncio.Future[None]) -> None:
    """Let the thread see the end, and wait for it."""
    while not work.done():
        with contextlib.suppress(queue.Empty):
            feed.chunks.get_nowait()
        with contextlib.suppress(queue.Full):
            feed.chunks.put_nowait(None)
        await asyncio.wait({work}, timeout=0.05)
    work.exception()


def _extract(shown: str, folder: int, feed: _Feed, owner: tuple[int, int]) -> None:
    try:
        with tarfile.open(fileobj=feed, mode="r|*") as archive:
            for member in archive:
                _place(folder, archive, member, owner)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ExecError(f"The archive cannot be unpacked into {shown}: {error}.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        reason = error.strerror or str(error)
        if error.errno == errno.EXDEV:
            reason = "an entry would lie outside of it"
        raise ExecError(f"The archive cannot be unpacked into {shown}: {reason}.") from None


def _place(folder: int, archive: tarfile.TarFile, member: tarfile.TarInfo, owner: tuple[int, int]) -> None:
    path = posixpath.normpath(member.name)
    if path.startswith(("/", "../")) or path == "..":
        raise OSError(errno.EXDEV, "")
    if path == ".":
        return
    mode = (member.mode or 0) & 0o777

    def made(new: int) -> None:
        rooted.in_place(new, *owner)

    if member.isdir():
        with rooted.held(rooted.make_folders(folder, path, made, rooted.BENEATH)) as found:
            os.fchmod(found, mode or 0o755)
        return
    above, name = rooted.split(path)
    with rooted.held(rooted.make_folders(folder, above, made, rooted.BENEATH)) as parent:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            _link(folder, posixpath.normpath(member.linkname), parent, name)
        elif member.isreg():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with rooted.held(os.open(name, flags, 0o600, dir_fd=parent)) as target:
                content = archive.extractfile(member)
                while content is not None and (data := content.read(CHUNK_BYTES)):
                    left = memoryview(data)
                    while left:
                        left = left[os.write(target, left) :]
                rooted.in_place(target, *owner, mode)
                os.utime(target, (member.mtime, member.mtime))
        else:
            raise OSError(errno.EINVAL, f"'{member.name}' is neither a file nor a folder nor a link")


def _link(folder: int, source: str, parent: int, name: str) -> None:
    above, old = rooted.split(source)
    with rooted.held(rooted.open_below(folder, above, os.O_PATH | os.O_DIRECTORY, rooted.BENEATH)) as at:
        os.link(old, name, src_dir_fd=at, dst_dir_fd=parent, follow_symlinks=False)
