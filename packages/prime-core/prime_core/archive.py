"""The source archive of an environment: which files, their hash, packing and safe unpacking.

File set and hash: protocols/hub.md §3.2, so that the official command computes the same ones; to them come what
`tool.hatch.build.include` names, and `proj/.build.json`.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from prime_core.entries import MAX_BYTES, MAX_ENTRIES, BadName, Entries, shown
from prime_core.errors import PackagingError
from prime_core.files import atomic_file
from prime_core.metadata import read_metadata
from prime_core.tars import UNREADABLE, members_of

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_MEMBERS = MAX_ENTRIES
CHUNK_BYTES = 1 << 20
_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "dist", "build", "outputs"})
_NEVER_FOLDERS = frozenset({"__pycache__", ".git", ".venv", ".prime"})


def archive_files(env_dir: Path) -> list[tuple[str, Path]]:
    """What is published of a folder, as (path with `/`, file), sorted by code points. Raises PackagingError."""
    import pathspec

    metadata = read_metadata(env_dir)
    try:
        ignore_text = (env_dir / ".gitignore").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        ignore_text = ""
    ignored = pathspec.GitIgnoreSpec.from_lines(ignore_text.splitlines())
    named = [_Named(pattern) for pattern in metadata.hatch_include]
    chosen = {}
    for path in _walk(env_dir):
        name = path.relative_to(env_dir).as_posix()
        if name == "proj/.build.json" or _ordinary(name, ignored) or any(rule.wants(name, ignored) for rule in named):
            chosen[name] = path
    entries = Entries()
    for name in sorted(chosen):
        try:
            entries.add(name)
        except BadName as error:
            raise PackagingError(f"The file '{shown(name)}' {error}; it cannot be published.") from None
    return sorted(chosen.items())


class _Named:
    """One line of `tool.hatch.build.include`, a gitignore pattern.

    A hidden file counts as named only when the pattern itself has a hidden part, so that `*` never publishes `.env`;
    a file that `.gitignore` leaves out, only when the pattern has no wildcard.
    """

    def __init__(self, pattern: str) -> None:
        import pathspec

        self._spec = pathspec.GitIgnoreSpec.from_lines([pattern])
        self._hidden = any(part.startswith(".") for part in pattern.lstrip("!/").split("/") if part not in (".", ".."))
        self._literal = not re.search(r"[*?\[]", pattern)

    def wants(self, name: str, ignored: GitIgnoreSpec) -> bool:
        parts = name.split("/")
        if not self._spec.match_file(name) or any(part in _NEVER_FOLDERS for part in parts[:-1]):
            return False
        if any(part.startswith(".") for part in parts) and not self._hidden:
            return False
        return self._literal or not ignored.match_file(name)


def _ordinary(name: str, ignored: GitIgnoreSpec) -> bool:
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return False
    if any(part in _LEFT_OUT_FOLDERS or part.endswith(".egg-info") for part in parts[:-1]):
        return False
    if len(parts) == 1 and name not in ("README.md", "pyproject.toml") and not name.endswith(".py"):
        return False
    return not ignored.match_file(name)


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise PackagingError(f"The folder {folder} cannot be read: {error.strerror or error}.") from None
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir():
            if entry.name not in _NEVER_FOLDERS:
                yield from _walk(entry)
        elif entry.is_file():
            yield entry


def content_hash(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 (hex) over `file:<path>` and the bytes of each file, in code-point order of the paths."""
    digest = hashlib.sha256()
    for name, path in sorted(files):
        digest.update(f"file:{name}".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def write_source_archive(env_dir: Path, target: Path) -> Path:
    """Write what is published as a tar.gz that is the same, byte for byte, for the same files. Raises
    PackagingError.
    """
    return write_archive(archive_files(env_dir), target)


def write_archive(files: Iterable[tuple[str, Path]], target: Path) -> Path:
    """Write these files as a tar.gz without times and owners."""
    with (
        atomic_file(target) as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in files:
            status = path.stat()
            member = tarfile.TarInfo(name)
            member.size = status.st_size
            member.mode = 0o755 if status.st_mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)
    return target


def _packed(path: Path, max_members: int, max_bytes: int) -> Iterator[tuple[str, tarfile.TarInfo, BinaryIO]]:
    """The files of the archive in its own order, checked; each content is to be read before the next is asked for."""
    entries, total, count = Entries(), 0, 0
    for member, content in members_of(path, max_bytes + (max_members + 1) * 2048 + (64 << 10)):
        count += 1
        if count > max_members:
            raise PackagingError(f"The archive holds more than {max_members} entries; it was not unpacked.")
        try:
            name = entries.add(_safe(member).name, member.isdir())
            if member.isdir():
                continue
            total += member.size
            if total > max_bytes:
                raise PackagingError(f"The archive unpacks to more than {max_bytes} bytes; it was not unpacked.")
        except BadName as error:
            raise PackagingError(f"The archive's entry '{shown(member.name)}' {error}; it was not unpacked.") from None
        yield name, member, content


def _safe(member: tarfile.TarInfo) -> tarfile.TarInfo:
    if not member.isreg() and not member.isdir():
        raise BadName("is a link or a device")
    if member.size < 0:
        raise BadName("has a size below zero")
    return member


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """What the exceptions of reading an archive mean. Raises PackagingError."""
    try:
        yield
    except UNREADABLE as error:
        raise PackagingError(f"{path.name} is not a complete .tar.gz archive: {error}.") from None
    except OSError as error:
        # After BadGzipFile, which is one too, only the disk is left.
        raise PackagingError(f"{path.name} could not be unpacked: {error.strerror or error}.") from None


def _unpack(path: Path, target: Path, max_members: int, max_bytes: int) -> list[tuple[str, Path]]:
    """Write all files of the archive below the empty folder `target`."""
    with _readable(path):
        files = [
            (name, _write(target, name, content, member))
            for name, member, content in _packed(path, max_members, max_bytes)
        ]
    return sorted(files)


def _write(target: Path, name: str, content: BinaryIO, member: tarfile.TarInfo) -> Path:
    place = target / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
    place.chmod(0o755 if member.mode & 0o100 else 0o644)
    return place


def hash_archive(path: Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES) -> str:
    """The content hash of an archive's members, whatever their order. Raises PackagingError for an unsafe archive."""
    return read_archive(path, {}, max_members, max_bytes)[0]


def read_archive(
    path: Path, wanted: Mapping[str, int], max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES
) -> tuple[str, dict[str, bytes]]:
    """The content hash, and the contents of the `wanted` files (path → most bytes) that are there and not larger.

    Raises PackagingError for an unsafe archive. What is packed in another order than it is hashed is unpacked for it, into
    the temporary folder; commands pack in order.
    """
    digest, found, last = hashlib.sha256(), {}, ""
    with _readable(path):
        for name, member, content in _packed(path, max_members, max_bytes):
            if name < last:
                break
            last = name
            digest.update(f"file:{name}".encode())
            keep = member.size <= wanted.get(name, -1)
            parts = []
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
                if keep:
                    parts.append(chunk)
            if keep:
                found[name] = b"".join(parts)
        else:
            return digest.hexdigest(), found
    with tempfile.TemporaryDirectory(prefix="prime-hash-") as scratch:
        files = _unpack(path, Path(scratch), max_members, max_bytes)
        found = {name: file.read_bytes() for name, file in files if file.stat().st_size <= wanted.get(name, -1)}
        return content_hash(files), found


def extract_archive(path: Path, target: Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES) -> list[str]:
    """Unpack into `target` (made when missing) and return the paths; an unsafe archive leaves nothing behind.

    Refused with PackagingError: links, devices, sparse files, absolute paths, `..`, names given twice, more than
    `max_members` entries, more than `max_bytes` unpacked. Files that are there already are replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as name:
        scratch = Path(name) / "content"
        scratch.mkdir(mode=0o755)
        files = _unpack(path, scratch, max_members, max_bytes)
        if not target.exists():
            scratch.rename(target)
        else:
            for relative, file in files:
                place = target / relative
                if place.parent.resolve() != target.resolve() / Path(relative).parent:
                    raise PackagingError(
                        f"'{relative}' would be written through a link in {target}; nothing was replaced there."
                    )
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
    return [relative for relative, _ in files]
