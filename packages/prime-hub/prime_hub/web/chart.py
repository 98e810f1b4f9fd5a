"""A bar chart of counts over time as the numbers of an SVG picture; `templates/usage.html` draws it.

The picture is stretched to the room that there is, so words stand around it and not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from prime_hub.services.usage import Counts, Kind

HEIGHT = 100
STEP = 10
"""The width of a bar with the gap beside it."""
LEAST = 1.0
"""The height of what is there at all, so that it is seen."""
BY_WEEK_FROM = 180


@dataclass(frozen=True)
class Part:
    """What one kind adds to a bar."""

    kind: Kind
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """What happened on one day, or in the seven that begin with `first`."""

    first: date
    last: date
    counts: Counts
    x: int
    parts: Sequence[Part]

    @property
    def name(self) -> str:
        """`3 Nov 2026`, or `3 Nov 2026 to 9 Nov 2026`."""
        return written(self.first) if self.first == self.last else f"{written(self.first)} to {written(self.last)}"


@dataclass(frozen=True)
class Chart:
    """Bars from left to right under a scale from 0 to `top`."""

    bars: Sequence[Bar]
    top: int
    by_week: bool

    @property
    def width(self) -> int:
        """Of the picture, in its own units."""
        return STEP * len(self.bars)

    @property
    def highest(self) -> Bar:
        """The bar with the most; the newest of several."""
        return max(reversed(self.bars), key=lambda bar: bar.counts.total())

    @property
    def filled(self) -> list[Bar]:
        """The bars that there is something in, the newest first."""
        return [bar for bar in reversed(self.bars) if bar.counts.total()]


def bar_chart(days: Mapping[date, Counts], kinds: Sequence[Kind]) -> Chart:
    """`days` are one after another, the oldest first. Many of them are drawn week by week, so that bars can be seen."""
    by_week = len(days) > BY_WEEK_FROM
    spans = list(_spans(days, 7 if by_week else 1))
    top = _round_up(max(counts.total() for _, _, counts in spans))
    bars = [
        Bar(first, last, counts, number * STEP, list(_parts(counts, kinds, top)))
        for number, (first, last, counts) in enumerate(spans)
    ]
    return Chart(bars, top, by_week)


def written(day: date) -> str:
    """`3 Nov 2026`."""
    return f"{day.day} {day:%b} {day.year}"


def _spans(days: Mapping[date, Counts], length: int) -> Iterator[tuple[date, date, Counts]]:
    """So many days each, the newest whole; the oldest may be shorter."""
    order = list(days)
    start = len(order) % length
    for first in [0] * bool(start) + list(range(start, len(order), length)):
        last = order[start - 1 if first < start else first + length - 1]
        taken = [order[first] + timedelta(days=n) for n in range((last - order[first]).days + 1)]
        yield order[first], last, sum((days[day] for day in taken), Counts())


def _parts(counts: Counts, kinds: Sequence[Kind], top: int) -> Iterator[Part]:
    y = float(HEIGHT)
    for kind in kinds:
        if counts[kind]:
            height = max(LEAST, round(HEIGHT * counts[kind] / top, 2))
            y = max(0.0, round(y - height, 2))
            yield Part(kind, y, height)


def _round_up(count: int) -> int:
    """The next number with one digit and zeros that has a half."""
    size = 1
    while count > 10 * size:
        size *= 10
    return next(step * size for step in (2, 4, 6, 8, 10) if step * size >= count)
