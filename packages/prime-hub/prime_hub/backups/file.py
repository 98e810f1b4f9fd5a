"""The backup as one file: a zip with `rows/TABLE.jsonl`, `blobs/KEY`, and at last `manifest.json`, which has the size and the
SHA-256 of everything before it. A file that was cut off, or changed, is told before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Table

from prime_hub import __version__
from prime_hub.backups import rows
from prime_hub.db.migrate import head
from prime_hub.db.types import now
from prime_hub.errors import Conflict, Invalid

FORMAT = 1
KIND = "prime-hub backup"
MANIFEST = "manifest.json"
CHUNK = 1 << 20


class Writer:
    """Writes a backup; `add` one entry after the other, then `finish`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._entries: dict[str, list[Any]] = {}

    async def add(self, name: str, parts: AsyncIterator[bytes], packed: bool = False) -> int:
        """One entry, as it comes; its size in bytes. One whose first part cannot be had is not there at all."""
        entry = zipfile.ZipInfo(name, now().timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        digest, size = hashlib.sha256(), 0
        first = await anext(parts, b"")
        with self._zip.open(entry, "w", force_zip64=True) as out:
            part: bytes | None = first
            while part is not None:
                out.write(part)
                digest.update(part)
                size += len(part)
                part = await anext(parts, None)
        self._entries[name] = [size, digest.hexdigest()]
        return size

    def sha256(self, name: str) -> str:
        """Of an entry that was added."""
        return str(self._entries[name][1])

    def finish(self, about: dict[str, Any]) -> None:
        """The manifest."""
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "made_by": __version__,
            "made_at": now().isoformat(timespec="seconds"),
            "schema": head(),
            **about,
            "entries": self._entries,
        }
        self._zip.writestr(MANIFEST, json.dumps(manifest), zipfile.ZIP_DEFLATED)
        self._zip.close()


@contextmanager
def written(path: Path) -> Generator[Writer]:
    """A new file that only its owner may read, there when it is whole. Raises Conflict for one that is there."""
    if path.exists():
        raise Conflict(f"{path} is there already; name another file.")
    scratch = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield Writer(file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            raise Invalid(f"There is no folder {path.parent} to write the backup to.") from error
        raise Conflict(f"The backup could not be written to {path}: {error.strerror or error}.") from error
    finally:
        scratch.unlink(missing_ok=True)


class Reader:
    """A backup that has been looked through."""

    def __init__(self, path: Path) -> None:
        self.path = path
        damaged = f"The backup {path} is damaged or cut off"
        try:
            self._zip = zipfile.ZipFile(path)
            self.manifest: dict[str, Any] = json.loads(self._zip.read(MANIFEST))
            entries = self.manifest["entries"]
            known = (self.manifest["kind"], int(self.manifest["format"]), str(self.manifest["schema"]))
        except FileNotFoundError:
            raise Invalid(f"There is no file {path}.") from None
        except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError) as error:
            raise Invalid(f"{damaged}, or no backup of a Hub; nothing was restored.") from error
        if known[0] != KIND or known[1] > FORMAT:
            raise Invalid(f"{path} is of format {known[1]}, and this program reads up to {FORMAT}; upgrade prime-hub.")
        if known[2] != head():
            raise Conflict(
                f"The backup {path} has the schema {known[2]}, and this program knows {head()}; restore it with the prime-hub "
                f"that made it ({self.manifest.get('made_by')}), whose Hub the newer one then upgrades."
            )
        names = {info.filename for info in self._zip.infolist()} - {MANIFEST}
        if names != set(entries):
            raise Invalid(f"{damaged}: it does not hold what its manifest says; nothing was restored.")
        self.blobs = {name.removeprefix("blobs/"): entries[name] for name in entries if name.startswith("blobs/")}

    def check(self) -> None:
        """Read all of it. Raises Invalid for what is not as it was written."""
        for name, (size, sha256) in self.manifest["entries"].items():
            digest, found = hashlib.sha256(), 0
            try:
                with self._zip.open(name) as entry:
                    while part := entry.read(CHUNK):
                        digest.update(part)
                        found += len(part)
            except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise self._damaged(name) from error
            if (found, digest.hexdigest()) != (size, sha256):
                raise self._damaged(name)

    def _damaged(self, name: str) -> Invalid:
        return Invalid(f"The backup {self.path} is damaged (at {name}); nothing was restored.")

    async def blob(self, key: str) -> AsyncIterator[bytes]:
        """A blob in parts."""
        with self._zip.open(f"blobs/{key}") as entry:
            while part := entry.read(CHUNK):
                yield part

    async def rows(self, one: Table) -> AsyncIterator[dict[str, Any]]:
        """The rows of a table. Raises Invalid."""
        try:
            with self._zip.open(f"rows/{one.name}.jsonl") as entry:
                for content in entry:
                    yield rows.row_of(one, content)
        except (KeyError, ValueError) as error:
            raise Invalid(f"The rows of {one.name} in {self.path} cannot be read; nothing was restored.") from error
