"""The words of a text, as the search knows them: what is published and what is asked for are split alike.

A word is a run of letters and digits, without case, accents and an English plural. `AlphaMaths` is also `alpha` and
`maths`; a character of a script without spaces is a word of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

CHARACTERS = 200_000
"""How much of a text is looked at."""
LONGEST = 40
ASKED = 16
"""How many words of a question count."""

_RUN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_HUMPS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


def words(text: str) -> set[str]:
    """Every word of a text that is published."""
    found = set()
    for run in _runs(text):
        found.add(_folded(run))
        if run.isascii() and not (run.islower() or run.isdecimal()):
            found.update(_folded(hump) for hump in _HUMPS.findall(run))
    return found


def name_words(name: str) -> set[str]:
    """The words of a name, and all of them written as one."""
    return words(name) | words("".join(_runs(name)))


def asked_words(text: str) -> list[str]:
    """The words that somebody looks for, in their order, each once."""
    return list(dict.fromkeys(_folded(run) for run in _runs(text)))[:ASKED]


def _runs(text: str) -> Iterator[str]:
    text = text[:CHARACTERS]
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in parts if not unicodedata.combining(letter))
    for found in _RUN.finditer(text):
        yield found[0]


def _folded(run: str) -> str:
    return _singular(run.casefold())[:LONGEST]


def _singular(word: str) -> str:
    """`games` and `game`, `boxes` and `box`, `queries` and `query` are one word."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("xes", "ches", "shes", "sses", "zes")):
        return word[:-2]
    return word[:-1]
