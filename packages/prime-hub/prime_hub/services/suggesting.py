"""What somebody meant who has found nothing: the same question with one word written otherwise.

A word that is one slip away (a letter too many, too few, wrong, or two in the wrong order) is one of a few hundred, so
the index is asked for all of them at once, with the question's other words and filters. What is suggested is therefore
always found, and a word of something that the asker may not see is never told. It costs a few such questions, and only
where nothing was found.
"""

from __future__ import annotations

import collections
import string
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncSession

from prime_hub.services.searching import Asked, documents, matching

SHORTEST, LONGEST = 4, 20
"""Of words that are tried; what is shorter is one slip away from nearly everything."""
MOST_WORDS = 4
"""How many words of a question are tried, its first ones."""
DOCUMENTS = 20
"""How many of what is found then are looked at for the word that they have."""
WEIGHTS = {"name": 4, "short": 2, "readme": 1}


async def suggestion(session: AsyncSession, question: Asked) -> str | None:
    """The words of a question that finds something, or None."""
    if question.hopeless:
        return None
    for at, word in [*enumerate(question.words)][:MOST_WORDS]:
        if not SHORTEST <= len(word) <= LONGEST:
            continue
        others = (*question.words[:at], *question.words[at + 1 :])
        near = slips(word)
        ids = await matching(session, replace(question, words=others, either=tuple(near)), DOCUMENTS)
        meant: collections.Counter[str] = collections.Counter()
        for row in await documents(session, ids, *WEIGHTS) if ids else ():
            for column, weight in WEIGHTS.items():
                for found in near & set(getattr(row, column).split()):
                    meant[found] += weight
        if meant:
            # Where several are as likely, that which is the longest: of a plural and its stem both are there.
            best = max(meant, key=lambda one: (meant[one], len(one), one))
            return " ".join([*question.words[:at], best, *question.words[at + 1 :]])
    return None


def slips(word: str) -> set[str]:
    """Everything that is one slip away from a word."""
    letters = {*string.ascii_lowercase, *string.digits, *word}
    pieces = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    found = {left + right[1:] for left, right in pieces if right}
    found |= {left + right[1] + right[0] + right[2:] for left, right in pieces if len(right) > 1}
    found |= {left + letter + right[1:] for left, right in pieces if right for letter in letters}
    found |= {left + letter + right for left, right in pieces for letter in letters}
    return found - {word}
