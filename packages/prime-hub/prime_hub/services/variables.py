"""Variables of an environment: like its secrets, but shown again to those who may publish it."""

from __future__ import annotations

from sqlalchemy import func, select

from prime_hub.db.models import Account, Variable
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.errors import Conflict, Invalid, NotFound
from prime_hub.services.access import MANAGE, PUBLISH, environment_for
from prime_hub.services.secrets import MOST, Fields, require_free, writing


class Variables:
    """Sets variables and lists them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, account: Account, environment_id: str) -> list[Variable]:
        """The environment's variables by name."""
        async with self._database.read() as session:
            environment = await environment_for(session, account, environment_id, PUBLISH)
            query = select(Variable).where(Variable.environment_id == environment.id)
            return list(await session.scalars(query.order_by(Variable.name)))

    async def create(self, account: Account, environment_id: str, fields: Fields) -> Variable:
        """A variable. Raises Conflict for a name that is taken, Invalid, NotFound, Forbidden."""
        fields.checked("variable")
        if not fields.name or fields.value is None:
            raise Invalid("A variable has a name and a value.")
        async with writing(self._database, fields.name, "variable") as session:
            environment = await environment_for(session, account, environment_id, MANAGE)
            await require_free(session, environment.id, fields.name)
            count = select(func.count(Variable.id)).where(Variable.environment_id == environment.id)
            if (await session.scalar(count) or 0) >= MOST:
                raise Conflict(f"There are {MOST} variables already; delete one that is not used any more.")
            row = Variable(id=new_id(), environment_id=environment.id, name=fields.name, value=fields.value)
            row.description = fields.description or None
            session.add(row)
            await session.flush()
            return row

    async def update(self, account: Account, environment_id: str, variable_id: str, fields: Fields) -> Variable:
        """Change one."""
        fields.checked("variable").needs_something()
        async with writing(self._database, fields.name, "variable") as session:
            environment = await environment_for(session, account, environment_id, MANAGE)
            row = await session.get(Variable, variable_id)
            if row is None or row.environment_id != environment.id:
                raise _missing(variable_id)
            if fields.name not in (None, row.name):
                await require_free(session, environment.id, fields.name or "")
            row.name = fields.name or row.name
            row.value = row.value if fields.value is None else fields.value
            if fields.description is not None:
                row.description = fields.description or None
            row.updated_at = now()
            return row

    async def delete(self, account: Account, environment_id: str, variable_id: str) -> None:
        """Delete one."""
        async with self._database.write() as session:
            environment = await environment_for(session, account, environment_id, MANAGE)
            row = await session.get(Variable, variable_id)
            if row is None or row.environment_id != environment.id:
                raise _missing(variable_id)
            await session.delete(row)


def _missing(variable_id: str) -> NotFound:
    return NotFound(f"The environment has no variable with the id {variable_id[:40]}.")
