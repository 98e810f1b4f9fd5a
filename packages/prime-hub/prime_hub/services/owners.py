"""A person or a team: what is told about them, and to whom."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from prime_hub.db.models import Account, Member
from prime_hub.db.session import Database
from prime_hub.errors import NotFound
from prime_hub.services.access import called, role_in
from prime_hub.services.catalogue import Catalogue, Search


@dataclass(frozen=True)
class Profile:
    """An owner as the visitor may see it; `total`: of how many environments."""

    owner: Account
    role: str | None
    """The visitor's role with it: `owner` of themselves, None for a stranger."""
    members: int | None
    """How many a team has, told to its members."""
    total: int


class Owners:
    """Tells about owners."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue

    async def profile(self, account: Account | None, slug: str) -> Profile:
        """The owner of that name, or who had it once. Raises NotFound.

        Told are: who has an environment that the visitor may see, to everybody; people, to everybody who has an account
        here; a team, to its members. Whoever else asks is answered as about a name that nobody has.
        """
        async with self._database.read() as session:
            owner = (await session.scalars(select(Account).where(called(slug), Account.kind != "closed"))).first()
            owner_id = owner.id if owner is not None else ""
            role = await role_in(session, account, owner_id) if account is not None else None
            count = await session.scalar(select(func.count()).where(Member.team_id == owner_id))
        _, total = await self._catalogue.find(account, Search(1, owner=slug))
        if owner is None or not (total or role or (account is not None and owner.kind == "user")):
            raise NotFound(f"There is nobody called '{slug[:80]}' on this Hub whom you may know of.")
        return Profile(owner, role, count if owner.kind == "team" and role is not None else None, total)
