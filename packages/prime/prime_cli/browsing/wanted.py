"""The filter language of the rollouts: `error`, `unscored`, `reward<0.5`, `stop:max_turns`, `example:17`; other words are
looked for in the conversations.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_NUMBERS = {
    "reward": "reward",
    "seconds": "seconds",
    "cost": "cost",
    "tokens": "output_tokens",
    "attempt": "attempt",
    "rollout": "rollout_index",
}
_TESTS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_COMPARED = re.compile(r"([a-z]+)(<=|>=|!=|<|>|=)(-?[0-9.]+(?:e-?[0-9]+)?)", re.IGNORECASE)
HELP = "error · unscored · truncated · reward<0.5 · seconds>10 · stop:NAME · error:NAME · example:ID · words of a conversation"

Test = Callable[[Mapping[str, Any], int], bool]


@dataclass(slots=True)
class Wanted:
    """Tests on the columns, and words to look for in the rows. `mistake`: a sentence where something is not understood."""

    tests: list[Test] = field(default_factory=list)
    words: str = ""
    mistake: str = ""

    def holds(self, columns: Mapping[str, Any], place: int) -> bool:
        """Whether the columns of this row pass."""
        return all(test(columns, place) for test in self.tests)


def parse(text: str) -> Wanted:
    """What is asked for."""
    wanted, words = Wanted(), []
    for word in text.split():
        test = _test(word)
        if test is None:
            words.append(word)
        elif isinstance(test, str):
            wanted.mistake = test
        else:
            wanted.tests.append(test)
    wanted.words = " ".join(words)
    return wanted


def _test(word: str) -> Test | str | None:
    low = word.casefold()
    if low in ("error", "errors"):
        return lambda columns, place: columns["error"][place] is not None
    if low == "unscored":
        return lambda columns, place: math.isnan(columns["reward"][place])
    if low == "truncated":
        return lambda columns, place: bool(columns["is_truncated"][place])
    if compared := _COMPARED.fullmatch(word):
        name, sign, value = compared.groups()
        column = _NUMBERS.get(name.casefold())
        if column is None:
            return f"There is no {name}; there are {', '.join(_NUMBERS)}."
        try:
            limit = float(value)
        except ValueError:
            return f"{value} is no number."
        test = _TESTS[sign]
        return lambda columns, place: test(columns[column][place], limit)
    name, colon, value = word.partition(":")
    named = {"stop": "stop_condition", "error": "error", "example": "example_id"}.get(name.casefold(), "")
    if not colon or not named:
        return None
    part = value.casefold()
    if named == "example_id":
        return lambda columns, place: str(columns[named][place]).casefold() == part
    return lambda columns, place: part in (columns[named][place] or "").casefold()
