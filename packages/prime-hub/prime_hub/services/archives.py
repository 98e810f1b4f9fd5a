"""Reading source archives (`.tar.gz`) without unpacking them."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from prime_hub.errors import Invalid, NotFound, StorageFull
from prime_hub.services.blobs import storage_full

README_BYTES = 1024 * 1024
MANIFEST = "proj/.build.json"


@dataclass(frozen=True)
class Summary:
    """What the Hub keeps of an archive beside its bytes."""

    content_hash: str
    readme: str | None
    manifest: dict[str, Any] | None


def summarise(path: Path) -> Summary:
    """Check the archive's members and hash them. Raises Invalid with the reason an archive is refused, StorageFull."""
    from prime_core.errors import PackagingError
    from prime_core.packaging import read_archive

    try:
        content_hash, found = read_archive(path, {"README.md": README_BYTES, MANIFEST: README_BYTES})
    except PackagingError as error:
        if storage_full(error):  # what is not packed in order is unpacked to be hashed
            raise StorageFull(
                "The Hub's temporary folder is full: the source archive could not be checked and nothing was published. "
                "Free some space on the Hub's disk and run the command again."
            ) from error
        raise Invalid(f"The source archive was refused: {error}") from error
    readme = found.get("README.md")
    return Summary(content_hash, None if readme is None else _text(readme), _manifest(found.get(MANIFEST)))


def _text(data: bytes) -> str:
    """Text as both databases take it."""
    return data.decode("utf-8", "replace").replace("\0", "\ufffd")


def _manifest(data: bytes | None) -> dict[str, Any] | None:
    import json

    try:
        found = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def inspect(path: Path, inside: str, max_bytes: int) -> dict[str, Any]:
    """A file's text or a folder's entries, as `env inspect` shows them (hub.md §3.6). Raises NotFound."""
    wanted = _plain(inside)
    entries: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if not member.isfile():
                continue
            name = _plain(member.name)
            if name == wanted:
                stream = archive.extractfile(member)
                data = stream.read(max_bytes) if stream else b""
                return {
                    "kind": "file",
                    "path": name,
                    "content": data.decode("utf-8", "replace"),
                    "truncated": member.size > max_bytes,
                    "total_bytes": member.size,
                }
            if wanted and not name.startswith(wanted + "/"):
                continue
            rest = name[len(wanted) + 1 :] if wanted else name
            first, slash, _ = rest.partition("/")
            entries[first] = {
                "name": first,
                "path": f"{wanted}/{first}" if wanted else first,
                "is_directory": bool(slash),
                "size": None if slash else member.size,
            }
    if not entries:
        raise NotFound(f"There is no file or folder '{inside}' in this version.", code="path_not_found")
    order = sorted(entries.values(), key=lambda entry: (not entry["is_directory"], entry["name"]))
    return {"kind": "directory", "path": wanted, "entries": order}


def _plain(name: str) -> str:
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".", ".."))
