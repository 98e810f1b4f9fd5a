"""Passwords: which there may be, how they are kept (argon2id), and how they are compared without telling who exists."""

from __future__ import annotations

import asyncio
import functools
import secrets
import unicodedata
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prime_hub.errors import Invalid, TooMany

if TYPE_CHECKING:  # loaded with the first password, not with the Hub
    from pwdlib import PasswordHash

SHORTEST, LONGEST = 10, 256
AT_ONCE = 2
"""Each takes 64 MiB and a third of a second of a processor."""
WAITING = 30


def checked_password(password: str, slug: str) -> str:
    """The password itself. Raises Invalid with the rule it breaks."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(f"A password has {SHORTEST} to {LONGEST} characters; several words make a good one.")
    if len(set(password)) < 4 or slug.lower() == password.lower():
        raise Invalid("That password is too easy to guess; several words make a good one.")
    return password


class Passwords:
    """Hashes and compares, a few at a time, so that nobody fills the memory by signing in."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def hashed(self, password: str) -> str:
        """What is kept of a password: argon2id with its own salt. Raises TooMany when a crowd waits."""
        async with self._turn():
            return await asyncio.to_thread(_hasher().hash, _bytes(password))

    async def holds(self, password: str, kept: str | None) -> bool:
        """Whether the password is the one of which `kept` was kept. Without one it takes as long, and is not.

        Raises TooMany when a crowd waits.
        """
        given = _bytes(password[: LONGEST + 1])
        async with self._turn():
            right = await asyncio.to_thread(_verify, given, kept)
        return right and kept is not None

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        if self._waiting >= WAITING:
            raise TooMany("Too many people are signing in right now; try again in a minute.")
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1


def _bytes(password: str) -> bytes:
    # One keyboard writes é as one sign, another as two.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


@functools.cache
def _hasher() -> PasswordHash:
    from pwdlib import PasswordHash

    return PasswordHash.recommended()


@functools.cache
def _decoy() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


def _verify(given: bytes, kept: str | None) -> bool:
    return _hasher().verify(given, kept or _decoy())
