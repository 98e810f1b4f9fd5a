"""The index beside `attempts.jsonl`: where each attempt lies and what a summary needs of it, so that a run of any size
opens at once.

It is a SQLite file, derived: whoever opens it first reads what was appended since, in one transaction with the place up
to which it has read, so that a killed writer leaves it behind but never wrong. The place is checked against the file: the
first line and the last one that was read must lie where they lay. An index that is missing, damaged, of another format or
of another file is made anew, in the memory of one line. Where the folder cannot be written, it is made in a temporary
file.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prime_evals.briefs import Brief
from prime_evals.errors import NotARun
from prime_evals.records import FILE_NAME, Record, scan, settled

INDEX_NAME = "attempts.index"
FORMAT = 1
_BATCH = 2000
_LARGEST_INTEGER = 2**63 - 1
_SCHEMA = """
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER, read_to INTEGER, first_length INTEGER, first_check INTEGER,
    last_offset INTEGER, last_length INTEGER, last_check INTEGER, header TEXT, started_at REAL, ended_at REAL);
CREATE TABLE attempts (
    offset INTEGER PRIMARY KEY, length INTEGER, example TEXT, number INTEGER, rollout INTEGER, attempt INTEGER,
    final INTEGER, recorded_at REAL, reward REAL, error TEXT, message TEXT, stop_condition TEXT, truncated INTEGER,
    input_tokens REAL, output_tokens REAL, cost REAL, seconds REAL, details TEXT);
CREATE INDEX of_rollout ON attempts (example, rollout, attempt);
CREATE TABLE results (
    example TEXT, rollout INTEGER, number INTEGER, offset INTEGER, PRIMARY KEY (example, rollout)) WITHOUT ROWID;
CREATE INDEX in_order ON results (number IS NULL, number, example, rollout);
"""
IN_ORDER = "results.number IS NULL, results.number, results.example, results.rollout"


class Index:
    """The index of one run's folder. Not for several threads at once. Raises NotARun, and OSError when nothing can be
    written anywhere.
    """

    def __init__(self, folder: Path) -> None:
        self.attempts = folder / FILE_NAME
        self.path = folder / INDEX_NAME
        self.db: sqlite3.Connection
        self._open()

    # Opening

    def _open(self) -> None:
        for attempt in range(2):
            try:
                self._use(self.path)
                return
            except sqlite3.DatabaseError as error:
                if attempt or not self._may_be_remade(error):
                    break
                self._remove()
        # A folder that one may only read, a disk that is full, a file system without locks: SQLite's own temporary file.
        self._use("")

    def _use(self, path: Path | str) -> None:
        try:
            self._connect(path)
            self.catch_up()
        except BaseException:
            self._disconnect()
            raise

    def remake(self) -> None:
        """Throw it away and make it anew, since it was found to be damaged."""
        self.close()
        self._remove()
        self._open()

    def _may_be_remade(self, error: sqlite3.DatabaseError) -> bool:
        busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
        return not busy and os.access(self.path.parent, os.W_OK)

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink()

    def _connect(self, path: Path | str) -> None:
        # Threads take turns: the one that records, and the one that opened it.
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode=WAL")
        # A power cut may cost the last commits, which are read again from attempts.jsonl, and never more.
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("PRAGMA cache_size=-8000")

    def _disconnect(self) -> None:
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self.db.close()

    def close(self) -> None:
        """Let go of it."""
        self._disconnect()

    # Reading what is new

    def catch_up(self) -> None:
        """Take in what was appended since. Raises NotARun."""
        if self._is_current():
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            if not self._fits():
                self._begin_anew()
            start = self._read_to()
            try:
                self._take(settled(scan(self.attempts, start), at_end=False))
            except NotARun:
                if not start:
                    raise
                self._begin_anew()  # the file's fault, or the index's own
                self._take(settled(scan(self.attempts), at_end=False))
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise

    def add(self, records: Sequence[Record], lines: Sequence[bytes]) -> None:
        """What the writer has just appended, without reading it again: `lines` are the records' bytes."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            current = self._read_to() == records[0].offset
            if current:
                self._take(records, zlib.crc32(lines[-1]))
            self.db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise
        if not current:
            self.catch_up()

    def _is_current(self) -> bool:
        try:
            return self._fits() and self._read_to() == self.attempts.stat().st_size
        except sqlite3.OperationalError:  # no tables yet
            return False

    def _read_to(self) -> int:
        (start,) = self.db.execute("SELECT read_to FROM state").fetchone()
        return start

    def _fits(self) -> bool:
        """Whether what was read lies where it lay."""
        if not self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone():
            return False
        query = "SELECT format, read_to, first_length, first_check, last_offset, last_length, last_check FROM state"
        state = self.db.execute(query).fetchone()
        if state is None or state[0] != FORMAT or state[1] > self.attempts.stat().st_size:
            return False
        if state[1] - (state[4] + state[5]) not in (0, 1):  # the line break
            return False
        with self.attempts.open("rb") as file:
            for offset, length, check in ((0, *state[2:4]), state[4:]):
                file.seek(offset)
                if zlib.crc32(file.read(length)) != check:
                    return False
        return True

    def _begin_anew(self) -> None:
        # A table at a time, and not a new file: others may have this one open.
        for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            self.db.execute(f'DROP TABLE "{name}"')
        for statement in filter(str.strip, _SCHEMA.split(";")):
            self.db.execute(statement)
        self.db.execute("INSERT INTO state VALUES (1, ?, 0, 0, 0, 0, 0, 0, NULL, 0, 0)", (FORMAT,))

    def _take(self, records: Iterable[Record], last_check: int | None = None) -> None:
        rows: list[tuple[Any, ...]] = []
        results: list[tuple[Any, ...]] = []
        last: Record | None = None
        header, started_at = self.db.execute("SELECT header, started_at FROM state").fetchone()
        for record in records:
            last = record
            kind = record.data.get("kind")
            if kind == "run":
                header = json.dumps({name: record.data.get(name) for name in ("identity", "settings")})
                try:
                    started_at = started_at or float(record.data.get("started_at", 0.0))
                except (TypeError, ValueError) as error:
                    raise lacking(self.attempts.parent, error) from None
            elif kind == "attempt":
                row = _row(self.attempts.parent, record)
                rows.append(row)
                if record.final:
                    results.append((row[2], row[4], row[3], row[0]))
            if len(rows) >= _BATCH:
                self._insert(rows, results)
        self._insert(rows, results)
        if last is not None:
            self._remember(last, header, started_at, last_check)

    def _insert(self, rows: list[tuple[Any, ...]], results: list[tuple[Any, ...]]) -> None:
        self.db.executemany(f"INSERT OR REPLACE INTO attempts VALUES ({', '.join('?' * 18)})", rows)
        self.db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", results)
        rows.clear()
        results.clear()

    def _remember(self, last: Record, header: str | None, started_at: float, check: int | None) -> None:
        (first,) = self.db.execute("SELECT first_length FROM state").fetchone()
        end = last.end + 1
        if check is None or not first:
            with self.attempts.open("rb") as file:
                line = file.readline()
                file.seek(last.offset)
                check = zlib.crc32(file.read(last.length))
                end = last.end + (file.read(1) == b"\n")  # the line break may not be there yet
            self.db.execute("UPDATE state SET first_length = ?, first_check = ?", (len(line), zlib.crc32(line)))
        ended_at = last.data.get("recorded_at") or 0.0
        self.db.execute(
            "UPDATE state SET read_to = ?, last_offset = ?, last_length = ?, last_check = ?, header = ?, started_at = ?, "
            "ended_at = max(ended_at, ?)",
            (end, last.offset, last.length, check, header, started_at, ended_at),
        )

    # Asking

    def header(self) -> tuple[dict[str, Any], float, float]:
        """(identity and settings as data, when it was started, when the last attempt was recorded). Raises NotARun."""
        header, started_at, ended_at = self.db.execute("SELECT header, started_at, ended_at FROM state").fetchone()
        if header is None:
            raise NotARun(
                f"No evaluation run in {self.attempts.parent}: {FILE_NAME} has no description of the run in it."
            )
        return json.loads(header), started_at, ended_at

    def briefs(self, where: str = "", values: Sequence[Any] = (), order: str = IN_ORDER) -> Iterator[Brief]:
        """The results as briefs: `where` and `order` are SQL over `attempts` joined with `results`."""
        query = (
            "SELECT attempts.example, attempts.rollout, reward, error, message, truncated, stop_condition, seconds, "
            "details, attempt, attempts.offset, length FROM results JOIN attempts USING (offset)"
            f"{' WHERE ' + where if where else ''} ORDER BY {order}"
        )
        for row in self.db.execute(query, values):
            details = json.loads(row[8])
            yield Brief(
                json.loads(row[0]),
                row[1],
                row[2],
                None if row[3] is None else (row[3], row[4]),
                bool(row[5]),
                row[6],
                details.get("metrics"),
                details.get("usage"),
                row[7],
                details.get("reward_errors"),
                details.get("note", ""),
                row[9],
                row[10],
                row[11],
            )

    def tries(self) -> Iterator[tuple[Any, int, int]]:
        """(example_id, rollout index, highest attempt number) of rollouts of which something is recorded."""
        query = "SELECT example, rollout, max(attempt) FROM attempts GROUP BY example, rollout"
        for example, rollout, attempt in self.db.execute(query):
            yield json.loads(example), rollout, attempt


def name_of(example_id: Any) -> str:
    """An example's id as the index writes it."""
    text = json.dumps(example_id, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half an emoji
        return json.dumps(example_id)
    return text


def lacking(folder: Path, error: Exception) -> NotARun:
    """The sentence for a record without a field that all have."""
    return NotARun(f"No evaluation run in {folder}: a record of {FILE_NAME} lacks a field ({error}).")


def _row(folder: Path, record: Record) -> tuple[Any, ...]:
    data = record.data
    try:
        example, rollout, output = data["example_id"], int(data["rollout_index"]), data["output"]
        attempt = int(data.get("attempt", 1))
        brief = Brief.of(output)
        usage = brief.usage
        reward = None if brief.reward is None else float(brief.reward)
        tokens = [None if (found := usage.get(name)) is None else float(found) for name in _TOKENS]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise lacking(folder, error) from None
    number = example if isinstance(example, int) and abs(example) <= _LARGEST_INTEGER else None
    details = {"metrics": brief.metrics, "usage": usage, "reward_errors": brief.reward_errors, "note": brief.note}
    error = brief.error or {"error": None, "message": None}
    return (
        record.offset,
        record.length,
        name_of(example),
        number,
        rollout,
        attempt,
        record.final,
        data.get("recorded_at", 0.0),
        reward,
        _storable(error["error"]),
        _storable(error["message"]),
        _storable(brief.stop_condition),
        brief.is_truncated,
        *tokens,
        brief.seconds,
        json.dumps({name: value for name, value in details.items() if value}),
    )


_TOKENS = ("input_tokens", "output_tokens", "cost")


def _storable(text: str | None) -> str | None:
    """Half an emoji is no UTF-8."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()
