"""Logins that a program asks for and a person approves in a browser (hub.md §2.1).

The program proves with its status token that it is the one that asked; the API key goes back encrypted with the key that it
sent. A key is made only when it is fetched, and handed out once.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from prime_hub.db.models import Account, Challenge
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import Conflict, Invalid, NotFound, TooMany
from prime_hub.services.tokens import hash_of, new_token

if TYPE_CHECKING:  # loaded with the first login, not with the Hub
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

LIFE = timedelta(minutes=10)
LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # none that is taken for another
MOST_OPEN, MOST_OPEN_ADDRESS = 2000, 100
KEY_BITS = (2048, 8192)
KEY_LIMITS = {
    "maxConcurrentSandboxes": "max_concurrent_sandboxes",
    "maxSandboxCreationsPerHour": "max_sandbox_creations_per_hour",
    "maxSandboxCpuCores": "max_sandbox_cpu_cores",
    "maxSandboxGpuCount": "max_sandbox_gpu_count",
    "maxConcurrentTunnels": "max_concurrent_tunnels",
    "maxTunnelCreationsPerHour": "max_tunnel_creations_per_hour",
    "maxTunnelTtlHours": "max_tunnel_ttl_hours",
}
"""A login's limits, and their names in the answer of whoami (hub.md §2.2)."""


class Challenges:
    """All logins that wait for an answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, public_key: str, limits: Mapping[str, Any] | None, agent: str, address: str
    ) -> tuple[str, str]:
        """A new one: its code, which the person compares, and the token with which the program asks how it stands.

        Raises Invalid for a public key that is none, TooMany when too many wait.
        """
        _load(public_key)
        code = "-".join("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(2))
        status_token = secrets.token_urlsafe(32)
        row = Challenge(
            code=code,
            status_hash=hash_of(status_token),
            public_key=public_key,
            limits=dict(limits) if limits else None,
            agent="".join(sign if sign.isprintable() else "?" for sign in agent)[:200],
            address=address[:64],
            expires_at=now() + LIFE,
        )
        async with self._database.write() as session:
            await session.execute(delete(Challenge).where(Challenge.expires_at <= now()))
            for most, condition in ((MOST_OPEN, None), (MOST_OPEN_ADDRESS, Challenge.address == row.address)):
                query = select(func.count(Challenge.code))
                waiting = await session.scalar(query if condition is None else query.where(condition)) or 0
                if waiting >= most:
                    raise TooMany("Too many logins wait for an answer on this Hub; try again in ten minutes.")
            session.add(row)
        return code, status_token

    async def find(self, code: str) -> Challenge:
        """One that waits for a person's answer. Raises NotFound for one that is over."""
        async with self._database.read() as session:
            row = await session.get(Challenge, code.strip().upper()[:64])
        return _open(row)

    async def answer(self, account: Account, code: str, approve: bool) -> None:
        """A person's answer: a key of `account`, or none. Raises NotFound for one that is over."""
        async with self._database.write() as session:
            row = _open(await session.get(Challenge, code.strip().upper()[:64]))
            row.state = "approved" if approve else "denied"
            row.account_id = account.id if approve else None

    async def fetch(self, code: str, status_token: str) -> str | None:
        """The new API key, encrypted, in base64; None while nobody has answered.

        Raises NotFound, with its code, for one that has run out (`expired`), was `denied` or was `fetched`.
        """
        async with self._database.read() as session:
            if not _approved(await session.get(Challenge, code[:64]), status_token):
                return None
        async with self._database.write() as session:
            row = await session.get(Challenge, code[:64])
            if row is None or row.account_id is None or not _approved(row, status_token):
                return None
            key, token = new_token(row.account_id, f"login: {row.agent or 'a program'}", limits=row.limits)
            session.add(token)
            row.state = "fetched"
            return _encrypted(row.public_key, key)


def _approved(row: Challenge | None, status_token: str) -> bool:
    """Whether a person has said yes; False while nobody has answered. Raises NotFound for what is over."""
    if row is None or not secrets.compare_digest(row.status_hash, hash_of(status_token)):
        raise NotFound("This login has run out; start it again with 'prime login'.", code="expired")
    if row.state == "denied":
        raise NotFound("The login was denied in the browser.", code="denied")
    if row.state == "fetched":
        raise NotFound("The key of this login has been fetched already.", code="fetched")
    if row.expires_at <= now():
        raise NotFound("This login has run out; start it again with 'prime login'.", code="expired")
    return row.state == "approved"


def _open(row: Challenge | None) -> Challenge:
    if row is None or row.expires_at <= now():
        raise NotFound("This login has run out, or its code is not right; start it again with 'prime login'.")
    if row.state != "open":
        raise Conflict("This login has been answered already.")
    return row


def _load(pem: str) -> RSAPublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey) or not KEY_BITS[0] <= key.key_size <= KEY_BITS[1]:
        raise Invalid(f"encryptionPublicKey must be an RSA public key of {KEY_BITS[0]} to {KEY_BITS[1]} bits in PEM.")
    return key


def _encrypted(pem: str, text: str) -> str:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    scheme = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    return base64.b64encode(_load(pem).encrypt(text.encode(), scheme)).decode()
