"""Folders as a build handles them: unpacked, copied, hard-linked, hashed, and never left by way of a link or `..`."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from prime_hub.runner.runtimes.base import BuildError

MAX_CONTEXT_BYTES = 8 << 30
MAX_CONTEXT_FILES = 200_000
FIRST_ZIP_TIME = 315619200
SKIPPED_IN_DIGEST = frozenset({"__pycache__", ".venv", ".git"})


def unpack(archive: Path, target: Path) -> None:
    """Unpack an uploaded archive (tar, any compression) into a folder, bounded and without leaving it. Raises
    BuildError, OSError.
    """
    target.mkdir(parents=True, exist_ok=True)
    total = count = 0
    try:
        with tarfile.open(archive, "r:*") as packed:
            for member in packed:
                total, count = total + member.size, count + 1
                if total > MAX_CONTEXT_BYTES or count > MAX_CONTEXT_FILES:
                    raise BuildError(
                        f"The build context is larger than {MAX_CONTEXT_BYTES >> 30} GiB or {MAX_CONTEXT_FILES} files; "
                        "leave what the image does not need out with a .dockerignore."
                    )
                _unpack_member(packed, member, target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BuildError(f"The build context is not a readable tar archive ({error}); upload it again.") from None


def _unpack_member(packed: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    # By hand, because early 3.11 has no extraction filters.
    parts = [part for part in PurePosixPath(member.name).parts if part not in ("/", ".")]
    if ".." in parts:
        raise BuildError(f"The build context holds '{member.name}', which leads out of it.")
    path = place(target, "/" + "/".join(parts))
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        raise BuildError(f"The build context holds '{member.name}' both as a file and as a folder.")
    path.unlink(missing_ok=True)
    if member.issym():
        goal = os.path.normpath(PurePosixPath(*parts).parent / member.linkname)
        if goal == ".." or goal.startswith(("../", "/")):
            raise BuildError(f"The build context holds the link '{member.name}', which leads out of it.")
        path.symlink_to(member.linkname)
    elif member.islnk():
        copy(within(target, absolute(member.linkname, "/")), path)
    elif member.isreg():
        content = packed.extractfile(member)
        assert content is not None
        with content, path.open("wb") as file:
            shutil.copyfileobj(content, file)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
        # Archives without times are common, and wheels cannot hold any before 1980.
        os.utime(path, (member.mtime, max(member.mtime, FIRST_ZIP_TIME)))
    else:
        raise BuildError(f"The build context holds '{member.name}', which is neither a file nor a folder nor a link.")


def absolute(path: str, workdir: str) -> str:
    """A path of the image as an absolute one without `.` and `..`; relative ones start at `workdir`."""
    parts: list[str] = []
    for part in PurePosixPath(workdir, path).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def place(root: Path, path: str) -> Path:
    """Where an absolute path of the image lies on this host, its folders' links followed. Raises BuildError when a
    link leads out of `root`.
    """
    parts = PurePosixPath(path).parts[1:]
    if not parts:
        return root
    # The root itself as given, so that places below it can be told by it.
    inside = os.path.relpath(_resolved(root.joinpath(*parts[:-1]), path), root.resolve())
    if inside == ".." or inside.startswith("../"):
        raise BuildError(f"The path {path} leads out of the image by a link.")
    return root / inside / parts[-1]


def within(root: Path, path: str) -> Path:
    """`place` for what is read and written there, which follows the path's last link too. Raises BuildError."""
    found = place(root, path)
    if not _resolved(found, path).is_relative_to(root.resolve()):
        raise BuildError(f"The path {path} leads out of the image by a link.")
    return found


def _resolved(found: Path, path: str) -> Path:
    try:
        return found.resolve()
    except (OSError, RuntimeError):  # which of the two depends on the Python
        raise BuildError(f"The path {path} leads over links that go in a circle.") from None


def check_links(root: Path) -> None:
    """Raises BuildError for a link that leads out of the tree."""
    base = root.resolve()
    for path in walk(root):
        shown = f"/{path.relative_to(root)}"
        if path.is_symlink() and not _resolved(path, shown).is_relative_to(base):
            raise BuildError(f"{shown} is a link that leads out of the image.")


def walk(root: Path, skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Everything below a folder, sorted, links not followed; names in `skip` left out."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except NotADirectoryError:
        return
    for entry in entries:
        if entry.name in skip:
            continue
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path, skip)


def copy(source: Path, target: Path, skip: frozenset[str] = frozenset()) -> None:
    """Copy a file into place or a folder's content into a folder, times and modes kept; files are replaced."""
    if not source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(source, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in walk(source, skip):
        goal = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            if goal.is_symlink() or goal.is_file():
                goal.unlink()
            goal.mkdir(exist_ok=True)
        else:
            _replace(path, goal)


def _replace(source: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        raise BuildError(f"A file cannot take the place of the folder {target.name}.")
    # Never through an existing link: the new file takes its place.
    target.unlink(missing_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def matching(root: Path, pattern: str) -> list[Path]:
    """Where the paths that an absolute pattern stands for lie, sorted. Raises BuildError."""
    found = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern.lstrip("/")))
    return [within(root, f"/{name}") for name in found]


def link(source: Path, target: Path) -> None:
    """Make `target` a copy of the folder `source` by hard links, or by copies where links cannot be made.

    Raises FileExistsError, OSError.
    """
    target.mkdir()
    # Strings and not paths within: an image has some ten thousand files.
    _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            goal = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), goal)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                os.mkdir(goal)  # noqa: PTH102
                _link(entry.path, goal)
            else:
                try:
                    os.link(entry.path, goal)
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                        raise
                    shutil.copy2(entry.path, goal)


def protect(root: Path) -> None:
    """Make the files below a folder read-only, because they are shared with other folders by hard links."""
    for path in walk(root):
        if not path.is_symlink() and path.is_file():
            path.chmod(path.stat().st_mode & 0o555)


def remove(path: Path) -> None:
    """Remove a folder or file and all that is in it; nothing when it is gone."""
    if path.is_dir() and not path.is_symlink():
        if sys.version_info >= (3, 12):
            shutil.rmtree(path, onexc=_make_writable)
        else:
            shutil.rmtree(path, onerror=_make_writable)
    else:
        path.unlink(missing_ok=True)


def _make_writable(function: object, name: str, error: object) -> None:
    # A server may have taken the write permission from its own folders.
    path = Path(name)
    for folder in (path.parent, path):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o700)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def digest(root: Path) -> str:
    """SHA-256 (hex) over names, kinds, executable bits and contents below a folder (or of a file)."""
    total = hashlib.sha256()
    for path in [root] if root.is_file() else walk(root, SKIPPED_IN_DIGEST):
        if path.is_symlink():
            kind, content = "l", str(path.readlink()).encode()
        elif path.is_dir():
            kind, content = "d", b""
        else:
            kind, content = "x" if path.stat().st_mode & 0o100 else "f", file_digest(path)
        total.update(f"{kind}{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def size(root: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in walk(root) if not path.is_dir())
