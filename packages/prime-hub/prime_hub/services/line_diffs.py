"""Two texts line by line: what went and what came, with a bound on the work that a comparison may be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

CONTEXT = 3
NO_NEWLINE = "\\ No newline at end of file"


class TooEntangled(Exception):
    """To tell which lines are the same would take more steps than there are left."""


@dataclass
class Steps:
    """How much work is left; several comparisons share it."""

    left: int


@dataclass(frozen=True)
class Line:
    """A line of a difference. `sign` is `-`, `+` or a space; a number is None on the side that has no such line."""

    sign: str
    before: int | None
    after: int | None
    text: str
    ends: bool = True
    """Whether a newline follows it in its file."""


@dataclass(frozen=True)
class Hunk:
    """Lines that changed, with those around them."""

    heading: str
    lines: list[Line]


@dataclass(frozen=True)
class Difference:
    """How two texts differ, in the order of their lines; `added` and `removed` count lines."""

    hunks: list[Hunk]
    added: int
    removed: int

    def unified(self) -> Iterator[str]:
        """The lines of a unified diff, without the two that name files."""
        for hunk in self.hunks:
            yield hunk.heading
            for line in hunk.lines:
                yield line.sign + line.text
                if not line.ends:
                    yield NO_NEWLINE


def difference(before: str, after: str, steps: Steps) -> Difference:
    """Compare two texts. Raises TooEntangled."""
    old, new = _lines(before), _lines(after)
    matcher = _Bounded(old, new, steps)
    hunks = [
        Hunk(_heading(group), list(_hunk(old, new, group))) for group in matcher.get_grouped_opcodes(CONTEXT) if group
    ]
    signs = [line.sign for hunk in hunks for line in hunk.lines]
    return Difference(hunks, signs.count("+"), signs.count("-"))


class _Bounded(difflib.SequenceMatcher[str]):
    """Counts the pairs of lines that the search looks at, before it looks at them."""

    def __init__(self, old: list[str], new: list[str], steps: Steps) -> None:
        super().__init__(None, old, new)
        self._steps = steps
        pairs: dict[str, list[int]] = self.b2j  # ty: ignore[missing-attribute]
        self._costs = [0, *accumulate(1 + len(pairs.get(line, ())) for line in old)]

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        end = len(self._costs) - 1 if ahi is None else ahi
        self._steps.left -= self._costs[end] - self._costs[alo]
        if self._steps.left < 0:
            raise TooEntangled
        return super().find_longest_match(alo, ahi, blo, bhi)


def _lines(text: str) -> list[str]:
    """Lines with the newline at their ends, so that the last one differs where only that does."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _hunk(old: list[str], new: list[str], group: list[tuple[str, int, int, int, int]]) -> Iterator[Line]:
    for tag, alo, ahi, blo, bhi in group:
        if tag == "equal":
            for at in range(ahi - alo):
                yield _line(" ", alo + at + 1, blo + at + 1, old[alo + at])
            continue
        for at in range(alo, ahi):
            yield _line("-", at + 1, None, old[at])
        for at in range(blo, bhi):
            yield _line("+", None, at + 1, new[at])


def _line(sign: str, before: int | None, after: int | None, text: str) -> Line:
    return Line(sign, before, after, text.removesuffix("\n"), text.endswith("\n"))


def _heading(group: list[tuple[str, int, int, int, int]]) -> str:
    first, last = group[0], group[-1]
    return f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"


def _range(start: int, stop: int) -> str:
    length = stop - start
    return f"{start + 1}" if length == 1 else f"{start + 1 if length else start},{length}"
