"""A build context for a container engine: the uploaded archive without what `.dockerignore` names.

The engine's API does not apply `.dockerignore`, and clients other than ours may send everything. The archive is a
stranger's: names that lead out of it and anything but files, folders and links are refused before an engine, which is
root, unpacks it.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from prime_core.context import ignore_patterns, ignored
from prime_core.errors import ProjectError
from prime_hub.runner.runtimes.base import BuildError

IGNORE_BYTES = 1 << 20
MEMBERS = 200_000


def write_context(archive: Path, dockerfile: str, target: Path) -> None:
    """Write the archive anew as a plain tar, filtered. Blocking. Raises BuildError, OSError."""
    name = posixpath.normpath(dockerfile)
    try:
        with tarfile.open(archive) as source:
            rules = _rules(source, name)
        found = False
        with tarfile.open(archive) as source, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as sink:
            for path, member in _members(source):
                found = found or path == name
                # The engine needs the Dockerfile whatever the rules say, as Docker's own client sends it.
                if path != name and ignored(path, rules):
                    continue
                member.name = path
                sink.addfile(member, source.extractfile(member) if member.isreg() else None)
    except (tarfile.TarError, EOFError) as error:
        raise BuildError(f"The build context is not a readable archive: {error}.") from None
    except ProjectError as error:
        raise BuildError(str(error)) from None
    if not found:
        raise BuildError(f"The build context has no {dockerfile}.")


def _members(source: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    for count, member in enumerate(source):
        path = posixpath.normpath(member.name)
        if count >= MEMBERS:
            raise BuildError(
                f"The build context has more than {MEMBERS} files; name what is not needed in .dockerignore."
            )
        if path.startswith(("/", "../")) or path == ".." or "\0" in path:
            raise BuildError(f"The build context has an entry outside of itself: '{member.name}'.")
        if path == ".":
            continue
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise BuildError(
                f"'{member.name}' is neither a file nor a folder nor a link, so no image is built with it."
            )
        yield path, member


def _rules(source: tarfile.TarFile, dockerfile: str) -> list:
    held: dict[str, str] = {}
    wanted = (f"{dockerfile}.dockerignore", ".dockerignore")
    for path, member in _members(source):
        if path in wanted and member.isreg():
            held[path] = _text(source.extractfile(member), path)
    return next((ignore_patterns(held[name]) for name in wanted if name in held), [])


def _text(file: IO[bytes] | None, path: str) -> str:
    content = file.read(IGNORE_BYTES + 1) if file is not None else b""
    if len(content) > IGNORE_BYTES:
        raise BuildError(f"{path} of the build context is too large.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BuildError(f"{path} of the build context cannot be read as UTF-8 text.") from None
