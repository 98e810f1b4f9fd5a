"""Accounts and their API tokens."""

from __future__ import annotations

import getpass
import hashlib
import secrets
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Meta, Token
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import Conflict, Unauthorized
from prime_hub.services.keys import write_secret
from prime_hub.services.names import check_slug, slug_from
from prime_hub.settings import Settings

TOKEN_PREFIX = "prime_"
LAST_USE_STEP = timedelta(minutes=5)


def _hash(token: str) -> str:
    # A token is 256 random bits, so a plain hash cannot be reversed by guessing; no salt, to find it by its hash.
    return hashlib.sha256(token.encode()).hexdigest()


def _new_token(account_id: str, name: str) -> tuple[str, Token]:
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return token, Token(account_id=account_id, name=name, hash=_hash(token))


class Accounts:
    """Who there is, and who a token speaks for."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def hub_id(self) -> str:
        """This Hub's own identifier, made once; it tells two data folders apart."""
        async with self._database.write() as session:
            found = await session.get(Meta, "hub_id")
            if found is None:
                found = Meta(key="hub_id", value=secrets.token_hex(8))
                session.add(found)
            return found.value

    async def ensure_owner(self) -> None:
        """On the first start: an account for the operating system's user, its token in `owner.token`.

        A token file that has gone is replaced by a fresh token: nobody is locked out of their own machine.
        """
        path = self._settings.owner_token_file
        if path.exists():
            return
        async with self._database.write() as session:
            owner = (await session.scalars(select(Account).order_by(Account.created_at).limit(1))).first()
            if owner is None:
                owner = await self._add(session, slug_from(_login_name()))
            token, row = _new_token(owner.id, "local owner")
            session.add(row)
        write_secret(path, token + "\n")

    async def create(self, slug: str) -> str:
        """A new account; returns its token, which is shown nowhere else. Raises Invalid or Conflict."""
        check_slug(slug)
        try:
            async with self._database.write() as session:
                account = await self._add(session, slug)
                token, row = _new_token(account.id, "first token")
                session.add(row)
        except IntegrityError:
            raise Conflict(f"There is already an account named '{slug}' on this Hub.") from None
        return token

    async def _add(self, session: AsyncSession, slug: str) -> Account:
        account = Account(slug=slug, name=slug, local=True)
        session.add(account)
        await session.flush()
        return account

    async def by_token(self, token: str) -> Account:
        """The account that `token` speaks for. Raises Unauthorized."""
        async with self._database.read() as session:
            row = (await session.scalars(select(Token).where(Token.hash == _hash(token)))).first()
        if row is None or row.revoked_at is not None:
            raise Unauthorized("This Hub does not know the API key; log in again with 'prime login'.")
        if row.last_used_at is None or now() - row.last_used_at > LAST_USE_STEP:
            async with self._database.write() as session:
                fresh = await session.get(Token, row.id)
                if fresh is not None:
                    fresh.last_used_at = now()
        return row.account

    async def by_slug(self, slug: str) -> Account | None:
        """The account of this name, upper or lower case."""
        async with self._database.read() as session:
            return (await session.scalars(select(Account).where(Account.slug == slug.lower()))).first()

    async def count(self) -> int:
        """How many accounts there are."""
        async with self._database.read() as session:
            return (await session.scalar(select(func.count(Account.id)))) or 0


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "owner"
