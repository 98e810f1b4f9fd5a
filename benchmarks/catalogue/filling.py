"""A Hub's database with many environments in it, as if they had been published; the same every time."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import insert

from prime_hub.db.models import Account, Environment, Version, Wheel
from prime_hub.db.session import Database
from prime_hub.db.types import new_id, now
from prime_hub.services.catalogue import RECOMMENDED
from prime_hub.services.tokens import Tokens

OWNERS = 500
PRIVATE = 0.1
BATCH = 5_000
SYLLABLES = [
    "ba",
    "be",
    "bi",
    "bo",
    "da",
    "de",
    "di",
    "do",
    "ka",
    "ke",
    "ki",
    "ko",
    "la",
    "le",
    "li",
    "lo",
    "ma",
    "me",
    "mi",
    "mo",
    "na",
    "ne",
    "ni",
    "no",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "si",
    "so",
    "ta",
    "te",
    "ti",
    "to",
]
TAGS = [tag for tags in RECOMMENDED.values() for tag in tags]


@dataclass(frozen=True)
class Filled:
    """What is there: words from the most frequent on, public environments (owner, name), the shop's names, and an API
    key of one of the owners, who has private ones as well.
    """

    words: list[str]
    public: list[tuple[str, str]]
    shop: str
    projects: list[str]
    key: str


class _Texts:
    """Texts of invented words, frequent and rare ones as in a language (Zipf)."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        words: dict[str, None] = {}
        while len(words) < 20_000:
            words["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4)))] = None
        self.words = list(words)
        self._until = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def some(self, count: int) -> list[str]:
        return self.chance.choices(self.words, cum_weights=self._until, k=count)


async def fill(database: Database, many: int, shop: int) -> Filled:
    """Put `many` environments of 500 owners there, a tenth of them private, and `shop` more of one owner `shop`."""
    texts = _Texts(random.Random(2026))
    owners = [Account(id=new_id(), slug=f"owner-{number}", name=f"Owner {number}") for number in range(OWNERS)]
    seller = Account(id=new_id(), slug="shop", name="Shop")
    async with database.write() as session:
        session.add_all([*owners, seller])
    public: list[tuple[str, str]] = []
    projects = [f"project-{number}" for number in range(shop)]
    rows = _rows(texts, owners, many, public)
    while batch := [row for row, _ in zip(rows, range(BATCH), strict=False)]:
        await _insert(database, batch)
    await _insert(database, [_row(texts, seller, name, "PUBLIC", number) for number, name in enumerate(projects)])
    key, _ = await Tokens(database).create(owners[0], "of the benchmark")
    return Filled(texts.words, public, seller.slug, projects, key)


def _rows(texts: _Texts, owners: list[Account], many: int, public: list[tuple[str, str]]) -> Iterator[dict[type, Any]]:
    for number in range(many):
        owner = texts.chance.choice(owners)
        name = "-".join([*texts.some(2), str(number)])
        visibility = "PRIVATE" if texts.chance.random() < PRIVATE else "PUBLIC"
        if visibility == "PUBLIC":
            public.append((owner.slug, name))
        yield _row(texts, owner, name, visibility, number)


def _row(texts: _Texts, owner: Account, name: str, visibility: str, number: int) -> dict[type, Any]:
    environment_id, version_id, wheel_id, at = new_id(), new_id(), new_id(), now() - timedelta(minutes=200_000 - number)
    tags = sorted(set(texts.chance.choices(TAGS, k=3)))
    description = " ".join(texts.some(12)).capitalize() + "."
    content_hash, sha256 = (hashlib.sha256(f"{what} {name}".encode()).hexdigest() for what in ("source", "wheel"))
    readme = f"# {name}\n\n" + "\n\n".join(" ".join(texts.some(40)) for _ in range(texts.chance.randint(1, 5)))
    details = {"description": description, "tags": tags, "python_requires": ">=3.11"}
    return {
        Environment: {
            "id": environment_id,
            "owner_id": owner.id,
            "name": name,
            "normalized_name": name,
            "visibility": visibility,
            "description": description,
            "tags": tags,
            "latest_version_id": version_id,
            "stars": int(texts.chance.paretovariate(1)) - 1,
            "created_at": at,
            "updated_at": at,
        },
        Wheel: {
            "id": wheel_id,
            "environment_id": environment_id,
            "content_hash": content_hash,
            "filename": f"{name.replace('-', '_')}-0.1.0-py3-none-any.whl",
            "sha256": sha256,
            "size": 4_000,
            "version": "0.1.0",
            "details": details,
            "created_at": at,
            "finalized_at": at,
        },
        Version: {
            "id": version_id,
            "environment_id": environment_id,
            "version": "0.1.0",
            "canonical": "0.1",
            "content_hash": content_hash,
            "filename": f"{name}.tar.gz",
            "sha256": content_hash,
            "size": 4_000,
            "wheel_id": wheel_id,
            "details": details,
            "readme": readme,
            "created_at": at,
            "finalized_at": at,
        },
    }


async def _insert(database: Database, rows: list[dict[type, Any]]) -> None:
    async with database.write() as session:
        for model in (Environment, Wheel, Version):
            await session.execute(insert(model), [row[model] for row in rows])
