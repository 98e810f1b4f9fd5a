"""A run of any size, opened without being read: what it is, how far it is, its columns, and its rows one at a time."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from prime_evals.briefs import Brief
from prime_evals.errors import NotARun
from prime_evals.identity import RunIdentity, RunSettings
from prime_evals.index import IN_ORDER, Index, lacking, name_of
from prime_evals.records import FILE_NAME, Key, Record, read_at

T = TypeVar("T")
Order = Literal["example", "reward", "seconds", "input_tokens", "output_tokens", "cost", "recorded_at"]
NUMBERS = ("reward", "seconds", "input_tokens", "output_tokens", "cost", "recorded_at")
INTEGERS = ("rollout_index", "attempt", "is_truncated")
TEXTS = ("error", "stop_condition")
_SQL = {"rollout_index": "attempts.rollout", "is_truncated": "truncated"}


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is. planned, finished, scored, errored: rollouts; attempts: all that are recorded, failed ones too."""

    planned: int
    finished: int
    scored: int
    errored: int
    attempts: int

    @property
    def is_complete(self) -> bool:
        """Whether every planned rollout has its result."""
        return self.finished >= self.planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Which results are meant: those for which everything holds that is given.

    scored, errored: True for those that are, False for those that are not. error: the error's kind. below, from_: reward
    below, or at least so much.
    """

    scored: bool | None = None
    errored: bool | None = None
    error: str | None = None
    stop_condition: str | None = None
    example_id: Any = None
    below: float | None = None
    from_: float | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """The condition, and its values."""
        parts: list[str] = []
        values: list[Any] = []
        for column, wanted in (("reward", self.scored), ("error", self.errored)):
            if wanted is not None:
                parts.append(f"{column} IS {'NOT ' if wanted else ''}NULL")
        example = None if self.example_id is None else name_of(self.example_id)
        for test, value in (
            ("error = ?", self.error),
            ("stop_condition = ?", self.stop_condition),
            ("attempts.example = ?", example),
            ("reward < ?", self.below),
            ("reward >= ?", self.from_),
        ):
            if value is not None:
                parts.append(test)
                values.append(value)
        return " AND ".join(parts), values


class OpenRun:
    """One run's folder, opened by its index. A context manager; not for several threads at once.

    Only what is asked for is read: `row` reads one row by one seek, and the iterators hold one at a time.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.path = self.directory / FILE_NAME
        if not self.path.is_file():
            raise NotARun(f"No evaluation run in {self.directory}: {FILE_NAME} is missing.")
        self._index = Index(self.directory)
        self.identity: RunIdentity
        self.settings: RunSettings
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        header, self.started_at, self.ended_at = self._mended(self._index.header)
        try:
            self.identity = RunIdentity.from_dict(header["identity"])
            self.settings = RunSettings.from_dict(header["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise lacking(self.directory, error) from None

    def refresh(self) -> None:
        """Take in what was recorded since it was opened."""
        self._mended(self._index.catch_up)
        self._read_header()

    def add(self, records: Sequence[Record], lines: Sequence[bytes]) -> None:
        """What the writer has just appended, with its bytes."""
        self._index.add(records, lines)

    @property
    def counts(self) -> Counts:
        """How far the run is."""
        query = (
            "SELECT count(*), count(reward), count(error), (SELECT count(*) FROM (SELECT 1 FROM attempts GROUP BY example, "
            "rollout, attempt)) FROM results JOIN attempts USING (offset)"
        )
        counted = self._mended(lambda: self._index.db.execute(query).fetchone())
        return Counts(self.settings.num_examples * self.settings.rollouts_per_example, *counted)

    def columns(self, *names: str, only: Only | None = None) -> dict[str, Any]:
        """Columns of the results, by example, then rollout index; those named, or all.

        reward, seconds, input_tokens, output_tokens, cost, recorded_at: arrays of floats, NaN where there is none;
        rollout_index, attempt, is_truncated: arrays of integers; example_id, error, stop_condition: lists, None where
        there is none.
        """
        wanted = names or ("example_id", *INTEGERS, *NUMBERS, *TEXTS)
        unknown = sorted(set(wanted) - {"example_id", *INTEGERS, *NUMBERS, *TEXTS})
        if unknown:
            raise ValueError(f"A run has no column {unknown[0]!r}.")
        return self._mended(lambda: self._columns(wanted, only or Only()))

    def _columns(self, wanted: Sequence[str], only: Only) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: array("d") if name in NUMBERS else array("q") if name in INTEGERS else [] for name in wanted
        }
        # Without a result's example, number and rollout SQLite would look them up in the table of the attempts.
        columns = ", ".join("results.example" if name == "example_id" else _SQL.get(name, name) for name in wanted)
        where, values = only.sql()
        query = f"SELECT {columns} FROM results JOIN attempts USING (offset){' WHERE ' + where if where else ''}"
        shared: dict[Any, Any] = {}
        adders = [_adder(name, found[name], shared) for name in wanted]
        for row in self._index.db.execute(f"{query} ORDER BY {IN_ORDER}", values):
            for add, value in zip(adders, row, strict=True):
                add(value)
        return found

    def briefs(
        self, only: Only | None = None, by: Order = "example", descending: bool = False, limit: int = -1, skip: int = 0
    ) -> Iterator[Brief]:
        """What a summary needs of each result, filtered and sorted; no output is read."""
        where, values = (only or Only()).sql()
        order = IN_ORDER
        if by != "example":
            order = f"{by} IS NULL, {by} {'DESC' if descending else 'ASC'}, {IN_ORDER}"
        elif descending:
            order = ", ".join(f"{part} DESC" for part in IN_ORDER.split(", "))
        given, failed_at = 0, -1
        while True:
            try:
                end = f"{order} LIMIT {limit - given if limit >= 0 else -1} OFFSET {skip + given}"
                for brief in self._index.briefs(where, values, end):
                    yield brief
                    given += 1
                return
            except sqlite3.DatabaseError as error:
                if failed_at == given:  # made anew, and no better
                    raise self._unreadable(error) from error
                failed_at = given
                self._index.remake()

    def rows(
        self, only: Only | None = None, by: Order = "example", descending: bool = False, limit: int = -1, skip: int = 0
    ) -> Iterator[dict[str, Any]]:
        """The rows of results.jsonl, filtered and sorted, one in memory at a time."""
        for brief in self.briefs(only, by, descending, limit, skip):
            yield self.read(brief)

    def row(self, key: Key) -> dict[str, Any]:
        """The result of one rollout. Raises KeyError when there is none yet."""
        query = (
            "SELECT attempts.offset, length FROM results JOIN attempts USING (offset) "
            "WHERE results.example = ? AND results.rollout = ?"
        )

        def ask() -> dict[str, Any]:
            found = self._index.db.execute(query, (name_of(key[0]), key[1])).fetchone()
            if found is None:
                raise KeyError(key)
            return self._record(key, *found)["output"]

        return self._mended(ask)

    def attempts(self, key: Key) -> list[dict[str, Any]]:
        """Every attempt at one rollout, as recorded: {"attempt", "final", "recorded_at", "output", …}, first to last.

        An attempt that was recorded twice, once played and once scored, is given as it was scored.
        """
        query = "SELECT attempt, offset, length FROM attempts WHERE example = ? AND rollout = ? ORDER BY offset"

        def ask() -> list[dict[str, Any]]:
            found = self._index.db.execute(query, (name_of(key[0]), key[1])).fetchall()
            latest = {attempt: (offset, length) for attempt, offset, length in found}
            return [self._record(key, *place) for place in latest.values()]

        return self._mended(ask)

    def read(self, brief: Brief) -> dict[str, Any]:
        """The whole row of a brief."""
        key = (brief.example_id, brief.rollout_index)
        try:
            return self._record(key, brief.offset, brief.length)["output"]
        except sqlite3.DatabaseError:
            return self.row(key)

    def _record(self, key: Key, offset: int, length: int) -> dict[str, Any]:
        """The record of a rollout at its place. Raises DatabaseError when another one lies there, or none."""
        try:
            data = read_at(self.path, offset, length)
        except NotARun as error:
            raise sqlite3.DatabaseError(str(error)) from error
        if (name_of(data.get("example_id")), data.get("rollout_index")) != (name_of(key[0]), key[1]):
            raise sqlite3.DatabaseError(f"at byte {offset} lies not rollout {key[1]} of example {key[0]}")
        return data

    def tries(self) -> Iterator[tuple[Any, int, int]]:
        """(example_id, rollout index, highest attempt number) of every rollout of which something is recorded."""
        return iter(self._mended(lambda: list(self._index.tries())))

    def _mended(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; where the index turns out to be damaged, once it is made anew."""
        try:
            return ask()
        except sqlite3.DatabaseError:
            self._index.remake()
            try:
                return ask()
            except sqlite3.DatabaseError as error:
                raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> NotARun:
        return NotARun(f"The run in {self.directory} cannot be read, also after its index was made anew: {error}")

    def close(self) -> None:
        """Let go of the folder."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_run(directory: str | os.PathLike[str]) -> OpenRun:
    """The run in `directory`, opened by its index, which is made where it is missing. Raises NotARun."""
    return OpenRun(directory)


def _adder(name: str, into: Any, shared: dict[Any, Any]) -> Callable[[Any], None]:
    if name in NUMBERS:
        return lambda value: into.append(math.nan if value is None else value)
    if name == "example_id":
        return lambda value: into.append(
            shared[value] if value in shared else shared.setdefault(value, json.loads(value))
        )
    if name in TEXTS:
        return lambda value: into.append(shared.setdefault((name, value), value))
    return into.append
