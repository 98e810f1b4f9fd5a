"""What a login was limited to (`prime login --max-…`): how many sandboxes an API key may have, make and give processors.

Of GPUs and tunnels this Hub has none, so their limits hold by themselves.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Sandbox, Token
from prime_hub.db.types import now
from prime_hub.errors import Forbidden
from prime_hub.services.queue import LIVE


async def require_room(session: AsyncSession, key: Token | None, wanted: Sandbox) -> None:
    """Note on a new sandbox by which key it is made. Raises Forbidden when that is beyond the key's limits.

    In a session for writing, of which there is one at a time: two at once would both find room for the last.
    """
    if key is None or not key.limits:
        return
    wanted.token_id = key.id
    living = (Sandbox.token_id == key.id, Sandbox.status.in_(LIVE))
    most = key.limits.get("maxConcurrentSandboxes")
    if most is not None and await _count(session, *living) >= most:
        raise Forbidden(f"This API key may have {_sandboxes(most)} at once; delete one, or wait until one ends.")
    most = key.limits.get("maxSandboxCreationsPerHour")
    lately = Sandbox.created_at > now() - timedelta(hours=1)
    if most is not None and await _count(session, Sandbox.token_id == key.id, lately) >= most:
        raise Forbidden(f"This API key may make {_sandboxes(most)} within an hour; try again later.")
    most = key.limits.get("maxSandboxCpuCores")
    if most is not None:
        taken = await session.scalar(select(func.sum(Sandbox.cpus)).where(*living)) or 0.0
        if wanted.cpus is None:
            raise Forbidden(f"This API key may use {most} processors; say how many the sandbox shall have (cpu_cores).")
        if taken + wanted.cpus > most:
            raise Forbidden(
                f"This API key may use {most} processors, of which its sandboxes have {taken:g}; ask for fewer."
            )


async def _count(session: AsyncSession, *conditions: ColumnElement[bool]) -> int:
    return await session.scalar(select(func.count(Sandbox.id)).where(*conditions)) or 0


def _sandboxes(count: int) -> str:
    return f"{count} sandbox{'' if count == 1 else 'es'}"
