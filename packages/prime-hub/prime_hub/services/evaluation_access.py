"""Who may see and change an evaluation.

It is seen by its owner (a user, or all of a team). A public one that is finished is also seen by whoever may see every
environment that it is of; so what was private, or is no more, is told of by no evaluation.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from prime_hub.db.models import Account, Environment, EvaluatedEnvironment, Evaluation
from prime_hub.errors import Conflict, Forbidden, NotFound
from prime_hub.services.access import MANAGE, belongs_to, may_see, reaches, role_in


def may_see_evaluation(account: Account | None) -> ColumnElement[bool]:
    """Which evaluations `account` (None: anybody) may know of."""
    # Its own name for the table, since the query around it may have that, too.
    link = aliased(EvaluatedEnvironment)
    seen = select(Environment.id).where(Environment.id == link.environment_id, may_see(account)).correlate(link)
    hidden = select(link.environment_id).where(link.evaluation_id == Evaluation.id, ~seen.exists())
    shown = and_(Evaluation.visibility == "PUBLIC", Evaluation.finalized_at.is_not(None), ~hidden.exists())
    return shown if account is None else or_(belongs_to(Evaluation.owner_id, account), shown)


def no_evaluation(evaluation_id: str) -> NotFound:
    """The refusal for an evaluation that is not there, or that nobody told them of."""
    return NotFound(f"There is no evaluation {evaluation_id[:80]} on this Hub.", code="evaluation_not_found")


async def evaluation_seen(session: AsyncSession, account: Account | None, evaluation_id: str) -> Evaluation:
    """The evaluation, for somebody who may see it. Raises NotFound."""
    query = select(Evaluation).where(Evaluation.id == evaluation_id, may_see_evaluation(account))
    found = (await session.scalars(query)).unique().first()
    if found is None:
        raise no_evaluation(evaluation_id)
    return found


async def evaluation_for(session: AsyncSession, account: Account, evaluation_id: str) -> Evaluation:
    """The evaluation, for somebody who may change it: who pushed it, or manages the team that it is of. Raises NotFound,
    Forbidden.
    """
    found = await evaluation_seen(session, account, evaluation_id)
    if not await may_change_evaluation(session, account, found):
        raise Forbidden(
            f"Evaluation {evaluation_id} is {found.owner.slug}'s; only who pushed it, and a team's admins and owners, may "
            "change or delete it."
        )
    return found


async def evaluation_to_fill(session: AsyncSession, account: Account | None, evaluation_id: str) -> Evaluation:
    """The evaluation, for whom samples of it come from: somebody who may change it, or, where it is hosted, the Hub itself
    (None). Raises NotFound, Forbidden, Conflict.
    """
    if account is not None:
        found = await evaluation_for(session, account, evaluation_id)
        if found.is_hosted:
            raise Conflict(
                f"Evaluation {evaluation_id} is one that this Hub has run itself; its rollouts are those of that run. Push "
                "yours as another one."
            )
        return found
    own = await session.get(Evaluation, evaluation_id)
    if own is None or not own.is_hosted:
        raise no_evaluation(evaluation_id)
    return own


async def may_change_evaluation(session: AsyncSession, account: Account, evaluation: Evaluation) -> bool:
    """Whether it is the account's to change."""
    role = await role_in(session, account, evaluation.owner_id)
    return role is not None and (evaluation.user_id == account.id or reaches(role, MANAGE))
