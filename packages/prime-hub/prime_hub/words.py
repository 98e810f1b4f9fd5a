"""The words of a text, as the search knows them: what is published and what is asked for are split alike.

A word is a run of letters and digits, without case and accents; it is kept as it is written and, for English plurals, by
its stem. `AlphaMaths` is also `alpha` and `maths`. A Chinese character or a Japanese one is a word of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

CHARACTERS = 100_000
"""How much of a text is looked at."""
LONGEST = 40
ASKED = 8
"""How many words of a question count."""

_ALONE = "\u3040-\u30fa\u30fc-\u30ff\u3400-\u9fff\uf900-\ufaff"
_RUN = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
_HUMPS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def words(text: str) -> set[str]:
    """Every word of a text that is published, with its stem."""
    found = set()
    for run in _runs(text):
        found.add(_folded(run))
        if run.isascii() and not (run.islower() or run.isdecimal()):
            found.update(_folded(hump) for hump in _HUMPS.findall(run))
    return found | {stem(word) for word in found}


def name_words(name: str) -> set[str]:
    """The words of a name, and all of them written as one."""
    return words(name) | words("".join(_runs(name)))


def asked_words(text: str, most: int | None = ASKED) -> list[str]:
    """The words that somebody looks for, in their order, each once."""
    return list(dict.fromkeys(map(_folded, _runs(text))))[:most]


def stem(word: str) -> str:
    """What a word and its English plural have in common: `game`, `games`; `box`, `boxes`; `movie`, `movies`; `quiz`, `quizzes`."""
    if len(word) < 4 or not word.isascii():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ie"):
        return word[:-2] + "y"
    if word.endswith(("se", "xe", "ze", "che", "she")):
        word = word[:-1]
    return word[:-1] if word.endswith("zz") else word


def _runs(text: str) -> Iterator[str]:
    text = text[:CHARACTERS]
    if not text.isascii():
        # Before they are taken apart as well: sorting a long run of marks takes time by its square.
        text = _unmarked(unicodedata.normalize("NFKD", _unmarked(text)))
    for found in _RUN.finditer(text):
        yield found[0]


def _unmarked(text: str) -> str:
    return "".join(letter for letter in text if not unicodedata.combining(letter))


def _folded(run: str) -> str:
    return run.casefold()[:LONGEST]
