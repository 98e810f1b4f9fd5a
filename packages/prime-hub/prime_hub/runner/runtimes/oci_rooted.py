"""Opening paths of another root file system so that no link and no race in it leads out (Linux, `openat2`).

The kernel itself resolves the path, below a folder that is held open; nothing here looks at a name and then opens it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator

IN_ROOT = 0x10
BENEATH = 0x08
_NO_MAGIC_LINKS = 0x02
_OPENAT2 = 437  # the same number on every architecture
_AGAIN = 64
_PATH_BYTES = 4096
# Of the kernel's own making: what is written there acts on the kernel, with this program's rights.
_KERNEL_SYSTEMS = frozenset({0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x64626720, 0x74726163, 0x19800202})

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _Statfs(ctypes.Structure):
    _fields_ = [("type", ctypes.c_long), ("rest", ctypes.c_char * 512)]


def open_below(folder: int, path: str, flags: int, resolve: int = IN_ROOT) -> int:
    """`path` opened below the open `folder`: IN_ROOT takes it for the root, BENEATH refuses what leaves it. Raises
    OSError.
    """
    encoded = os.fsencode(path)
    if b"\0" in encoded or len(encoded) >= _PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    how = _How(flags | os.O_CLOEXEC, 0, resolve | _NO_MAGIC_LINKS)
    for _ in range(_AGAIN):
        found = _libc.syscall(_OPENAT2, folder, encoded or b".", ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return found
        # Somebody renames folders meanwhile; the kernel does not say whether it is still below.
        if ctypes.get_errno() != errno.EAGAIN:
            break
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def works() -> bool:
    """Whether this kernel can do it."""
    try:
        os.close(open_below(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), "tmp", os.O_PATH))
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


@contextlib.contextmanager
def held(descriptor: int) -> Generator[int]:
    """Close it afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def refuse_kernel_files(descriptor: int) -> None:
    """Raise OSError for what lies in /proc, /sys and the like."""
    found = _Statfs()
    if _libc.fstatfs(descriptor, ctypes.byref(found)) == 0 and found.type in _KERNEL_SYSTEMS:
        raise OSError(errno.EPERM, "it is the kernel's, not a file")


def open_regular(folder: int, path: str, resolve: int = IN_ROOT) -> int:
    """A regular file opened for reading, links followed. Nothing else is ever opened, so neither a device nor a pipe
    can act or block. Raises OSError.
    """
    with held(open_below(folder, path, os.O_PATH, resolve)) as found:
        mode = os.fstat(found).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        refuse_kernel_files(found)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def split(path: str) -> tuple[str, str]:
    """(the folder, the name in it). Raises OSError for a path that ends in no name."""
    folder, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EBUSY, "it is no name in a folder")
    return folder or ("/" if path.startswith("/") else "."), name


def make_folders(root: int, path: str, made: Callable[[int], None], resolve: int = IN_ROOT) -> int:
    """A folder, opened, made where missing with those above it; `made` is called with each new one. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return open_below(root, path, flags, resolve)
    except FileNotFoundError:
        above, name = split(path)
    with held(make_folders(root, above, made, resolve)) as parent:
        refuse_kernel_files(parent)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            pass
        else:
            with held(os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as new:
                made(new)
    return open_below(root, path, flags, resolve)


def walk(folder: int, prefix: str = "") -> Iterator[tuple[str, int, os.stat_result, str]]:
    """Everything below an open folder, not through links: (path in it, its folder's descriptor, status, name)."""
    for name in sorted(os.listdir(folder)):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:  # it went away meanwhile
            continue
        yield f"{prefix}{name}", folder, found, name
        if stat.S_ISDIR(found.st_mode):
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except OSError:
                continue
            with held(below):
                yield from walk(below, f"{prefix}{name}/")


def in_place(descriptor: int, uid: int, gid: int, mode: int | None = None) -> None:
    """Give something new its owner and mode."""
    os.fchown(descriptor, uid, gid)
    if mode is not None:
        os.fchmod(descriptor, mode)
