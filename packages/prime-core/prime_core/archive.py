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
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from prime_core.errors import PackagingError
from prime_core.files import atomic_file
from prime_core.metadata import read_metadata

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_MEMBERS = 20_000
MAX_BYTES = 1 << 30
# Long names and extended headers are read into memory whole, so theirs is a limit of its own.
MAX_HEADER_BYTES = 64 << 10
CHUNK_BYTES = 1 << 20
_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "dist", "build", "outputs"})
_NEVER_FOLDERS = frozenset({"__pycache__", ".git", ".venv", ".prime"})
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


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


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > MAX_HEADER_BYTES:
            raise PackagingError("The archive holds a header that is too large; it was not unpacked.")
        return member


class _Bounded:
    """A stream that ends the reading when more comes out of the compression than was allowed."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(CHUNK_BYTES if size < 0 else min(size, CHUNK_BYTES))
        self._left -= len(chunk)
        if self._left < 0:
            raise PackagingError(f"The archive unpacks to more than {self._limit} bytes; it was not unpacked.")
        return chunk


def _unpack(path: Path, target: Path, max_members: int, max_bytes: int) -> list[tuple[str, Path]]:
    """Write all files of the archive below the empty folder `target`."""
    files: dict[str, Path] = {}
    overhead = (max_members + 1) * 2048 + (64 << 10)
    try:
        with gzip.open(path, "rb") as packed:
            stream: BinaryIO = _Bounded(packed, max_bytes + overhead)  # ty: ignore[invalid-assignment]
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
                total = 0
                for count, member in enumerate(archive, 1):
                    if count > max_members:
                        raise PackagingError(f"The archive holds more than {max_members} entries; it was not unpacked.")
                    name = _checked_name(member)
                    if name is None:
                        continue
                    total += member.size
                    if total > max_bytes:
                        raise PackagingError(
                            f"The archive unpacks to more than {max_bytes} bytes; it was not unpacked."
                        )
                    if name in files:
                        raise PackagingError(f"The archive holds '{name}' twice; it was not unpacked.")
                    content = archive.extractfile(member)
                    if content is None:
                        raise PackagingError(f"The archive's entry '{name}' is not a file; it was not unpacked.")
                    files[name] = _write(target, name, content, member)
            # To the very end, where the checksum stands.
            while stream.read(CHUNK_BYTES):
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise PackagingError(f"{path.name} is not a complete .tar.gz archive: {error}.") from None
    except OSError as error:
        # After BadGzipFile, which is one too, only the disk is left.
        raise PackagingError(f"{path.name} could not be unpacked: {error.strerror or error}.") from None
    return sorted(files.items())


def _checked_name(member: tarfile.TarInfo) -> str | None:
    """The member's relative path; None for a folder. Raises PackagingError for what could leave the target."""
    shown = member.name.encode("utf-8", "backslashreplace").decode()
    if not member.isreg() and not member.isdir():
        raise PackagingError(f"The archive's entry '{shown}' is a link or a device; it was not unpacked.")
    if member.issparse():
        raise PackagingError(f"The archive's entry '{shown}' is a sparse file; it was not unpacked.")
    name = member.name.removeprefix("./")
    parts = PurePosixPath(name).parts
    unsafe = name.startswith("/") or ".." in parts or "\\" in name or re.match(r"^[A-Za-z]:", name)
    if unsafe or shown != member.name or any(ord(character) < 32 for character in name):
        raise PackagingError(f"The archive's entry '{shown}' would lie outside its folder; it was not unpacked.")
    if member.isdir():
        return None
    if not parts or "/".join(parts) != name:
        raise PackagingError(f"The archive's entry '{shown}' is not a plain path; it was not unpacked.")
    return name


def _write(target: Path, name: str, content: Iterable[bytes] | BinaryIO, member: tarfile.TarInfo) -> Path:
    place = target / name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            shutil.copyfileobj(content, file, CHUNK_BYTES)  # ty: ignore[invalid-argument-type]
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise PackagingError(
            f"The archive's entry '{name}' is a file and a folder at once; it was not unpacked."
        ) from None
    place.chmod(0o755 if member.mode & 0o100 else 0o644)
    return place


def hash_archive(path: Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_BYTES) -> str:
    """The content hash of an archive's members, whatever their order. Raises PackagingError for an unsafe archive."""
    with tempfile.TemporaryDirectory(prefix="prime-hash-") as scratch:
        return content_hash(_unpack(path, Path(scratch), max_members, max_bytes))


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
