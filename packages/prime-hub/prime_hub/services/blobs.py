"""Bytes by key: wheels, source archives, build contexts, logs. In a folder, or in a bucket (`buckets.py`).

A bucket that clients can reach takes uploads from them and gives downloads to them by itself, by addresses that the Hub
signs for a while; what they send lies under `uploads/` until it has been looked at.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore

from prime_hub.errors import HubError, StorageFull, TooLarge, Unavailable
from prime_hub.services.buckets import Bucket, open_bucket, reason, said

if TYPE_CHECKING:
    from obstore import GetOptions

PART = 8 * 1024 * 1024  # a bucket takes none below 5 MiB
READ = 256 * 1024
DOWNLOAD_SECONDS = 60
"""How long the address of a download holds: what goes on by then is not cut off."""

AWAY = "The Hub's object storage does not answer as it should; try again in a moment."

log = logging.getLogger(__name__)

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


def too_large(what: str, limit: int) -> TooLarge:
    """The refusal of more than `limit` bytes."""
    return TooLarge(f"The {what} is larger than the {limit} bytes this Hub accepts.")


class BlobStore:
    """A store of immutable blobs. Nothing is seen under its key before it is whole.

    In the folder `root`, or in the bucket at `address`; then `root` has only copies, each for as long as it is needed.
    With `presigned` clients use the bucket themselves, at `endpoint` where they reach it by another address than the Hub.
    Raises Unavailable, in every method, while a bucket does not answer.
    """

    def __init__(
        self, root: Path, address: str | None = None, *, presigned: bool = True, endpoint: str | None = None
    ) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root
        self.address = address
        self._bucket: Bucket | None = None if address is None else open_bucket(address)
        self._store = self._bucket or LocalStore(root, automatic_cleanup=True)
        self._signing: Bucket | None = self._bucket if presigned else None
        if self._signing is not None and address is not None and endpoint is not None:
            self._signing = open_bucket(address, endpoint)

    @property
    def remote(self) -> bool:
        """Whether it is a bucket."""
        return self._bucket is not None

    async def check(self) -> None:
        """Raises Unavailable, saying why, where the bucket cannot be written to."""
        if self._bucket is None:
            return
        try:
            await obstore.put_async(self._bucket, "probe", b"The Hub looks whether it can write here.")
            await obstore.delete_async(self._bucket, "probe")
        except (BaseError, OSError) as error:
            raise Unavailable(f"The object storage {self.address} cannot be used: {reason(error)}.") from error

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
                    refused = too_large(what, limit)
                    raise refused
                digest.update(chunk)
                part += chunk
                if len(part) >= PART:
                    yield bytes(part)
                    part.clear()
            yield bytes(part)

        try:
            await self._put(key, counted())
        except BaseException as error:
            with suppress(BaseError, OSError, HubError):
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

    async def _put(self, key: str, parts: AsyncIterator[bytes]) -> None:
        if not self.remote:
            await obstore.put_async(self._store, key, parts, chunk_size=PART, max_concurrency=1)
            return
        first = await anext(parts)

        async def all_of_it() -> AsyncIterator[bytes]:
            yield first
            async for part in parts:
                yield part

        with self._answering():
            try:
                if len(first) < PART:  # the last one, too: nothing in parts, of which a killed Hub would leave some
                    await obstore.put_async(self._store, key, first, use_multipart=False)
                else:
                    await obstore.put_async(self._store, key, all_of_it(), chunk_size=PART, max_concurrency=1)
            except FileNotFoundError as error:
                log.warning("the storage %s: %s", self.address, reason(error))
                raise Unavailable(AWAY) from error

    async def put_bytes(self, key: str, data: bytes, what: str) -> Stored:
        """Store a small blob."""

        async def once() -> AsyncIterator[bytes]:
            yield data

        return await self.put(key, once(), len(data), what)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The blob in parts, or with `end` its bytes from `start` up to there. Raises FileNotFoundError."""
        with self._answering():
            options: GetOptions = {} if end is None else {"range": (start, end)}
            found = await obstore.get_async(self._store, key, options=options)
            async for part in found.stream(min_chunk_size=READ):
                yield bytes(part)

    async def size(self, key: str) -> int:
        """How many bytes it has. Raises FileNotFoundError."""
        with self._answering():
            return int((await obstore.head_async(self._store, key))["size"])

    async def ranges(self, key: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a blob, each given by its offset and its length. Raises FileNotFoundError."""
        starts, lengths = [offset for offset, _ in places], [length for _, length in places]
        with self._answering():
            found = await obstore.get_ranges_async(self._store, key, starts=starts, lengths=lengths)
            return [bytes(part) for part in found]

    async def exists(self, key: str) -> bool:
        """Whether there is a blob under `key`."""
        try:
            await self.size(key)
        except FileNotFoundError:
            return False
        return True

    async def entries(self) -> AsyncIterator[tuple[str, int, datetime]]:
        """All there is: key, size and when it was last written."""
        with self._answering():
            async for page in obstore.list(self._store):
                for entry in page:
                    yield str(entry["path"]), int(entry["size"]), entry["last_modified"]

    async def older_than(self, moment: datetime) -> list[str]:
        """The keys of blobs that were last written before `moment`."""
        return [key async for key, _, written in self.entries() if written < moment]

    async def move(self, source: str, target: str) -> None:
        """Give a blob its final key."""
        with self._answering():
            await obstore.rename_async(self._store, source, target)

    async def copy(self, source: str, target: str) -> None:
        """The same bytes under another key. Raises FileNotFoundError."""
        with self._answering():
            await obstore.copy_async(self._store, source, target)

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is fine."""
        with self._answering(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    async def upload_url(self, kind: str, slot: str, seconds: int) -> str | None:
        """Where a client PUTs a file itself, for a while; None where it goes through the Hub."""
        return await self._signed("PUT", _sent(kind, slot), seconds)

    async def download_url(self, key: str) -> str | None:
        """Where a client GETs a blob itself, for a short while; None where it goes through the Hub."""
        return await self._signed("GET", key, DOWNLOAD_SECONDS)

    async def _signed(self, method: Literal["GET", "PUT"], key: str, seconds: int) -> str | None:
        if self._signing is None:
            return None
        with self._answering():
            return await obstore.sign_async(self._signing, method, key, timedelta(seconds=seconds))

    async def take(self, kind: str, slot: str, target: str, limit: int, what: str) -> bool:
        """Bring what a client has sent to its own place to `target`, where the client cannot reach it any more, so what is
        looked at there is what is used. Whether there is any; `forget` it once it is certain.

        Raises TooLarge; nothing is left then.
        """
        if not self.remote:
            return False
        try:
            await self.copy(_sent(kind, slot), target)
        except FileNotFoundError:
            return False
        if await self.size(target) > limit:
            await self.delete(target)
            await self.forget(kind, slot)
            raise too_large(what, limit)
        return True

    async def forget(self, kind: str, slot: str) -> None:
        """Remove what a client has sent to its own place."""
        if self.remote:
            await self.delete(_sent(kind, slot))

    async def measured(self, key: str) -> Stored:
        """Its size and hash, by reading it. Raises FileNotFoundError."""
        digest, size = hashlib.sha256(), 0
        async for part in self.get(key):
            digest.update(part)
            size += len(part)
        return Stored(size, digest.hexdigest())

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        """A path on this machine that holds the blob while the block runs. Raises FileNotFoundError.

        In a folder that is the blob's own file, of a bucket's a copy.
        """
        if not self.remote:
            path = self.root / key
            if not path.is_file():
                raise FileNotFoundError(key)
            yield path
            return
        if not key:
            raise FileNotFoundError(key)
        handle, name = tempfile.mkstemp(prefix="copy-", dir=self.root)
        try:
            with os.fdopen(handle, "wb") as file:
                async for part in self.get(key):
                    file.write(part)
            yield Path(name)
        except OSError as error:
            if storage_full(error):
                raise StorageFull(f"The Hub's disk is full: no room for a copy of {key}.") from error
            raise
        finally:
            Path(name).unlink(missing_ok=True)

    def remove_copies(self, before: datetime) -> None:
        """Remove the copies that a Hub which was killed has left."""
        if self.remote:
            for path in self.root.glob("copy-*"):
                with suppress(OSError):
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()

    @contextmanager
    def _answering(self) -> Generator[None]:
        """A bucket's own words go to the log, and one sentence to who asked."""
        try:
            yield
        except BaseError as error:
            if not self.remote or isinstance(error, OSError):
                raise
            log.warning("the storage %s: %s", self.address, said(error))
            raise Unavailable(
                "The Hub's object storage does not answer as it should; try again in a moment."
            ) from error


def _sent(kind: str, slot: str) -> str:
    return f"uploads/{kind}-{slot}"


def content_key(sha256: str) -> str:
    """Where the bytes with this hash live."""
    return f"sha256/{sha256[:2]}/{sha256}"
