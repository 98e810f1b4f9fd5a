"""The build context of an image: which files Docker would send, their digest, and the archive that is uploaded.

Ignore rules: Docker's `.dockerignore` (`<Dockerfile>.dockerignore` first). Never sent, whatever the rules say: the
manifest (its digest would depend on itself), caches, virtual environments and `.git`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from prime_core.errors import ProjectError
from prime_core.files import atomic_file
from prime_core.manifest import FILE_NAME

NEVER_NAMES = frozenset({"__pycache__", ".venv", ".git"})


def ignore_patterns(text: str) -> list[tuple[bool, re.Pattern[str]]]:
    """The rules of a `.dockerignore`, in order: (keeps, pattern over a relative path). Raises ProjectError."""
    rules = []
    for line in text.splitlines():
        # Only a '#' in the first column starts a comment, as with Docker.
        rule = "" if line.startswith("#") else line.strip()
        keeps = rule.startswith("!")
        rule = os.path.normpath(rule.removeprefix("!").strip()).lstrip("/") if rule else ""
        if rule not in ("", "."):
            try:
                rules.append((keeps, re.compile(_expression(rule))))
            except re.error as error:
                raise ProjectError(f"The ignore rule '{line.strip()}' is not a valid pattern: {error.msg}.") from None
    return rules


def _expression(rule: str) -> str:
    """Docker's patterns: `*` and `?` stay within a name, `**` crosses folders; a folder that matches takes its
    content along.
    """
    out, position = "", 0
    while position < len(rule):
        if rule.startswith("**/", position):
            out, position = out + "(?:.*/)?", position + 3
        elif rule.startswith("**", position):
            out, position = out + ".*", position + 2
        elif rule[position] == "*":
            out, position = out + "[^/]*", position + 1
        elif rule[position] == "?":
            out, position = out + "[^/]", position + 1
        elif rule[position] == "[" and (end := rule.find("]", position + 2)) > 0:
            inside = rule[position + 1 : end].replace("\\", "\\\\")
            out, position = f"{out}[{inside}]", end + 1
        elif rule[position] == "\\" and position + 1 < len(rule):
            out, position = out + re.escape(rule[position + 1]), position + 2
        else:
            out, position = out + re.escape(rule[position]), position + 1
    return f"{out}(?:/.*)?"


def ignored(path: str, rules: list[tuple[bool, re.Pattern[str]]]) -> bool:
    """Whether a relative path is left out by the rules of `ignore_patterns`."""
    left_out = False
    for keeps, pattern in rules:
        if pattern.fullmatch(path):
            left_out = not keeps
    return left_out


def _rules(root: Path, dockerfile: str) -> list[tuple[bool, re.Pattern[str]]]:
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            return ignore_patterns((root / name).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            raise ProjectError(f"The ignore file {root / name} cannot be read as UTF-8 text.") from None
    return []


def context_files(root: Path, dockerfile: str = "Dockerfile") -> list[tuple[str, Path]]:
    """The files of a build context, as (path with `/`, file), sorted; the Dockerfile is always among them.

    A link to a file inside `root` counts as the file. Raises ProjectError for a missing Dockerfile and for links that
    lead out.
    """
    if not (root / dockerfile).is_file():
        raise ProjectError(
            f"No Dockerfile at {root / dockerfile}.", "Write one, or name it with --dockerfile relative to the context."
        )
    rules = _rules(root, dockerfile)
    found = [(name, path) for name, path in _walk(root, root) if name == dockerfile or not ignored(name, rules)]
    for name, path in found:
        if path.is_symlink():
            _check_link(name, path, root)
    # A dangling link is an editor's leftover; Docker would send it, but nothing could read it.
    return sorted((name, path) for name, path in found if path.is_file())


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ProjectError(f"The folder {folder} cannot be read: {error.strerror or error}.") from None
    for entry in entries:
        if entry.name in NEVER_NAMES or entry.name == FILE_NAME or entry.suffix == ".pyc":
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, root)
        elif entry.is_file() or entry.is_symlink():
            yield entry.relative_to(root).as_posix(), entry


def _check_link(name: str, path: Path, root: Path) -> None:
    target = path.resolve()
    if path.is_dir():
        raise ProjectError(
            f"'{name}' is a link to a folder, and a build context holds files only.",
            "Copy the folder there, or name the link in .dockerignore.",
        )
    if target.exists() and not target.is_relative_to(root.resolve()):
        raise ProjectError(
            f"'{name}' is a link that leads out of {root}.", "Copy the file there, or name the link in .dockerignore."
        )


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def context_digest(root: Path, dockerfile: str = "Dockerfile") -> str:
    """SHA-256 (hex) over the Dockerfile's place and, per file in order, path, executable bit, size and content."""
    digest = hashlib.sha256(f"dockerfile:{dockerfile}\0".encode())
    for name, path in context_files(root, dockerfile):
        content = path.read_bytes()
        digest.update(f"{name}\0{int(_executable(path))}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def write_context(root: Path, dockerfile: str, target: Path) -> Path:
    """Write the context as a tar.gz that is the same, byte for byte, for the same files: no times, no owners."""
    with (
        atomic_file(target) as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in context_files(root, dockerfile):
            member = tarfile.TarInfo(name)
            member.size = path.stat().st_size
            member.mode = 0o755 if _executable(path) else 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)
    return target
