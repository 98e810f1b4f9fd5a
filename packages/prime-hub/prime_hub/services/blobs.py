"""Bytes by key: wheels, source archives, build contexts, logs. A folder now; any bucket that obstore knows later."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from prime_hub.errors import HubError, StorageFull, TooLarge

PART = 4 * 1024 * 1024

# ENOSPC, EFBIG, EDQUOT as the operating system numbers and words them.
FULL = ("os error 28", "os error 27", "os error 122", "No space left", "File too large", "quota exceeded")


@dataclass(frozen=True)
class Stored:
    """What came in: bytes and their SHA-256 in hex."""

    size: int
    sha256: str


def storage_full(error: BaseException) -> bool:
    """Whether `error` says that the disk takes no more."""
    text = str(error)
    return any(sign in text for sign in FULL)


class BlobStore:
    """A store of immutable blobs. Nothing is seen under its key before it is whole."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root
        self._store = LocalStore(root, automatic_cleanup=True)

    async def put(self, key: str, chunks: AsyncIterator[bytes], limit: int, what: str) -> Stored:
        """Store a stream, holding a few megabytes of it at a time.

        Raises TooLarge beyond `limit` bytes and StorageFull when the disk is full; nothing is left under `key` then.
        """
        digest = hashlib.sha256()
        size = 0
        refused: HubError | None = None

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size, refused
            part = bytearray()
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    refused = TooLarge(f"The {what} is larger than the {limit} bytes this Hub accepts.")
                    raise refused
                digest.update(chunk)
                part += chunk
                if len(part) >= PART:
                    yield bytes(part)
                    part.clear()
            yield bytes(part)

        try:
            await obstore.put_async(self._store, key, counted(), chunk_size=PART, max_concurrency=1)
        except BaseException as error:
            with suppress(BaseError, OSError):
                await self.delete(key)
            if refused is not None:
                raise refused from None
            if storage_full(error):
                raise StorageFull(
                    f"The Hub's storage is full: the {what} could not be stored and nothing was published. "
                    "Free some space on the Hub's disk and run the command again."
                ) from error
            raise
        return Stored(size, digest.hexdigest())

    async def put_bytes(self, key: str, data: bytes, what: str) -> Stored:
        """Store a small blob."""

        async def once() -> AsyncIterator[bytes]:
            yield data

        return await self.put(key, once(), len(data), what)

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """The blob in parts. Raises FileNotFoundError."""
        found = await obstore.get_async(self._store, key)
        async for part in found.stream(min_chunk_size=256 * 1024):
            yield bytes(part)

    async def ranges(self, key: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a blob, each given by its offset and its length. Raises FileNotFoundError."""
        starts, lengths = [offset for offset, _ in places], [length for _, length in places]
        found = await obstore.get_ranges_async(self._store, key, starts=starts, lengths=lengths)
        return [bytes(part) for part in found]

    async def exists(self, key: str) -> bool:
        """Whether there is a blob under `key`."""
        try:
            await obstore.head_async(self._store, key)
        except FileNotFoundError:
            return False
        return True

    async def older_than(self, moment: datetime) -> list[str]:
        """The keys of blobs that were last written before `moment`."""
        keys: list[str] = []
        async for page in obstore.list(self._store):
            keys += [str(entry["path"]) for entry in page if entry["last_modified"] < moment]
        return keys

    async def move(self, source: str, target: str) -> None:
        """Give a blob its final key."""
        await obstore.rename_async(self._store, source, target)

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is fine."""
        with suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """A path on this machine that holds the blob while the block runs. Raises FileNotFoundError.

        In a folder that is the blob's own file; a bucket will put a copy here.
        """
        path = self.root / key
        if not path.is_file():
            raise FileNotFoundError(key)
        yield path


def content_key(sha256: str) -> str:
    """Where the bytes with this hash live."""
    return f"sha256/{sha256[:2]}/{sha256}"
