"""What the search looks in: one document for each environment that somebody may see, kept by the database session itself.

Every change of an environment, or of its owner's name, goes through a session of `IndexedSession`; it writes the
documents anew in the same transaction, so that no way of changing one can forget the search, and what has just become
private is found by nobody else from that moment on.

The columns hold words (`prime_hub.words`) with spaces between, and `marks`: what filters are made of, so that counting
never leaves the index. On SQLite the table `search_words` (FTS5, by triggers) is the index, on Postgres generated
`tsvector` columns.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ForeignKey, String, Text, delete, event, func, insert, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, Session, SessionTransaction, mapped_column

from prime_hub.db.base import Base
from prime_hub.db.people import Account
from prime_hub.db.published import Environment, Version
from prime_hub.words import CHARACTERS, name_words, words

FORMAT = "3"
"""Changes with how documents are made: then they are all made anew."""
BYTES = 200_000
"""Of one document's words; Postgres takes a megabyte."""
BATCH = 100
"""How many READMEs are read at once."""
PUBLISHED = ("updated_at",)
CHANGED = ("name", "description", "tags", "latest_version_id", "visibility", "owner_id")


class SearchDocument(Base):
    """The words of one environment's newest version. A later publication has a higher `id`."""

    __tablename__ = "search_documents"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    environment_id: Mapped[str] = mapped_column(ForeignKey("environments.id"), unique=True)
    name: Mapped[str] = mapped_column(Text)
    short: Mapped[str] = mapped_column(Text)
    """Of the owner's name, the description and the tags."""
    readme: Mapped[str] = mapped_column(Text)
    marks: Mapped[str] = mapped_column(String(2000))


def visibility_mark(visibility: str) -> str:
    """The mark of public ones, or of private ones."""
    return visibility.lower()


def owner_mark(account_id: str) -> str:
    """The mark of what an account has."""
    return f"o{account_id}"


def tag_mark(tag: str) -> str:
    """The mark of a tag, in whatever case."""
    return "t" + hashlib.sha256(tag.casefold().encode()).hexdigest()[:16]


def document(environment: Environment, owner: str, readme: str | None) -> dict[str, Any]:
    """What is written down of an environment. `readme` needs no more than its first `CHARACTERS`."""
    short = words(environment.description) | name_words(owner)
    for tag in environment.tags:
        short |= name_words(tag)
    name = name_words(environment.name)
    return {
        "environment_id": environment.id,
        "name": _joined(name, BYTES // 4),
        "short": _joined(short, BYTES // 4),
        "readme": _joined(words(readme or "") - short - name, BYTES // 2),
        "marks": " ".join(_marks(environment)),
    }


def _joined(found: set[str], most: int) -> str:
    """The words with spaces between, as far as there is room for them."""
    text, size = [], 0
    for word in sorted(found):
        size += len(word.encode()) + 1
        if size > most:
            break
        text.append(word)
    return " ".join(text)


def _marks(environment: Environment) -> list[str]:
    tags = sorted({tag_mark(tag) for tag in environment.tags})
    return [visibility_mark(environment.visibility), owner_mark(environment.owner_id), *tags]


class IndexedSession(Session):
    """A session that keeps the documents of what it changes."""


class IndexedAsyncSession(AsyncSession):
    """The same, awaited."""

    sync_session_class = IndexedSession


@event.listens_for(IndexedSession, "before_flush")
def _before_flush(session: Session, context: Any, instances: Any) -> None:
    gone = [row.id for row in session.deleted if isinstance(row, Environment)]
    if gone:
        session.execute(delete(SearchDocument).where(SearchDocument.environment_id.in_(gone)))


@event.listens_for(IndexedSession, "after_flush")
def _after_flush(session: Session, context: Any) -> None:
    published, changed = _noted(session)
    for row in [*session.new, *session.dirty]:
        if isinstance(row, Environment):
            if _changed(row, PUBLISHED):
                published.add(row.id)
            elif _changed(row, CHANGED):
                changed.add(row.id)
        elif isinstance(row, Account) and row not in session.new and _changed(row, ("slug",)):
            changed.update(session.scalars(select(Environment.id).where(Environment.owner_id == row.id)))
    for row in session.deleted:
        if isinstance(row, Environment):
            published.discard(row.id)
            changed.discard(row.id)


@event.listens_for(IndexedSession, "before_commit")
def _before_commit(session: Session) -> None:
    session.flush()
    published, changed = _noted(session)
    if published or changed:
        write(session, published, changed - published)
    published.clear()
    changed.clear()


@event.listens_for(IndexedSession, "after_soft_rollback")
def _after_rollback(session: Session, transaction: SessionTransaction) -> None:
    # After a savepoint the rest goes on: what was noted is written anew then, which does no harm.
    if transaction.parent is None:
        for ids in _noted(session):
            ids.clear()


def _noted(session: Session) -> tuple[set[str], set[str]]:
    return session.info.setdefault("search", (set(), set()))


def _changed(row: Base, names: Iterable[str]) -> bool:
    state = inspect(row)
    return any(state.attrs[name].history.has_changes() for name in names)


def write(session: Session, published: Iterable[str], changed: Iterable[str] = ()) -> None:
    """Write the documents of environments anew: of those in which something was `published`, as the newest; of those that
    only say something else, or changed hands or visibility, in their places.
    """
    for ids in _batched(published):
        made = _made(session, ids)
        session.execute(delete(SearchDocument).where(SearchDocument.environment_id.in_(ids)))
        if made:
            session.execute(insert(SearchDocument), made)
    for ids in _batched(changed):
        made = {values["environment_id"]: values for values in _made(session, ids)}
        places = select(SearchDocument.environment_id).where(SearchDocument.environment_id.in_(ids))
        for one in session.scalars(places).all():
            there = SearchDocument.environment_id == one
            session.execute(
                update(SearchDocument).where(there).values(**made.pop(one))
                if one in made
                else delete(SearchDocument).where(there)
            )
        if made:
            session.execute(insert(SearchDocument), list(made.values()))


def _batched(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in lists of at most `BATCH`."""
    rest = iter(ids)
    while some := list(itertools.islice(rest, BATCH)):
        yield some


def _made(session: Session, ids: list[str]) -> list[dict[str, Any]]:
    query = (
        select(Environment, Account.slug, func.substr(Version.readme, 1, CHARACTERS))
        .join(Account, Account.id == Environment.owner_id)
        .join(Version, Version.id == Environment.latest_version_id)
        .where(Environment.id.in_(ids))
        .order_by(Environment.updated_at, Environment.id)
    )
    return [document(*row) for row in session.execute(query).unique()]
