"""Secrets: of one environment, or of an account, which its environments may be linked to. Nobody is shown a value again.

Who manages an environment sets its secrets; who may publish it sees their names. What they are for: `given.py`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Environment, Secret, SecretLink, Variable
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import Conflict, Forbidden, Invalid, NotFound
from prime_hub.services.access import MANAGE, PUBLISH, environment_for, owner_for, reaches, role_in
from prime_hub.services.vault import Vault

NAME = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
MOST = 100
MOST_BYTES = 32 * 1024
DESCRIPTION_CHARACTERS = 500


@dataclass(frozen=True)
class Fields:
    """What is to be set; None leaves it as it is."""

    name: str | None = None
    value: str | None = None
    description: str | None = None

    def checked(self, what: str) -> Fields:
        """The same. Raises Invalid with the rule that a field breaks."""
        if self.name is not None and not NAME.fullmatch(self.name):
            raise Invalid(
                f"'{self.name[:80]}' cannot be the name of a {what}: use capital letters, digits and '_', beginning with a "
                "letter, like API_KEY."
            )
        if self.value is not None:
            try:
                size = len(self.value.encode())
            except UnicodeEncodeError:
                raise Invalid(f"The value of a {what} is text, and this holds half a character.") from None
            if size > MOST_BYTES or "\0" in self.value:
                raise Invalid(f"The value of a {what} is text of at most {MOST_BYTES} bytes, without NUL characters.")
        told = self.description
        if told is not None and (len(told) > DESCRIPTION_CHARACTERS or not told.isprintable()):
            raise Invalid(f"A description is one line of at most {DESCRIPTION_CHARACTERS} characters.")
        return self

    def needs_something(self) -> None:
        """Raises Invalid when there is nothing to set."""
        if self.name is None and self.value is None and self.description is None:
            raise Invalid("Say what is to be changed: name, value or description.")


class Secrets:
    """Sets secrets and lists their names."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def of_environment(self, account: Account, environment_id: str) -> list[Secret]:
        """The environment's own and those that are linked, by name."""
        async with self._database.read() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            linked = select(SecretLink.secret_id).where(SecretLink.environment_id == environment.id)
            query = select(Secret).where((Secret.environment_id == environment.id) | Secret.id.in_(linked))
            return list(await session.scalars(query.order_by(Secret.name, Secret.id)))

    async def create(self, account: Account, environment_id: str, fields: Fields) -> Secret:
        """A secret of an environment. Raises Conflict for a name that is taken, Invalid, NotFound, Forbidden."""
        fields.checked("secret")
        async with writing(self._database, fields.name, "secret") as session:
            environment = await _managed(session, account, environment_id)
            await require_free(session, environment.id, fields.name or "")
            return await self._added(session, environment.owner_id, environment.id, fields)

    async def update(self, account: Account, environment_id: str, secret_id: str, fields: Fields) -> Secret:
        """Change one of the environment's own."""
        fields.checked("secret").needs_something()
        async with writing(self._database, fields.name, "secret") as session:
            environment = await _managed(session, account, environment_id)
            row = await _own(session, environment, secret_id)
            if fields.name not in (None, row.name):
                await require_free(session, environment.id, fields.name or "")
            return self._changed(row, fields)

    async def delete(self, account: Account, environment_id: str, secret_id: str) -> None:
        """Delete one of the environment's own."""
        async with self._database.write() as session:
            environment = await _managed(session, account, environment_id)
            await session.delete(await _own(session, environment, secret_id))

    async def link(self, account: Account, environment_id: str, secret_id: str) -> Secret:
        """Let an environment have a secret of its owner's account; idempotent.

        Only of its owner: a person's secret in a team's environment would be the whole team's. Raises Forbidden.
        """
        async with self._database.write() as session:
            environment = await _managed(session, account, environment_id)
            row = await _of_account(session, account, secret_id, MANAGE)
            if row.owner_id != environment.owner_id:
                raise Forbidden(
                    f"{row.name} is no secret of {environment.owner.slug}, so {environment.owner.slug}/{environment.name} "
                    "cannot be linked to it; set it for that account, or for the environment itself."
                )
            if await session.get(SecretLink, (environment.id, row.id)) is None:
                session.add(SecretLink(environment_id=environment.id, secret_id=row.id))
            return row

    async def unlink(self, account: Account, environment_id: str, secret_id: str) -> None:
        """Cut a link. Raises NotFound where there is none."""
        async with self._database.write() as session:
            environment = await _managed(session, account, environment_id)
            link = await session.get(SecretLink, (environment.id, secret_id))
            if link is None:
                raise NotFound(
                    f"{environment.owner.slug}/{environment.name} is not linked to a secret {secret_id[:40]}."
                )
            await session.delete(link)

    async def of_account(self, account: Account, team: str | None) -> list[Secret]:
        """The account's own, or those of a team (id or name) of its, by name."""
        async with self._database.read() as session:
            owner = await owner_for(session, account, None, team)
            query = select(Secret).where(Secret.owner_id == owner.id, Secret.environment_id.is_(None))
            return list(await session.scalars(query.order_by(Secret.name)))

    async def create_own(self, account: Account, team: str | None, fields: Fields) -> Secret:
        """A secret of the account, or of a team that it manages."""
        fields.checked("secret")
        async with writing(self._database, fields.name, "secret") as session:
            owner = await owner_for(session, account, None, team)
            await _require(session, account, owner, MANAGE)
            return await self._added(session, owner.id, None, fields)

    async def own(self, account: Account, secret_id: str) -> Secret:
        """One of them. Raises NotFound, also for somebody else's."""
        async with self._database.read() as session:
            return await _of_account(session, account, secret_id, PUBLISH)

    async def update_own(self, account: Account, secret_id: str, fields: Fields) -> Secret:
        """Change one of them."""
        fields.checked("secret").needs_something()
        async with writing(self._database, fields.name, "secret") as session:
            return self._changed(await _of_account(session, account, secret_id, MANAGE), fields)

    async def delete_own(self, account: Account, secret_id: str) -> None:
        """Delete one of them, and with it the links to it."""
        async with self._database.write() as session:
            row = await _of_account(session, account, secret_id, MANAGE)
            await session.execute(delete(SecretLink).where(SecretLink.secret_id == row.id))
            await session.delete(row)

    async def _added(self, session: AsyncSession, owner_id: str, environment_id: str | None, fields: Fields) -> Secret:
        if not fields.name or fields.value is None:
            raise Invalid("A secret has a name and a value.")
        count = select(func.count(Secret.id)).where(
            Secret.owner_id == owner_id, Secret.environment_id == environment_id
        )
        if (await session.scalar(count) or 0) >= MOST:
            raise Conflict(f"There are {MOST} secrets already; delete one that is not used any more.")
        row = Secret(id=new_id(), owner_id=owner_id, environment_id=environment_id, name=fields.name)
        row.description = fields.description or None
        row.value = self._vault.seal(fields.value, row.id)
        session.add(row)
        await session.flush()
        return row

    def _changed(self, row: Secret, fields: Fields) -> Secret:
        row.name = fields.name or row.name
        if fields.value is not None:
            row.value = self._vault.seal(fields.value, row.id)
        if fields.description is not None:
            row.description = fields.description or None
        row.updated_at = now()
        return row


@asynccontextmanager
async def writing(database: Database, name: str | None, what: str) -> AsyncGenerator[AsyncSession]:
    """A write transaction in which a name may turn out to be taken. Raises Conflict then."""
    try:
        async with database.write() as session:
            yield session
    except IntegrityError:
        raise taken(name or "", what) from None


def taken(name: str, what: str) -> Conflict:
    """The refusal for a name that is there already."""
    article = "an" if what[0] in "aeiou" else "a"
    return Conflict(f"There is already {article} {what} named {name}; update that one, or choose another name.")


async def require_free(session: AsyncSession, environment_id: str, name: str) -> None:
    """Raises Conflict when the environment has a secret or a variable of that name: there is one value for a name."""
    for model, what in ((Secret, "secret"), (Variable, "variable")):
        query = select(model.id).where(model.environment_id == environment_id, model.name == name)
        if (await session.scalars(query)).first() is not None:
            raise taken(name, what)


async def _managed(session: AsyncSession, account: Account, environment_id: str) -> Environment:
    return await environment_for(session, account, environment_id, MANAGE)


async def _own(session: AsyncSession, environment: Environment, secret_id: str) -> Secret:
    row = await session.get(Secret, secret_id)
    if row is None or row.environment_id != environment.id:
        shown = f"{environment.owner.slug}/{environment.name}"
        raise NotFound(f"{shown} has no secret of its own with the id {secret_id[:40]}.")
    return row


async def _of_account(session: AsyncSession, account: Account, secret_id: str, least: str) -> Secret:
    row = await session.get(Secret, secret_id)
    role = None if row is None or row.environment_id else await role_in(session, account, row.owner_id)
    if row is None or role is None:
        raise NotFound(f"{account.slug} has no secret with the id {secret_id[:40]}.")
    if not reaches(role, least):
        raise Forbidden(f"{account.slug} is a {role} of that team; changing its secrets takes the role admin or owner.")
    return row


async def _require(session: AsyncSession, account: Account, owner: Account, least: str) -> None:
    role = await role_in(session, account, owner.id)
    if not reaches(role, least):
        raise Forbidden(
            f"{account.slug} is a {role} of {owner.slug}; changing its secrets takes the role admin or owner."
        )
