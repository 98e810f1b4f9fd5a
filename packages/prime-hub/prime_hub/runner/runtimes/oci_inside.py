"""The file system of a container by commands in it, with the rights of its own user.

For a runner that is not root, and for gVisor, whose files this host does not see as its processes do. Nothing of this
host is touched, so no link can lead to it; the image needs a shell and the usual tools.
"""

from __future__ import annotations

import asyncio
import posixpath
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from prime_hub.runner.runtimes.base import Command, ExecError, FileMissing, Files
from prime_hub.runner.runtimes.values import STDOUT, CommandSpec, FileInfo, FileKind, Window, window

SHORT_BYTES = 16 << 20
SHORT_SECONDS = 60.0
MISSING, OTHER_KIND = 44, 45
_KINDS: dict[int, FileKind] = {0o100000: "file", 0o040000: "folder", 0o120000: "link"}
_LETTERS = {"f": 0o100000, "d": 0o040000, "l": 0o120000}

_THERE = f'[ -e "$1" ] || [ -L "$1" ] || exit {MISSING}\n'
# gVisor of some versions has no statx, which GNU's stat insists on; GNU's find does without.
_LOOK = """look() { stat -c '%f %s %Y' "$1" 2>/dev/null || find "$1" -maxdepth 0 -printf '=%y%m %s %T@\\n'; }
"""
_STAT = _THERE + _LOOK + 'look "$1" && if [ -L "$1" ]; then readlink "$1"; fi'
_ENTRIES = (
    _THERE
    + _LOOK
    + f"""[ -d "$1" ] || exit {OTHER_KIND}
cd "$1" || exit 1
for n in * .[!.]* ..?*; do
[ -e "$n" ] || [ -L "$n" ] || continue
printf '%s\\0' "$n"; look "./$n"; [ ! -L "./$n" ] || readlink "./$n"; printf '\\0'
done"""
)
_SIZE = f"""[ -e "$1" ] || exit {MISSING}
[ -f "$1" ] || exit {OTHER_KIND}
stat -L -c %s "$1" 2>/dev/null || find -L "$1" -maxdepth 0 -printf '%s'"""
_READ = 'tail -c "+$2" "$1" | head -c "$3"'
_WRITE = f"""[ ! -d "$1" ] || exit {OTHER_KIND}
mkdir -p "${{1%/*}}/" || exit 1
while [ -L "$1" ]; do l=$(readlink "$1"); case $l in /*) ;; *) l="${{1%/*}}/$l" ;; esac; shift; set -- "$l" "$@"; done
[ ! -e "$1" ] || [ -f "$1" ] || exit {OTHER_KIND}
p="${{1%/*}}/$2"; trap 'rm -f "$p"' EXIT
cat > "$p" || exit 1
[ -z "$3" ] || chmod "$3" "$p" || exit 1
mv -f "$p" "$1\""""
_REMOVE = _THERE + 'rm -rf "$1"'
_PACK = f'[ -e "$1" ] || exit {MISSING}\n[ -d "$1" ] || exit {OTHER_KIND}\nexec tar -C "$1" -cf - .'
_UNPACK = 'mkdir -p "$1" && exec tar -C "$1" -xf -'


class Container(Protocol):
    """What has to be known of a sandbox."""

    @property
    def workdir(self) -> str: ...

    async def run(self, spec: CommandSpec) -> Command: ...


class InsideFiles(Files):
    """Files by the sandbox's own tools."""

    def __init__(self, box: Container) -> None:
        self._box = box

    def _absolute(self, path: str) -> str:
        return posixpath.join("/", self._box.workdir, path)

    async def _start(self, script: str, *words: str, stdin: bool = False) -> Command:
        return await self._box.run(
            CommandSpec(("/bin/sh", "-c", script, "sh", *words), working_dir="/", stdin=stdin, env={"LC_ALL": "C"})
        )

    async def _short(self, path: str, script: str, *words: str, seconds: float | None = SHORT_SECONDS) -> bytes:
        """What a script printed. Raises FileMissing, ExecError."""
        command = await self._start(script, *words)
        try:
            async with asyncio.timeout(seconds):
                return await _finished(command, path)
        except TimeoutError:
            raise ExecError(f"The sandbox did not answer within {SHORT_SECONDS:g} seconds about {path}.") from None
        finally:
            await command.close()

    async def stat(self, path: str) -> FileInfo:
        return _info(posixpath.normpath(self._absolute(path)), await self._short(path, _STAT, self._absolute(path)))

    async def entries(self, path: str) -> list[FileInfo]:
        shown = posixpath.normpath(self._absolute(path)).rstrip("/")
        words = (await self._short(path, _ENTRIES, self._absolute(path))).split(b"\0")
        pairs = zip(words[::2], words[1::2], strict=False)
        found = [_info(f"{shown}/{name.decode('utf-8', 'surrogateescape')}", text) for name, text in pairs]
        return sorted(found, key=lambda item: item.path)

    async def read(self, path: str, offset: int = 0, length: int | None = None) -> Window:
        size = _number(await self._short(path, _SIZE, self._absolute(path)))
        start, wanted = window(size, offset, length)
        return Window(size, start, wanted, self._content(path, start, wanted))

    async def _content(self, path: str, start: int, length: int) -> AsyncIterator[bytes]:
        if length == 0:
            return
        command = await self._start(_READ, self._absolute(path), str(start + 1), str(length))
        try:
            async for stream, data in command.output():
                if stream == STDOUT and length > 0:
                    yield data[:length]
                    length -= len(data)
        finally:
            await command.close()

    async def write(self, path: str, content: AsyncIterable[bytes], mode: int | None = None) -> int:
        words = (self._absolute(path), f".{secrets.token_hex(8)}.part", "" if mode is None else f"{mode & 0o7777:o}")
        return await self._fed(path, content, _WRITE, *words)

    async def _fed(self, path: str, content: AsyncIterable[bytes], script: str, *words: str) -> int:
        """Run a script with an input; the bytes it got. Raises ExecError."""
        command = await self._start(script, *words, stdin=True)
        size = 0
        try:
            async for chunk in content:
                try:
                    await command.write(bytes(chunk))
                except ExecError:
                    break  # why, it says itself
                size += len(chunk)
            await command.close_stdin()
            await _finished(command, path)
            return size
        finally:
            await command.close()

    async def make_folder(self, path: str) -> None:
        await self._short(path, 'mkdir -p "$1"', self._absolute(path))

    async def remove(self, path: str) -> None:
        where = self._absolute(path)
        if posixpath.normpath(where) == "/":
            raise ExecError("The whole file system of a sandbox cannot be removed; delete the sandbox.")
        await self._short(path, _REMOVE, where.rstrip("/"))

    async def pack(self, path: str) -> AsyncIterator[bytes]:
        if (await self.stat(path.rstrip("/") + "/.")).kind != "folder":
            raise ExecError(f"{path} is not a folder.")
        return self._packed(path)

    async def _packed(self, path: str) -> AsyncIterator[bytes]:
        command = await self._start(_PACK, self._absolute(path))
        try:
            async for stream, data in command.output():
                if stream == STDOUT:
                    yield data
        finally:
            await command.close()

    async def unpack(self, path: str, archive: AsyncIterable[bytes]) -> None:
        await self._fed(path, archive, _UNPACK, self._absolute(path))


async def _finished(command: Command, path: str) -> bytes:
    held = {1: bytearray(), 2: bytearray()}
    async for stream, data in command.output():
        if len(held[1]) + len(held[2]) > SHORT_BYTES:
            raise ExecError(f"The sandbox says too much about {path}; look at it with a command.")
        held[stream] += data
    code = await command.wait()
    if code == MISSING:
        raise FileMissing(f"There is no file {path} in the sandbox.")
    if code == OTHER_KIND:
        raise ExecError(f"{path} is not of the kind that this asks for, a regular file or a folder.")
    if code != 0:
        reason = (
            " ".join(held[2].decode("utf-8", "replace").split())[-300:] or f"the sandbox's own tools ended with {code}"
        )
        raise ExecError(f"{path}: {reason.rstrip('.')}.")
    return bytes(held[1])


def _info(shown: str, text: bytes) -> FileInfo:
    head, _, rest = text.partition(b"\n")
    try:
        mode, size, modified = head.split()
        bits = _bits(mode.decode("ascii", "replace"))
        kind = _KINDS.get(bits & 0o170000, "other")
        target = rest.removesuffix(b"\n").decode("utf-8", "surrogateescape") if kind == "link" else None
        return FileInfo(shown, kind, int(size), bits & 0o7777, float(modified), target)
    except ValueError:
        raise ExecError(f"The sandbox's own tools do not tell what {shown} is.") from None


def _bits(mode: str) -> int:
    """The mode from either form: all of it in hexadecimal, or `=`, a letter for the kind and octal permissions."""
    if mode.startswith("="):
        return _LETTERS.get(mode[1:2], 0) | int(mode[2:], 8)
    return int(mode, 16)


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ExecError("The sandbox's own tools do not tell the size of a file.") from None
