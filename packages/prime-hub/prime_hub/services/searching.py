"""Finding environments by words and tags, within the database's own full-text index.

What somebody may see, and every other filter, is part of the question to the index (the marks of `db/documents.py`), so
that counting a hundred thousand takes milliseconds, and private environments are counted for nobody else.

What is found comes in three ranks, within each the latest publication first:

1. every word is a word of the name;
2. every word begins a word of the name, the owner's name, the description or the tags;
3. every word begins a word of these or of the README.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.documents import FORMAT, owner_mark, tag_mark, visibility_mark, write
from prime_hub.db.models import Environment, Meta, SearchDocument, Version
from prime_hub.db.session import Database
from prime_hub.services.access import VISIBILITIES
from prime_hub.words import asked_words, stem

FEW = 500
"""As many rows for each word of a question are looked through here for ranks and tags; of more the index tells them, by a
question for each, which costs it the more the more words there are."""
AT_ONCE = 1_000
"""How many documents are written in one transaction."""
RANKS = ("name", "short", "all")


@dataclass(frozen=True)
class Asked:
    """A question: words, and groups of marks; of each group a document has at least one."""

    words: tuple[str, ...]
    marks: tuple[tuple[str, ...], ...]
    either: tuple[str, ...] = ()
    """Of these words, as they stand, a document has at least one besides."""

    @property
    def hopeless(self) -> bool:
        """Whether nothing can be found, since a group is empty."""
        return any(not group for group in self.marks)

    def forms(self, number: int) -> list[list[tuple[str, bool]]]:
        """For each word what it may be there at a rank: itself, or (true) what begins with it; or its stem."""
        found = []
        for word in self.words:
            # A letter alone begins nearly everything, so only the last one, which somebody may be about to go on with.
            begins = number > 0 and (len(word) > 1 or word == self.words[-1])
            found.append([(word, begins), *([(stem(word), False)] if stem(word) != word else [])])
        return [*found, [(word, False) for word in self.either]] if self.either else found

    def tagged(self, tag: str) -> Asked:
        """The same question, for what has one tag more."""
        return Asked(self.words, (*self.marks, (tag_mark(tag),)))


def asked(
    search: str,
    tags: Sequence[str] = (),
    *,
    sees: Sequence[str] = (),
    owners: Sequence[str] | None = None,
    visibility: str | None = None,
) -> Asked | None:
    """The question for what has the words of `search` and all of `tags`.

    `sees`: the accounts whose private environments may be found. `owners`: only what these accounts have. None where
    there are signs in `search` and no word among them: nothing has that.
    """
    words = asked_words(search)
    if search.strip() and not words:
        return None
    marks = [(visibility_mark("PUBLIC"), *map(owner_mark, sees))]
    if owners is not None:
        marks.append(tuple(map(owner_mark, owners)))
    if visibility:
        # A word of somebody's own would be a part of the question to the database.
        known = visibility.upper() in VISIBILITIES
        marks.append((visibility_mark(visibility),) if known else ())
    return Asked(tuple(words), (*marks, *((tag_mark(tag),) for tag in tags)))


@dataclass(frozen=True)
class Found:
    """What one look into the index tells: how many there are, and their rows where they are not many."""

    question: Asked
    total: int
    few: Sequence[Any] | None


async def look(session: AsyncSession, question: Asked) -> Found:
    """Ask the index once. Without words there is nothing to rank, so that what is found is only counted."""
    if question.hopeless:
        return Found(question, 0, [])
    if not _on_sqlite(session):
        # It thinks that reading the whole table is as good, and does not know what unpacking every document's words costs.
        await session.execute(text("SET LOCAL enable_seqscan = off"))
    everything = _Rank(question, len(RANKS) - 1)
    if not question.words:
        return Found(question, await _counted(session, everything), None)
    most = FEW * len(question.words)
    clause, values = everything.condition(_on_sqlite(session))
    query = f"SELECT id, count(*) OVER () FROM search_documents WHERE {clause} LIMIT :most"
    if _on_sqlite(session):
        query = "SELECT rowid, count(*) OVER () FROM search_words WHERE search_words MATCH :words LIMIT :most"
    first = (await session.execute(text(query), {**values, "most": most + 1})).all()
    if len(first) > most:
        return Found(question, first[0][1], None)
    few = await documents(session, [row[0] for row in first], "environment_id", "name", "short")
    return Found(question, len(first), few)


async def matching(session: AsyncSession, question: Asked, most: int) -> list[int]:
    """The ids of some documents that the question finds."""
    clause, values = _Rank(question, len(RANKS) - 1).condition(_on_sqlite(session))
    query = f"SELECT id FROM search_documents WHERE {clause} LIMIT :most"
    if _on_sqlite(session):
        query = "SELECT rowid FROM search_words WHERE search_words MATCH :words LIMIT :most"
    return list(await session.scalars(text(query), {**values, "most": most}))


async def documents(session: AsyncSession, ids: Sequence[int], *columns: str) -> Sequence[Any]:
    """These columns of these documents, in no order."""
    numbers = f"IN ({', '.join(map(str, ids)) or 'NULL'})"  # numbers of our own; as parameters they cost as much again
    return (
        await session.execute(text(f"SELECT id, {', '.join(columns)} FROM search_documents WHERE id {numbers}"))
    ).all()


async def find(
    session: AsyncSession, found: Found, limit: int, offset: int = 0, *, ranked: bool = True, descending: bool = True
) -> list[str]:
    """The ids of environments, best first, or (not `ranked`) by when they were last published."""
    if found.few is None:
        return await _pages(session, found.question, limit, offset, ranked, descending)
    few = sorted(found.few, key=lambda row: row.id, reverse=ranked or descending)
    if ranked:
        forms = [found.question.forms(number) for number in range(len(RANKS) - 1)]
        few.sort(key=lambda row: rank_of(forms, row))
    return [row.environment_id for row in few[offset : offset + limit]]


async def facets(session: AsyncSession, found: Found, tags: Sequence[str]) -> dict[str, int]:
    """How many of what is found have each tag."""
    if found.few is None:
        ranks = {tag: _Rank(found.question.tagged(tag), len(RANKS) - 1) for tag in tags}
        return {tag: await _counted(session, rank) for tag, rank in ranks.items()}
    marks = await documents(session, [row.id for row in found.few], "marks")
    there = collections.Counter(mark for row in marks for mark in row.marks.split())
    return {tag: there[tag_mark(tag)] for tag in tags}


def rank_of(forms: Sequence[list[list[tuple[str, bool]]]], row: Any) -> int:
    """The rank of a document that has the words: the first whose columns have them all, by the forms for each rank."""
    words = row.name.split()
    for number, wanted in enumerate(forms):
        if number:
            words += row.short.split()
        if all(any(there_is(words, form, begins) for form, begins in some) for some in wanted):
            return number
    return len(forms)


def there_is(found: Sequence[str], form: str, begins: bool) -> bool:
    """Whether a form of a word is among those of a document."""
    return any(word.startswith(form) for word in found) if begins else form in found


async def _pages(
    session: AsyncSession, question: Asked, limit: int, offset: int, ranked: bool, descending: bool
) -> list[str]:
    found: list[str] = []
    last = len(RANKS) - 1
    apart = ranked and bool(question.words)
    for number in range(0 if apart else last, last + 1):
        rank = _Rank(question, number, apart=apart)
        rows = await _page(session, rank, limit - len(found), offset, ranked or descending)
        found += rows
        if len(found) == limit or number == last:
            break
        if rows:
            offset = 0
        elif offset:
            offset = max(0, offset - await _counted(session, rank))
    return found


async def in_order(
    session: AsyncSession, question: Asked, limit: int, offset: int, column: str, *, descending: bool = True
) -> list[str]:
    """The ids of environments by a column of their table (its name, which is put into the query as it is)."""
    if question.hopeless:
        return []
    clause, values = _Rank(question, len(RANKS) - 1).condition(_on_sqlite(session))
    join, found = "JOIN", "found."
    if _on_sqlite(session):
        # By itself it would look up all that is found and sort it; so it walks in order until it has enough.
        join, found = "CROSS JOIN", "+found."
    query = (
        f"SELECT environments.id FROM environments {join} search_documents AS found ON environment_id = environments.id "
        f"WHERE {found}{clause} ORDER BY environments.{column} {'DESC' if descending else 'ASC'}, environments.id "
        "LIMIT :most OFFSET :skipped"
    )
    return list(await session.scalars(text(query), {**values, "most": limit, "skipped": offset}))


def among(session: AsyncSession, question: Asked) -> TextClause:
    """A condition for a query of environments: that they are among what is found."""
    clause, values = _Rank(question, len(RANKS) - 1).condition(_on_sqlite(session))
    return text(f"environments.id IN (SELECT environment_id FROM search_documents WHERE {clause})").bindparams(**values)


async def _page(session: AsyncSession, rank: _Rank, limit: int, offset: int, descending: bool) -> list[str]:
    clause, values = rank.condition(_on_sqlite(session))
    order = "DESC" if descending else "ASC"
    query = (
        f"SELECT environment_id FROM search_documents WHERE {clause} ORDER BY id {order} LIMIT :most OFFSET :skipped"
    )
    if _on_sqlite(session):
        # The index walks in this order by itself.
        query = (
            f"SELECT environment_id FROM (SELECT rowid AS id FROM search_words WHERE search_words MATCH :words "
            f"ORDER BY rowid {order} LIMIT :most OFFSET :skipped) JOIN search_documents USING (id) ORDER BY id {order}"
        )
    return list(await session.scalars(text(query), {**values, "most": limit, "skipped": offset}))


async def _counted(session: AsyncSession, rank: _Rank) -> int:
    clause, values = rank.condition(_on_sqlite(session))
    query = f"SELECT count(*) FROM search_documents WHERE {clause}"
    if _on_sqlite(session):
        query = "SELECT count(*) FROM search_words WHERE search_words MATCH :words"
    return (await session.scalar(text(query), values)) or 0


def _on_sqlite(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "sqlite"


@dataclass(frozen=True)
class _Rank:
    """What is found at a rank; `apart`: without what is found at the rank before."""

    question: Asked
    number: int
    apart: bool = False

    def condition(self, on_sqlite: bool) -> tuple[str, dict[str, str]]:
        """The condition on a document, with its values. Words and marks are letters and digits only, so that nothing in
        them is a sign to the database.
        """
        if not on_sqlite:
            return self._postgres()
        return "id IN (SELECT rowid FROM search_words WHERE search_words MATCH :words)", {"words": self._sqlite()}

    def _sqlite(self) -> str:
        parts = []
        if self.question.marks:
            marks = " AND ".join(
                "(" + " OR ".join(f'"{mark}"' for mark in group) + ")" for group in self.question.marks
            )
            parts.append(f"{{marks}} : ({marks})")
        if self.question.words or self.question.either:
            wanted = self._words_sqlite(self.number)
            if self.apart and self.number:
                wanted = f"({wanted}) NOT ({self._words_sqlite(self.number - 1)})"
            parts.append(wanted)
        return " AND ".join(f"({part})" for part in parts)

    def _words_sqlite(self, number: int) -> str:
        columns = ("name", "name short", "name short readme")[number]
        forms = [
            " OR ".join(f'"{form}"' + "*" * begins for form, begins in some) for some in self.question.forms(number)
        ]
        return f"{{{columns}}} : (" + " AND ".join(f"({form})" for form in forms) + ")"

    def _postgres(self) -> tuple[str, dict[str, str]]:
        values = {"wanted": self._lexemes(self.number)}
        clause = f"{RANKS[self.number]}_words @@ CAST(:wanted AS tsquery)"
        if self.apart and self.number:
            values["before"] = self._lexemes(self.number - 1)
            clause += f" AND NOT {RANKS[self.number - 1]}_words @@ CAST(:before AS tsquery)"
        return clause, values

    def _lexemes(self, number: int) -> str:
        groups = ["(" + " | ".join(f"'={mark}'" for mark in group) + ")" for group in self.question.marks]
        forms = [
            " | ".join(f"'{form}'" + ":*" * begins for form, begins in some) for some in self.question.forms(number)
        ]
        return " & ".join([*groups, *(f"({form})" for form in forms)])


async def prepare(database: Database) -> None:
    """Write the documents that are not there: all of them after an upgrade.

    Where several Hubs share a database, those of before the upgrade have to be stopped first: what they publish has no
    document, and what they hide keeps the one it had.
    """
    async with database.read() as session:
        known = await session.get(Meta, "search")
        missing = await _missing(session, 1)
    if known is None or known.value != FORMAT:
        async with database.write() as session:
            known = await session.get(Meta, "search")
            if known is None or known.value != FORMAT:
                await session.execute(delete(SearchDocument))
                await session.merge(Meta(key="search", value=FORMAT))
        missing = [""]
    written = bool(missing)
    while missing:
        async with database.write() as session:
            missing = await _missing(session, AT_ONCE)
            await session.run_sync(write, missing)
    if written:
        await join(database)


async def join(database: Database, pages: int | None = None) -> None:
    """Let SQLite join the parts that its index has fallen into by writing, which halves the time of a search: all of it
    (seconds, with a hundred thousand documents), or some `pages` of it. Postgres does so by itself.
    """
    if not database.on_sqlite:
        return
    async with database.write() as session:
        if pages is None:
            await session.execute(text("INSERT INTO search_words(search_words) VALUES ('optimize')"))
        else:
            # Below zero: goes on until all is in one part, call after call.
            merge = text("INSERT INTO search_words(search_words, rank) VALUES ('merge', :pages)")
            await session.execute(merge, {"pages": -pages})


async def _missing(session: AsyncSession, limit: int) -> list[str]:
    there = select(SearchDocument.id).where(SearchDocument.environment_id == Environment.id).exists()
    query = select(Environment.id).join(Version, Version.id == Environment.latest_version_id).where(~there)
    return list(await session.scalars(query.order_by(Environment.updated_at, Environment.id).limit(limit)))
