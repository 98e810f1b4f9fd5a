"""The file system of a container as its own processes see it, mounts included, through /proc/PID/root.

For a runner that is root on the engine's host: every path is resolved by the kernel below the container's root, a
window of a file costs what the window costs, and what is new belongs to the user whom the container runs as. Where
that cannot be had, `oci_archive.py` goes by the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Protocol, TypeVar

from prime_hub.runner.runtimes import oci_rooted as rooted
from prime_hub.runner.runtimes.base import ExecError, FileMissing, Files
from prime_hub.runner.runtimes.oci_tar import pack, unpack
from prime_hub.runner.runtimes.values import FileInfo, FileKind, Window, window

CHUNK_BYTES = 1 << 18
ENTRIES = 100_000
LINKS = 40
_T = TypeVar("_T")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})


class Container(Protocol):
    """What has to be known of a sandbox."""

    @property
    def pid(self) -> int | None: ...

    @property
    def container(self) -> str: ...

    @property
    def workdir(self) -> str: ...


class ContainerFiles(Files):
    """Files by way of the main process."""

    def __init__(self, box: Container) -> None:
        self._box = box

    def _absolute(self, path: str) -> str:
        return posixpath.join("/", self._box.workdir, path)

    def _shown(self, path: str) -> str:
        return posixpath.normpath(self._absolute(path))

    @contextlib.contextmanager
    def _root(self) -> Generator[int]:
        """The container's root, opened, and surely not that of a later process with the same number."""
        pid = self._box.pid
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise ExecError("The sandbox's main process has ended, so its files are gone.") from None
        with rooted.held(root):
            try:
                groups = Path(f"/proc/{pid}/cgroup").read_text()
            except OSError:
                groups = ""
            if self._box.container not in groups:
                raise ExecError("The sandbox's main process has ended, so its files are gone.")
            yield root

    def _owner(self) -> tuple[int, int]:
        """Whom the main process runs as, in this host's numbers."""
        try:
            lines = Path(f"/proc/{self._box.pid}/status").read_text().splitlines()
            found = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
            return int(found["Uid"][1]), int(found["Gid"][1])
        except (OSError, KeyError, IndexError, ValueError):
            raise ExecError("The sandbox's main process has ended, so its files are gone.") from None

    async def _do(self, path: str, work: Callable[[], _T], doing: str) -> _T:
        try:
            return await asyncio.to_thread(work)
        except (FileNotFoundError, NotADirectoryError):
            raise FileMissing(f"There is no file {path} in the sandbox.") from None
        except OSError as error:
            if error.errno in _FULL:
                raise
            if error.errno == errno.EISDIR:
                raise ExecError(f"{path} is a folder.") from None
            raise ExecError(f"{path} cannot be {doing}: {error.strerror or error}.") from None

    async def stat(self, path: str) -> FileInfo:
        def look() -> FileInfo:
            flags = os.O_PATH | os.O_NOFOLLOW
            with self._root() as root, rooted.held(rooted.open_below(root, self._absolute(path), flags)) as found:
                status = os.fstat(found)
                target = os.readlink("", dir_fd=found) if stat.S_ISLNK(status.st_mode) else None
                return _info(self._shown(path), status, target)

        return await self._do(path, look, "looked at")

    async def entries(self, path: str) -> list[FileInfo]:
        def look() -> list[FileInfo]:
            with self._root() as root:
                flags = os.O_RDONLY | os.O_DIRECTORY
                try:
                    descriptor = rooted.open_below(root, self._absolute(path), flags)
                except NotADirectoryError:
                    raise ExecError(f"{path} is not a folder.") from None
                with rooted.held(descriptor) as folder:
                    names = sorted(os.listdir(folder))  # noqa: PTH208 - of a descriptor
                    if len(names) > ENTRIES:
                        raise ExecError(f"{path} has more than {ENTRIES} entries; list it with a command.")
                    shown = self._shown(path).rstrip("/")
                    return [info for name in names if (info := _entry(folder, name, f"{shown}/{name}")) is not None]

        return await self._do(path, look, "listed")

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> Window:
        def begin() -> _Opened:
            with self._root() as root:
                return _Opened(rooted.open_regular(root, self._absolute(path)))

        opened = await self._do(path, begin, "read")
        start, wanted = window(opened.size, offset, length)
        return Window(opened.size, start, wanted, opened.chunks(start, wanted))

    async def write(self, path: str, content: AsyncIterable[bytes], mode: int | None = None) -> int:
        target = await self._do(path, lambda: self._begin(path), "written")
        try:
            size = 0
            async for chunk in content:
                await self._do(path, lambda data=chunk: target.write(data), "written")
                size += len(chunk)
            await self._do(path, lambda: target.finish(mode), "written")
            return size
        finally:
            await asyncio.shield(asyncio.to_thread(target.close))

    def _begin(self, path: str) -> _Target:
        uid, gid = self._owner()
        where = self._absolute(path)
        with self._root() as root:
            for _ in range(LINKS):
                above, name = rooted.split(where)
                folder = rooted.make_folders(root, above, lambda new: rooted.in_place(new, uid, gid))
                try:
                    rooted.refuse_kernel_files(folder)
                    # Written like a shell's `>`: through a link, and never into a device.
                    with contextlib.suppress(OSError):
                        link = os.readlink(name, dir_fd=folder)
                        where = posixpath.join(above, link)
                        os.close(folder)
                        continue
                    return _Target(folder, name, uid, gid)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.close(folder)
                    raise
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    async def make_folder(self, path: str) -> None:
        def make() -> None:
            uid, gid = self._owner()
            with self._root() as root:
                os.close(rooted.make_folders(root, self._absolute(path), lambda new: rooted.in_place(new, uid, gid)))

        try:
            await self._do(path, make, "made")
        except FileMissing:
            raise ExecError(f"The folder {path} cannot be made: something above it is not a folder.") from None

    async def remove(self, path: str) -> None:
        def take_away() -> None:
            if self._shown(path) == "/":
                raise ExecError("The whole file system of a sandbox cannot be removed; delete the sandbox.")
            above, name = rooted.split(self._absolute(path))
            flags = os.O_RDONLY | os.O_DIRECTORY
            with self._root() as root, rooted.held(rooted.open_below(root, above, flags)) as folder:
                rooted.refuse_kernel_files(folder)
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)

        await self._do(path, take_away, "removed")

    async def pack(self, path: str) -> AsyncIterator[bytes]:
        def begin() -> int:
            with self._root() as root:
                try:
                    return rooted.open_below(root, self._absolute(path), os.O_RDONLY | os.O_DIRECTORY)
                except NotADirectoryError:
                    raise ExecError(f"{path} is not a folder.") from None

        return pack(await self._do(path, begin, "packed"))

    async def unpack(self, path: str, archive: AsyncIterable[bytes]) -> None:
        await self.make_folder(path)

        def begin() -> int:
            with self._root() as root:
                return rooted.open_below(root, self._absolute(path), os.O_RDONLY | os.O_DIRECTORY)

        owner = self._owner()
        await unpack(path, await self._do(path, begin, "unpacked into"), archive, owner)


class _Opened:
    """A file that is read by and by; closed with the last reference."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        try:
            while length > 0 and (
                data := await asyncio.to_thread(os.pread, self._descriptor, min(CHUNK_BYTES, length), start)
            ):
                start, length = start + len(data), length - len(data)
                yield data
        finally:
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class _Target:
    """A file that is written beside its place and moved there when it is whole."""

    def __init__(self, folder: int, name: str, uid: int, gid: int) -> None:
        self._folder, self._name = folder, name
        self._owner, self._mode = (uid, gid), 0o644
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(old.st_mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(old.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            self._owner, self._mode = (old.st_uid, old.st_gid), stat.S_IMODE(old.st_mode) & 0o777
        # One for each writer: two of the same file must not write into each other's.
        self._scratch = f".{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._scratch, flags, 0o600, dir_fd=folder)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]

    def finish(self, mode: int | None) -> None:
        rooted.in_place(self._file, *self._owner, self._mode if mode is None else mode & 0o7777)
        os.replace(self._scratch, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._scratch = ""

    def close(self) -> None:
        os.close(self._file)
        if self._scratch:
            with contextlib.suppress(OSError):
                os.unlink(self._scratch, dir_fd=self._folder)
        os.close(self._folder)


def _entry(folder: int, name: str, shown: str) -> FileInfo | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(status.st_mode) else None
    except OSError:  # it went away meanwhile
        return None
    return _info(shown, status, target)


def _info(shown: str, status: os.stat_result, target: str | None) -> FileInfo:
    kinds: list[tuple[bool, FileKind]] = [
        (stat.S_ISREG(status.st_mode), "file"),
        (stat.S_ISDIR(status.st_mode), "folder"),
        (stat.S_ISLNK(status.st_mode), "link"),
    ]
    kind = next((kind for matches, kind in kinds if matches), "other")
    return FileInfo(shown, kind, status.st_size, stat.S_IMODE(status.st_mode), status.st_mtime, target)
