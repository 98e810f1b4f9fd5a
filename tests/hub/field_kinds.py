"""How a case of `field_cases.py` shows what a field does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Differs:
    """Both are taken, and the answer, or where `see` looks afterwards, is not the same. `ABSENT` leaves the field out."""

    one: Any
    other: Any
    body: Any = None
    """The request around the field, where it is not the one of `asking.py`."""
    see: str | None = None
    """`METHOD /path`; then only what it answers counts."""


@dataclass(frozen=True)
class Refused:
    """A sentence with these words is the answer."""

    value: Any
    words: str
    body: Any = None


@dataclass(frozen=True)
class Shown:
    """A test of a test module beside this one shows it."""

    module: str
    test: str


Case = Differs | Refused | Shown
ABSENT: Any = object()
