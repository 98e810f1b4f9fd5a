"""Where in its README something was found that has the words nowhere else: a few words around, for its line in a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.db.models import Environment, SearchDocument, Version
from prime_hub.services.searching import RANKS, Asked, rank_of, there_is
from prime_hub.words import CHARACTERS

AROUND = 60
"""Characters on each side."""

# What Markdown and HTML put around words. A link is its text.
_LINK = re.compile(r"!?\[([^\][]*)\]\([^()\s]*\)")
_SIGNS = re.compile(
    r"<[^<>]*>|\[[\^!][^][]*\]:?|^\s*[-*+]\s+(?:\[[ xX]\]\s)?|[`*#|>~]+|\s+|(?<!\w)_+|_+(?!\w)", re.MULTILINE
)


@dataclass(frozen=True)
class Passage:
    """A few words of a README. `word` is empty where none of those asked for stands there as it is written."""

    before: str = ""
    word: str = ""
    after: str = ""


async def passages(session: AsyncSession, question: Asked, rows: Sequence[Environment]) -> dict[str, Passage]:
    """The passages of those among `rows` that are found by their READMEs alone, by their ids."""
    if not question.words or not rows:
        return {}
    columns = select(SearchDocument.environment_id, SearchDocument.name, SearchDocument.short)
    documents = (
        await session.execute(columns.where(SearchDocument.environment_id.in_([row.id for row in rows])))
    ).all()
    forms = [question.forms(number) for number in range(len(RANKS) - 1)]
    missing = {}
    for row in documents:
        if rank_of(forms, row) == len(forms):
            said = [*row.name.split(), *row.short.split()]
            missing[row.environment_id] = [
                some for some in forms[-1] if not any(there_is(said, form, begins) for form, begins in some)
            ]
    newest = {row.latest_version_id: row.id for row in rows if row.id in missing}
    readmes = select(Version.id, func.substr(Version.readme, 1, CHARACTERS)).where(Version.id.in_(newest))
    return {
        newest[version]: passage(readme or "", [form for some in missing[newest[version]] for form, _ in some])
        for version, readme in (await session.execute(readmes)).tuples()
    }


def passage(text: str, forms: Sequence[str]) -> Passage:
    """The words around the first of `forms` in a text of Markdown, without its signs."""
    wanted = "|".join(map(re.escape, forms))
    # Where a word begins, else within one: `WordGame` is found by `game`.
    for pattern in (rf"(?<![^\W_])(?:{wanted})\w*", rf"\w*(?:{wanted})\w*"):
        at = re.search(pattern, text, re.IGNORECASE)
        if at is None:
            continue
        near = text[max(0, at.start() - 4 * AROUND) : at.end() + 4 * AROUND]
        plain = _SIGNS.sub(" ", _LINK.sub(r"\1", near))
        found = re.search(pattern, plain, re.IGNORECASE)
        if found is None:  # it is in an address
            plain = near
            found = re.search(pattern, plain, re.IGNORECASE)
        if found is not None:
            return Passage(_end(plain[: found.start()]), found[0][: 2 * AROUND], _beginning(plain[found.end() :]))
    return Passage()


def _beginning(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    if len(text) <= AROUND:
        return text.rstrip()
    return (text[:AROUND].rpartition(" ")[0] or text[:AROUND]) + " …"


def _end(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    if len(text) <= AROUND:
        return text.lstrip()
    return "… " + (text[-AROUND:].partition(" ")[2] or text[-AROUND:])
