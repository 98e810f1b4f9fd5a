"""What an environment gives to its sandboxes, its secrets and variables, and to whose sandboxes it gives them.

Whoever starts a sandbox can run any command in it, so giving it a secret is showing them the secret. Therefore all of this
must hold, at the moment when the sandbox is asked for and once more when it starts:

1. The request names the environment. Nothing is given because an image happens to be the same.
2. Whose the sandbox is may publish the environment: they could publish a version that sends its secrets anywhere, so
   nothing is told to them that they could not have. A stranger who runs a public environment, with its image and by its
   name, gets nothing, and is not told that there is anything. All of a team goes into its sandboxes, so those are given
   only what is the team's.
3. The sandbox runs, by digest, the image of a published version of that environment. So a stranger's image never gets
   them, whatever it or the package around it calls itself.

A token must allow what (2) takes: without `environments:write` it gets nothing (`api/sandboxes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Account, Environment, Secret, SecretLink, Variable, Version
from prime_hub.db.session import Database
from prime_hub.errors import Conflict
from prime_hub.services.access import PUBLISH, belongs_to, called, reaches, role_in
from prime_hub.services.vault import Unreadable, Vault


@dataclass(frozen=True)
class Given:
    """The environment (`owner/name`) and what it gives."""

    environment_id: str
    environment: str
    values: dict[str, str]

    def __repr__(self) -> str:
        return f"Given({self.environment}, {len(self.values)} values)"


class Giving:
    """Decides, and opens what is given."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def to_sandbox(self, account: Account, owner: Account, named: str | None, digest: str | None) -> Given | None:
        """What a sandbox that `account` makes for `owner`, itself or a team, and that runs the image `digest` is given by
        the environment that it names, `OWNER/NAME` or `NAME`; None where nothing is.

        A bare name means the one environment of that name that fits. Raises Conflict for a secret that this Hub cannot
        read any more, and for a team's sandbox that would need what only `account` has.
        """
        if not named or not digest:
            return None
        whose, _, name = named.partition("@")[0].rpartition("/")
        conditions = [Environment.normalized_name == str(canonicalize_name(name))]
        if whose:
            conditions.append(called(whose))
        async with self._database.read() as session:
            found = await _fitting(session, owner, digest, *conditions)
            if len(found) == 1:
                return await self._given(session, found[0])
            if owner.id != account.id and len(found := await _fitting(session, account, digest, *conditions)) == 1:
                given = await self._given(session, found[0])
                if given.values:
                    raise Conflict(
                        f"{given.environment} has secrets or variables that are not {owner.slug}'s, and all of that team "
                        "could read them in this sandbox; make it without the team, or 'prime env transfer' the "
                        "environment to it."
                    )
            return None

    async def to_run(self, account: Account, owner: Account, environment_id: str) -> dict[str, str]:
        """What an evaluation that `account` has the Hub run for `owner`, itself or a team, is given: it runs a published
        version of that environment and nothing else. Nothing where they may not publish it (any more). Raises Conflict as
        `to_sandbox`.
        """
        async with self._database.read() as session:
            environment = await session.get(Environment, environment_id)
            if environment is None or not reaches(await role_in(session, account, environment.owner_id), PUBLISH):
                return {}
            given = await self._given(session, environment)
            if given.values and owner.id not in (account.id, environment.owner_id):
                raise Conflict(
                    f"{given.environment} has secrets or variables that are not {owner.slug}'s, and all of that team could "
                    "learn them from this run; run it without the team, or 'prime env transfer' the environment to it."
                )
            return given.values

    async def still(self, account_id: str, environment_id: str, digest: str) -> dict[str, str]:
        """The values once more, as they are now, for a sandbox that starts; nothing where they are not its owner's any
        more. Raises Conflict.
        """
        async with self._database.read() as session:
            account = await session.get(Account, account_id)
            if account is None:
                return {}
            found = await _fitting(session, account, digest, Environment.id == environment_id)
            return (await self._given(session, found[0])).values if found else {}

    async def _given(self, session: AsyncSession, environment: Environment) -> Given:
        shown = f"{environment.owner.slug}/{environment.name}"
        linked = select(Secret).join(SecretLink, SecretLink.secret_id == Secret.id)
        # An account's secrets are for its own environments, also where a link should have been cut and was not.
        linked = linked.where(SecretLink.environment_id == environment.id, Secret.owner_id == environment.owner_id)
        own = select(Secret).where(Secret.environment_id == environment.id)
        variables = select(Variable).where(Variable.environment_id == environment.id)
        values = {row.name: row.value for row in await session.scalars(variables)}
        for query in (linked, own):  # what is the environment's own goes before
            for secret in await session.scalars(query):
                try:
                    values[secret.name] = self._vault.open(secret.value, secret.id)
                except Unreadable:
                    raise Conflict(
                        f"The secret {secret.name} of {shown} cannot be read: this Hub's secret.key is not the one that it "
                        "was stored with. Set it again with 'prime env secret update'."
                    ) from None
        return Given(environment.id, shown, values)


async def _fitting(
    session: AsyncSession, account: Account, digest: str, *conditions: ColumnElement[bool]
) -> Sequence[Environment]:
    """The environments with these `conditions` that the account may publish and that have a version with that image."""
    with_image = select(Version.id).where(
        Version.environment_id == Environment.id,
        Version.finalized_at.is_not(None),
        Version.image_digest == digest,
    )
    query = select(Environment).join(Account, Account.id == Environment.owner_id)
    query = query.where(belongs_to(Environment.owner_id, account), with_image.exists(), *conditions)
    return (await session.scalars(query)).unique().all()
