"""Accounts: who there is, what they are called, the machine's own owner."""

from __future__ import annotations

import getpass
import secrets

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, FormerSlug, Meta, Token
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import Conflict, Invalid, NotFound
from prime_hub.services.access import called
from prime_hub.services.keys import write_secret
from prime_hub.services.names import check_slug, slug_from
from prime_hub.services.tokens import hash_of, new_token
from prime_hub.settings import Settings

MOST_FORMER_NAMES = 5
OWNER_TOKEN = "local owner"


class Accounts:
    """Who there is."""

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

        A token that has gone, or was revoked, is replaced by a fresh one: nobody is locked out of their own machine.
        """
        path = self._settings.owner_token_file
        if await self._holds(path.read_text().strip() if path.exists() else ""):
            return
        async with self._database.write() as session:
            owner = (await session.scalars(select(Account).order_by(Account.created_at).limit(1))).first()
            if owner is None:
                owner = await add_account(session, slug_from(_login_name()), local=True)
            token, row = new_token(owner.id, OWNER_TOKEN)
            session.add(row)
        write_secret(path, token + "\n")

    async def _holds(self, token: str) -> bool:
        if not token:
            return False
        async with self._database.read() as session:
            row = (await session.scalars(select(Token).where(Token.hash == hash_of(token)))).first()
        return row is not None and row.revoked_at is None and (row.expires_at is None or row.expires_at > now())

    async def create(
        self, slug: str, password: str | None = None, name: str = "", email: str | None = None, local: bool = False
    ) -> Account:
        """A new account; `password` as it is kept. Raises Invalid or Conflict."""
        async with self._database.write() as session:
            return await add_account(session, slug, password=password, name=name, email=email, local=local)

    async def by_slug(self, slug: str) -> Account | None:
        """The account of this name, upper or lower case."""
        async with self._database.read() as session:
            return (await session.scalars(select(Account).where(called(slug)))).first()

    async def user(self, slug: str) -> Account:
        """The user of this name. Raises NotFound."""
        found = await self.by_slug(slug)
        if found is None or found.kind != "user":
            raise NotFound(f"There is no account named '{slug[:80]}' on this Hub.", code="account_not_found")
        return found

    async def by_id(self, account_id: str) -> Account | None:
        """The account with this id."""
        async with self._database.read() as session:
            return await session.get(Account, account_id)

    async def count(self) -> int:
        """How many accounts there are."""
        async with self._database.read() as session:
            return (await session.scalar(select(func.count(Account.id)))) or 0

    async def rename(self, account: Account, slug: str) -> Account:
        """Another name for an account. Its former one stays its own. Raises Invalid or Conflict."""
        async with self._database.write() as session:
            return await rename_account(session, account.id, slug)

    async def describe(self, account: Account, name: str, email: str | None, about: str) -> Account:
        """What is told about an account. Raises Invalid."""
        name, email, about = checked_name(name), checked_email(email), checked_about(about)
        async with self._database.write() as session:
            row = await session.get_one(Account, account.id)
            row.name, row.email, row.about = name or row.slug, email, about
            return row

    async def set_password(self, account: Account, kept: str | None) -> None:
        """What is kept of a password (`Passwords.hashed`)."""
        async with self._database.write() as session:
            (await session.get_one(Account, account.id)).password = kept


async def add_account(
    session: AsyncSession,
    slug: str,
    *,
    id: str | None = None,
    kind: str = "user",
    name: str = "",
    email: str | None = None,
    password: str | None = None,
    local: bool = False,
) -> Account:
    """A new account, within a transaction. Raises Invalid, Conflict for a name that is or was somebody else's."""
    slug = check_slug(slug)
    account = Account(
        slug=slug,
        kind=kind,
        name=checked_name(name) or slug,
        email=checked_email(email),
        password=password,
        local=local,
        **({"id": id} if id else {}),
    )
    await _require_free(session, slug, None)
    try:
        async with session.begin_nested():
            session.add(account)
    except IntegrityError:
        raise _taken(slug) from None
    return account


async def rename_account(session: AsyncSession, account_id: str, slug: str) -> Account:
    """Another name, within a transaction. Raises Invalid or Conflict."""
    slug = check_slug(slug)
    account = await session.get_one(Account, account_id)
    if account.slug == slug:
        return account
    await _require_free(session, slug, account.id)
    former = await session.get(FormerSlug, slug)
    if former is not None:
        await session.delete(former)
    kept = await session.scalar(select(func.count(FormerSlug.slug)).where(FormerSlug.account_id == account.id)) or 0
    if kept >= MOST_FORMER_NAMES and former is None:
        raise Conflict(f"{account.slug} has had {MOST_FORMER_NAMES} other names, which stay taken; it keeps this one.")
    if account.name == account.slug:
        account.name = slug
    session.add(FormerSlug(slug=account.slug, account_id=account.id))
    account.slug = slug
    try:
        async with session.begin_nested():
            await session.flush()
    except IntegrityError:
        raise _taken(slug) from None
    return account


async def _require_free(session: AsyncSession, slug: str, account_id: str | None) -> None:
    if await session.scalar(select(Account.id).where(Account.slug == slug, Account.id != (account_id or ""))):
        raise _taken(slug)
    former = await session.get(FormerSlug, slug)
    if former is not None and former.account_id != account_id:
        raise _taken(slug)


def _taken(slug: str) -> Conflict:
    return Conflict(f"There is already an account named '{slug}' on this Hub.")


def checked_name(name: str) -> str:
    """A person's or a team's name on one line. Raises Invalid."""
    name = " ".join(name.split())
    if len(name) > 100 or not name.isprintable():
        raise Invalid("A name is one line of at most 100 characters.")
    return name


def checked_email(email: str | None) -> str | None:
    """An address that looks like one, or none. Raises Invalid."""
    email = (email or "").strip()
    if not email:
        return None
    user, at, host = email.rpartition("@")
    if len(email) > 254 or not (user and at and "." in host) or not email.isprintable() or " " in email:
        raise Invalid("That is no e-mail address; write it like ada@example.org, or leave it out.")
    return email


def checked_about(text: str) -> str:
    """A few lines about somebody. Raises Invalid."""
    text = text.replace("\r\n", "\n").strip()
    if len(text) > 2000 or not all(sign.isprintable() or sign == "\n" for sign in text):
        raise Invalid("What is told about an account is at most 2000 characters of text.")
    return text


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        return "owner"
