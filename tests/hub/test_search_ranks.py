"""Few documents are ranked, filtered and counted here, many by the database's index: both say the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from prime_hub.db.migrate import migrate
from prime_hub.db.models import Account, Environment, Version
from prime_hub.db.session import Database
from prime_hub.services import searching
from tests.support import databases

WORDS = "chess game games puzzle puzzles open opening openings gamble a b chest".split()  # noqa: SIM905 - as one reads them
TAGS = ("math", "games", "hard")
PAGES = ((3, 0), (3, 3), (5, 2), (50, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a database with eighty environments of two owners, some private."""
    folder = tmp_path_factory.mktemp("ranks")
    databases.make(folder)
    databases.run(_filled(folder))
    yield folder
    databases.drop(folder)


async def _filled(folder: Path) -> None:
    chance = random.Random(6)
    database = Database(databases.url(folder))
    try:
        await migrate(database.engine, folder)
        async with database.write() as session:
            owners = [Account(id=f"owner{number}", slug=f"owner-{number}") for number in range(2)]
            session.add_all(owners)
            await session.flush()
            for number in range(80):
                one, name = f"{number:024}", "-".join([*chance.sample(WORDS, 2), str(number)])
                at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
                environment = Environment(
                    id=one,
                    owner_id=chance.choice(owners).id,
                    name=name,
                    normalized_name=name,
                    visibility=chance.choice(("PUBLIC", "PUBLIC", "PRIVATE")),
                    description=" ".join(chance.sample(WORDS, 2)),
                    tags=chance.sample(TAGS, 1),
                    latest_version_id=one,
                    updated_at=at,
                )
                session.add(environment)
                await session.flush()
                readme = " ".join(chance.sample(WORDS, 3))
                taken = {"content_hash": one, "sha256": one, "filename": name, "readme": readme, "finalized_at": at}
                session.add(Version(id=one, environment_id=one, version="0.1.0", canonical="0.1", **taken))
    finally:
        await database.close()


def test_few_and_many_are_found_alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    questions = []
    for _ in range(60):
        search = " ".join(word[: chance.randint(1, 8)] for word in chance.sample(WORDS, chance.randint(1, 3)))
        sees = chance.choice(((), ("owner0",), ("owner0", "owner1")))
        tags = chance.choice(((), (), ("games",)))
        question = searching.asked(search, tags, sees=sees)
        assert question is not None
        questions.append(question)

    async def answers() -> list[object]:
        database = Database(databases.url(folder))
        try:
            async with database.read() as session:
                found: list[object] = []
                for question in questions:
                    looked = await searching.look(session, question)
                    found.append(looked.total)
                    for limit, offset in PAGES:
                        found.append(await searching.find(session, looked, limit, offset))
                        found.append(
                            await searching.find(session, looked, limit, offset, ranked=False, descending=False)
                        )
                    found.append(await searching.facets(session, looked, TAGS))
                return found
        finally:
            await database.close()

    few = databases.run(answers())
    monkeypatch.setattr(searching, "FEW", 0)
    many = databases.run(answers())
    assert few == many
    assert len({str(one) for one in few}) > 100


def test_the_index_is_in_one_part_again_when_it_was_joined(folder: Path) -> None:
    async def parts() -> tuple[int, int, int] | None:
        database = Database(databases.url(folder))
        segments = text("SELECT count(DISTINCT segid) FROM search_words_idx")
        try:
            if not database.on_sqlite:
                await searching.join(database, 1_000)
                await searching.join(database)
                return None  # its index is another one, which it joins by itself
            for number in range(3):  # each transaction leaves a part
                async with database.write() as session:
                    await session.execute(
                        text("UPDATE search_documents SET readme = readme || :more"), {"more": f" w{number}"}
                    )
            async with database.read() as session:
                before = await session.scalar(segments)
            await searching.join(database, 1_000)
            async with database.read() as session:
                some = await session.scalar(segments)
            await searching.join(database)
            async with database.read() as session:
                return before, some, await session.scalar(segments)
        finally:
            await database.close()

    found = databases.run(parts())
    if found is None:
        return
    before, some, after = found
    assert before > 1
    assert some < before
    assert after == 1
