"""Charts as the numbers of an SVG picture, which templates draw: counts over time, a histogram, values over time.

A picture is stretched to the room that there is, so words stand around it and not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

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


@dataclass(frozen=True)
class Column:
    """How many values lie between two numbers."""

    low: float
    high: float
    count: int
    x: int
    y: float
    height: float


def columns(bins: Sequence[Sequence[float]]) -> tuple[list[Column], int]:
    """A histogram's columns, from `[low, high, count]` each, and the top of their scale."""
    top = _round_up(max((int(count) for _, _, count in bins), default=1))
    found = []
    for number, (low, high, count) in enumerate(bins):
        height = max(LEAST, round(HEIGHT * count / top, 2)) if count else 0.0
        found.append(Column(low, high, int(count), number * STEP, round(HEIGHT - height, 2), height))
    return found, top


@dataclass(frozen=True)
class Point:
    """A value with its interval, from the left by its moment; `series` counts what it belongs to from 0."""

    name: str
    series: int
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class History:
    """Points under a scale from `bottom` to `top`; `series` in the order of their numbers."""

    points: Sequence[Point]
    series: Sequence[str]
    bottom: float
    top: float
    first: datetime
    last: datetime


WIDE = 1000
MARGIN = 20


def history(rows: Sequence[tuple[str, str, datetime, float, float | None, float | None]], most: int) -> History | None:
    """Each row: what it belongs to, its name, its moment, value, and interval. The series with the newest points have a
    colour of their own, up to `most`; None of fewer than two rows.
    """
    if len(rows) < 2:
        return None
    series = list(dict.fromkeys(row[0] for row in sorted(rows, key=lambda row: row[2], reverse=True)))[:most]
    ends = [edge for row in rows for edge in (row[3], row[4], row[5]) if edge is not None]
    bottom, top = min(ends), max(ends)
    if bottom >= 0 and top <= 1:
        bottom, top = 0.0, 1.0
    if bottom == top:
        bottom, top = bottom - 1, top + 1
    first, last = min(row[2] for row in rows), max(row[2] for row in rows)
    span = (last - first).total_seconds() or 1.0

    def height(value: float) -> float:
        return round(HEIGHT * (top - value) / (top - bottom), 2)

    points = [
        Point(
            name,
            series.index(belongs) if belongs in series else most,
            round(MARGIN + (WIDE - 2 * MARGIN) * (moment - first).total_seconds() / span, 1),
            height(value),
            height(value if low is None else low),
            height(value if high is None else high),
        )
        for belongs, name, moment, value, low, high in rows
    ]
    return History(points, series, bottom, top, first, last)
