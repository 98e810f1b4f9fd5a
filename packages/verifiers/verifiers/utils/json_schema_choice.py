"""Who decides where a schema leaves a choice: dice, or whoever always takes the first and the least."""

from __future__ import annotations

import base64
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
_WORDS = ("yes", "no", "left", "right", "up", "down", "hello", "world")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Choice(ABC):
    """The decisions of one value."""

    @abstractmethod
    def pick(self, options: Sequence[Any]) -> Any:
        """One of `options`, of which there is at least one."""

    @abstractmethod
    def whole(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""

    @abstractmethod
    def real(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""

    @abstractmethod
    def maybe(self, chance: float) -> bool:
        """Yes, in `chance` of all cases."""

    @abstractmethod
    def text(self, low: int, high: int | None) -> str:
        """A free string of `low` to `high` characters."""

    @abstractmethod
    def formed(self, kind: str) -> str | None:
        """A string of a format, None for a format that is not known."""

    @abstractmethod
    def example(self, examples: Sequence[str]) -> str | None:
        """One of the examples, or None to write something else."""

    @abstractmethod
    def word(self, number: int) -> str:
        """The name of something, the `number`-th."""

    @abstractmethod
    def at(self, number: int, make: Callable[[], T]) -> T:
        """What `make` makes, the `number`-th time; not always the same."""

    @abstractmethod
    def repeats(self, attempt: int, low: int) -> Callable[[int, int | None], int]:
        """How often a part of a pattern is repeated, at the `attempt`-th attempt at `low` or more characters."""


class Dice(Choice):
    """Random decisions; free strings are made of `words`."""

    def __init__(self, rng: Random, words: Sequence[str] = ()) -> None:
        self.rng = rng
        self.words = words or _WORDS

    def pick(self, options: Sequence[Any]) -> Any:
        return self.rng.choice(options)

    def whole(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def real(self, low: float, high: float) -> float:
        part = self.rng.random()
        return low * (1 - part) + high * part

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def text(self, low: int, high: int | None) -> str:
        text = " ".join(self.rng.choice(self.words) for _ in range(self.rng.randint(1, 3)))
        while len(text) < low:
            text += " " + self.rng.choice(self.words)
        return text if high is None else text[:high]

    def formed(self, kind: str) -> str | None:
        return _formed(kind, self.rng)

    def example(self, examples: Sequence[str]) -> str | None:
        return self.rng.choice(examples) if examples else None

    def word(self, number: int) -> str:
        return self.rng.choice(self.words) + ("" if self.rng.random() < 0.7 else str(number))

    def at(self, number: int, make: Callable[[], T]) -> T:
        return make()

    def repeats(self, attempt: int, low: int) -> Callable[[int, int | None], int]:
        most = max(4, low) if attempt % 2 else 4

        def count(fewest: int, highest: int | None) -> int:
            return self.rng.randint(fewest, fewest + most if highest is None else min(highest, fewest + most))

        return count


class First(Choice):
    """The first of everything, and the least. `number` moves it on by so many, where things must differ."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.number % len(options)]

    def whole(self, low: int, high: int) -> int:
        return min(low + self.number, high)

    def real(self, low: float, high: float) -> float:
        return min(low + self.number, high)

    def maybe(self, chance: float) -> bool:
        return self.number % 2 == 1

    def text(self, low: int, high: int | None) -> str:
        if not self.number:
            return _LETTERS[0] * low
        text = _LETTERS[self.number % len(_LETTERS)] * max(low, 1 + self.number // len(_LETTERS))
        return text if high is None else text[:high]

    def formed(self, kind: str) -> str | None:
        return _formed(kind, Random(self.number))

    def example(self, examples: Sequence[str]) -> str | None:
        return examples[self.number % len(examples)] if examples else None

    def word(self, number: int) -> str:
        return _LETTERS[number % len(_LETTERS)] * (1 + number // len(_LETTERS))

    def at(self, number: int, make: Callable[[], T]) -> T:
        before, self.number = self.number, number
        try:
            return make()
        finally:
            self.number = before

    def repeats(self, attempt: int, low: int) -> Callable[[int, int | None], int]:
        def count(fewest: int, highest: int | None) -> int:
            return fewest + attempt if highest is None else min(highest, fewest + attempt)

        return count


def _formed(kind: str, rng: Random) -> str | None:
    def letters(count: int) -> str:
        return "".join(rng.choice(_LETTERS) for _ in range(count))

    date = f"2024-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    time = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"
    made: dict[str, Callable[[], str]] = {
        "date": lambda: date,
        "date-time": lambda: f"{date}T{time}",
        "time": lambda: time,
        "duration": lambda: f"PT{rng.randint(1, 59)}M",
        "email": lambda: f"{letters(6)}@example.com",
        "idn-email": lambda: f"{letters(6)}@example.com",
        "uri": lambda: f"https://example.com/{letters(6)}",
        "uri-reference": lambda: f"/{letters(6)}",
        "iri": lambda: f"https://example.com/{letters(6)}",
        "uuid": lambda: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "uuid4": lambda: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "ipv4": lambda: f"192.0.2.{rng.randint(1, 254)}",
        "ipv6": lambda: f"2001:db8::{rng.randint(1, 9999):x}",
        "ipvanyaddress": lambda: f"192.0.2.{rng.randint(1, 254)}",
        "hostname": lambda: f"{letters(6)}.example.com",
        "byte": lambda: base64.b64encode(letters(6).encode()).decode(),
        "json-pointer": lambda: f"/{letters(4)}",
        "regex": lambda: letters(3),
    }
    return made[kind]() if kind in made else None
