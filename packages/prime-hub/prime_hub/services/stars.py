"""Stars: who likes which environment."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from prime_hub.db.models import Account, Environment, Star
from prime_hub.db.session import Database
from prime_hub.services.access import no_environment
from prime_hub.services.catalogue import Catalogue


class Stars:
    """Gives stars and takes them back."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue

    async def give(self, account: Account, owner: str, name: str) -> int:
        """Star an environment that the account may see; how many stars it has now. Idempotent."""
        return await self._set(account, owner, name, starred=True)

    async def take_back(self, account: Account, owner: str, name: str) -> int:
        """The opposite; idempotent, too."""
        return await self._set(account, owner, name, starred=False)

    async def _set(self, account: Account, owner: str, name: str, *, starred: bool) -> int:
        seen = await self._catalogue.environment(account, owner, name)
        async with self._database.write() as session:
            environment = await session.get(Environment, seen.id)
            if environment is None:
                raise no_environment(owner, name)
            own = (Star.environment_id == environment.id, Star.account_id == account.id)
            if not starred:
                await session.execute(delete(Star).where(*own))
            elif (await session.scalars(select(Star).where(*own))).first() is None:
                session.add(Star(account_id=account.id, environment_id=environment.id))
                await session.flush()
            count = select(func.count(Star.account_id)).where(Star.environment_id == environment.id)
            environment.stars = await session.scalar(count) or 0
            return environment.stars

    async def of(self, account: Account | None, environments: Sequence[Environment]) -> set[str]:
        """The ids of those that the account has starred."""
        if account is None or not environments:
            return set()
        ids = [environment.id for environment in environments]
        query = select(Star.environment_id).where(Star.account_id == account.id, Star.environment_id.in_(ids))
        async with self._database.read() as session:
            return set((await session.scalars(query)).all())
