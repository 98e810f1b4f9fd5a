"""The Hub's secret key and what it signs: upload addresses and sandbox tokens, so that neither needs a row."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from prime_hub.db.models import Meta
from prime_hub.db.session import Database
from prime_hub.errors import Conflict, Invalid
from prime_hub.settings import Settings

KEY_MARK = "secret_key_mark"


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, at once or not at all."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w") as stream:
            stream.write(text)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load_secret_key(path: Path) -> bytes:
    """The key in `path`; made on first use."""
    if not path.exists():
        write_secret(path, secrets.token_hex(32))
    return bytes.fromhex(path.read_text().strip())


def the_key(settings: Settings) -> bytes:
    """The key that this Hub was given, else the one in its data folder. Raises Invalid for what is no key."""
    if settings.secret_key is None:
        return load_secret_key(settings.secret_key_file)
    try:
        key = bytes.fromhex(settings.secret_key.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Invalid(
            "PRIME_HUB_SECRET_KEY must be 64 hex digits, like those in the file secret.key of a Hub's data folder."
        )
    return key


def key_mark(key: bytes) -> str:
    """What tells one key from another, and nothing of it."""
    return hmac.new(key, b"the key of this database", hashlib.sha256).hexdigest()


async def same_key(database: Database, key: bytes) -> None:
    """Hubs that share a database share the key. Raises Conflict for another than that of the first of them."""
    mark = key_mark(key)
    async with database.write() as session:
        found = await session.get(Meta, KEY_MARK)
        if found is None:
            session.add(Meta(key=KEY_MARK, value=mark))
        elif not hmac.compare_digest(found.value, mark):
            raise Conflict(
                "This Hub has another secret key than the Hubs that use its database, so it could open none of their secrets; "
                "give it theirs: PRIME_HUB_SECRET_KEY, or the file secret.key in its data folder."
            )


class Signer:
    """Short-lived proofs that this Hub itself has given something out."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _mac(self, purpose: str, expires: int) -> str:
        digest = hmac.new(self._key, f"{purpose}\0{expires}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:24]).decode()

    def sign(self, purpose: str, seconds: int) -> str:
        """A token for `purpose` that holds for `seconds`: `<expiry>.<mac>`."""
        return self.sign_until(purpose, int(time.time()) + seconds)

    def sign_until(self, purpose: str, expires: int) -> str:
        """A token for `purpose` that holds until then, in seconds since the epoch; the same each time."""
        return f"{expires}.{self._mac(purpose, expires)}"

    def holds(self, purpose: str, token: str) -> bool:
        """Whether `token` was signed here for `purpose` and has not run out."""
        expiry, _, mac = token.partition(".")
        if not expiry.isascii() or not expiry.isdigit() or len(expiry) > 12:
            return False
        return hmac.compare_digest(self._mac(purpose, int(expiry)).encode(), mac.encode()) and int(expiry) > time.time()
