"""Strings that a regular expression matches, for the patterns that schemas hold.

Knows literals, escapes, classes, groups, alternatives and repetitions, in Python's, Rust's and JavaScript's spelling.
Lookarounds and back references are passed over, so a caller checks what it gets with `matches`.
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
Pick = Callable[[Sequence[str]], str]
Count = Callable[[int, int | None], int]

_WORD = string.ascii_lowercase + string.ascii_uppercase + string.digits + "_"
_PLAIN = string.ascii_lowercase + string.digits + string.ascii_uppercase
_ALL = _PLAIN + " " + string.punctuation
_CLASSES = {"d": string.digits, "w": _WORD, "s": " \t\n", "D": string.ascii_letters, "W": " -.,:", "S": _PLAIN}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_PROPERTIES = {"Lu": string.ascii_uppercase, "N": string.digits, "Nd": string.digits, "P": ".,:!", "Zs": " "}
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class _Node:
    """One of `branches` (each a row of nodes) or of `characters`, `low` to `high` times (None: no end)."""

    branches: tuple[tuple[_Node, ...], ...] = ()
    characters: str = ""
    low: int = 1
    high: int | None = 1


def generate(pattern: str, pick: Pick, count: Count) -> str:
    """A string built as `pattern` says: `pick` chooses a character or, by its number, a branch; `count(low, high)` how
    often something is repeated, where high is None for no end. Raises ValueError for a pattern that cannot be read.
    """
    return _written(_parse(pattern), pick, count)


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str] | None:
    """The pattern as Python reads it; None when it is written for another engine, so that nobody can check it here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "[[" may mean something else in a Python to come
            return re.compile(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", pattern))
    except re.error:
        return None


def matches(pattern: str, text: str) -> bool:
    """Whether `text` holds a match, as JSON Schema means it; True for a pattern that cannot be checked here."""
    expression = compiled(pattern)
    return expression is None or expression.search(text) is not None


def _written(node: _Node, pick: Pick, count: Count) -> str:
    times = min(count(node.low, node.high), _LONGEST)
    return "".join(_once(node, pick, count) for _ in range(times))


def _once(node: _Node, pick: Pick, count: Count) -> str:
    if node.characters:
        return pick(node.characters)
    if not node.branches:
        return ""
    number = int(pick([str(index) for index in range(len(node.branches))])) if len(node.branches) > 1 else 0
    return "".join(_written(part, pick, count) for part in node.branches[number])


@lru_cache(maxsize=256)
def _parse(pattern: str) -> _Node:
    reader = _Reader(pattern)
    node = reader.alternatives()
    if reader.at < len(pattern):
        raise reader.unreadable("')' without '('")
    return node


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def unreadable(self, why: str) -> ValueError:
        return ValueError(f"The schema's pattern {self.pattern!r} cannot be read: {why} at character {self.at + 1}.")

    def take(self, text: str) -> bool:
        if self.pattern.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.unreadable("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def find(self, expression: str) -> re.Match[str] | None:
        found = re.compile(expression).match(self.pattern, self.at)
        if found:
            self.at = found.end()
        return found

    def alternatives(self) -> _Node:
        branches = [self.row()]
        while self.take("|"):
            branches.append(self.row())
        return _Node(tuple(branches))

    def row(self) -> tuple[_Node, ...]:
        parts: list[_Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            part = self.atom()
            if part is not None:
                parts.append(self.repeated(part))
        return tuple(parts)

    def atom(self) -> _Node | None:
        character = self.next()
        if character in "^$":
            return None
        if character == "(":
            return self.group()
        if character == "[":
            return _Node(characters=self.klass())
        if character == ".":
            return _Node(characters=_PLAIN)
        if character == "\\":
            return self.escape()
        if character in "*+?":
            raise self.unreadable(f"'{character}' with nothing to repeat")
        return _Node(characters=character)

    def group(self) -> _Node:
        around = self.find(r"\?<?[=!]") is not None
        if not around and not self.find(r"\?(?:P?<[A-Za-z_]\w*>|[A-Za-z-]*:)") and self.find(r"\?[A-Za-z-]+\)"):
            return _Node()  # flags
        inside = self.alternatives()
        if not self.take(")"):
            raise self.unreadable("'(' without ')'")
        return _Node() if around else inside

    def escape(self) -> _Node | None:
        character = self.next()
        if character in "bBAZzG":
            return None
        if character.isdigit() and character != "0":
            return _Node()
        return _Node(characters=self.escaped(character))

    def escaped(self, character: str) -> str:
        """The characters that `\\character` stands for."""
        if character in _CLASSES:
            return _CLASSES[character]
        if character in "xu" and (code := self.find(r"[0-9A-Fa-f]{2}" if character == "x" else r"[0-9A-Fa-f]{4}")):
            return chr(int(code[0], 16))
        if character in "pP" and (name := self.find(r"\{(\w+)\}|(\w)")):
            known = _PROPERTIES.get(name[1] or name[2], string.ascii_letters)
            return known if character == "p" else "".join(item for item in _ALL if item not in known)
        return _CONTROLS.get(character, character)

    def klass(self) -> str:
        """The characters of a class, each once, in the order in which they are written."""
        negated = self.take("^")
        found = ""
        first = True
        while first or not self.take("]"):
            item = self.member()
            first = False
            if len(item) == 1 and self.find(r"-(?!\])"):
                end = self.member()
                if len(end) != 1 or end < item:
                    raise self.unreadable("a range that goes backwards")
                found += "".join(map(chr, range(ord(item), min(ord(end), ord(item) + 200) + 1)))
            else:
                found += item
        if negated:
            found = "".join(item for item in _ALL if item not in found)
        if not found:
            raise self.unreadable("a class without characters")
        return "".join(dict.fromkeys(found))

    def member(self) -> str:
        character = self.next()
        if character != "\\":
            return character
        character = self.next()
        return "\b" if character == "b" else self.escaped(character)

    def repeated(self, part: _Node) -> _Node:
        low, high = 1, 1
        if found := self.find(r"[*+?]"):
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
        elif found := self.find(r"\{(?=\d|,\d)(\d*)(,?)(\d*)\}"):
            low = int(found[1] or 0)
            high = int(found[3]) if found[3] else (None if found[2] else low)
        else:
            return part
        self.find(r"[?+]")  # lazy or possessive: the same strings
        if high is not None and high < low:
            raise self.unreadable("a repetition that goes backwards")
        inner = part if part.low == part.high == 1 else _Node(((part,),))
        return _Node(inner.branches, inner.characters, low, high)
