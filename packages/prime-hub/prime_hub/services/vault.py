"""Secrets at rest: encrypted with a key that is derived from the Hub's secret key, which is not in the database.

AES-256-GCM; each value is bound to the row that holds it, so that nobody who can write to the database alone can move it
to a row that is theirs.
"""

from __future__ import annotations

import base64
import binascii
import functools
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded with the first secret, not with the Hub
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "v1."
NONCE_BYTES = 12
PURPOSE = b"prime-hub secrets v1"


class Unreadable(Exception):
    """The value was not sealed by this Hub's key for this place."""


class Vault:
    """Seals texts and opens them again."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @functools.cached_property
    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(self._key))

    def seal(self, text: str, place: str) -> str:
        """A text that only this Hub can open, and only for `place`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), place.encode())
        return VERSION + base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, sealed: str, place: str) -> str:
        """The text. Raises Unreadable."""
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(VERSION))
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise Unreadable from None
