"""The attempt store: `attempts.jsonl`, append-only, one line per attempt, each on disk before the next rollout counts
as done.

A line is `{"kind": "run", …}` (identity and settings; the first line, and again when a run is resumed with more
examples) or `{"kind": "attempt", "run": digest, "example_id", "rollout_index", "attempt", "final", "recorded_at",
"output"}`, with `"of": [k, n]` where several became final together. An attempt that was retried, cut off by something that
ended the run, or that waits for the others of its group to be scored, is not final. A rollout's result is its latest final
attempt. A last line torn by a kill is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prime_evals.briefs import Brief
from prime_evals.errors import NotARun, RecordingFailed, ResumeMismatch, RunInUse
from prime_evals.files import UNPAIRED, sync_folder
from prime_evals.identity import RunIdentity, RunSettings, differing, mismatch_sentence
from prime_evals.index import lacking
from prime_evals.opened import OpenRun
from prime_evals.records import FILE_NAME, Key, Record, read_at, scan, settled


@dataclass(slots=True)
class Attempt:
    """One try at one rollout. `output`: a row of results.jsonl, JSON-ready. `attempt` counts from 1."""

    example_id: Any
    rollout_index: int
    output: dict[str, Any]
    attempt: int = 1
    final: bool = True
    recorded_at: float = field(default_factory=time.time)

    @property
    def key(self) -> Key:
        return (self.example_id, self.rollout_index)


@dataclass(slots=True)
class Run:
    """A run's folder as data."""

    directory: Path
    identity: RunIdentity
    settings: RunSettings
    started_at: float
    attempts: list[Attempt]

    @property
    def results(self) -> dict[Key, Attempt]:
        """The final attempt of every finished rollout; the latest where a group was run again."""
        return {attempt.key: attempt for attempt in self.attempts if attempt.final}

    @property
    def is_complete(self) -> bool:
        """Whether every planned rollout has its result."""
        return len(self.results) >= self.settings.num_examples * self.settings.rollouts_per_example

    def outputs(self) -> list[dict[str, Any]]:
        """One row per finished rollout, by example, then rollout index."""
        found = self.results
        return [found[key].output for key in sorted(found, key=_order)]


def _order(key: Key) -> tuple[bool, Any, int]:
    example = key[0]
    return (not isinstance(example, int), example if isinstance(example, int) else str(example), key[1])


def read_run(directory: str | os.PathLike[str]) -> Run:
    """The run in `directory`, all of it in memory; `open_run` is for large ones. Raises NotARun with a sentence."""
    folder = Path(directory)
    path = folder / FILE_NAME
    if not path.is_file():
        raise NotARun(f"No evaluation run in {folder}: {FILE_NAME} is missing.")
    header: dict[str, Any] | None = None
    started_at = 0.0
    attempts = []
    try:
        for record in settled(scan(path)):
            data = record.data
            if data.get("kind") == "run":
                started_at = started_at or float(data.get("started_at", 0.0))
                header = data
            elif data.get("kind") == "attempt":
                made, at = data.get("attempt", 1), data.get("recorded_at", 0.0)
                attempts.append(
                    Attempt(data["example_id"], data["rollout_index"], data["output"], made, record.final, at)
                )
        if header is None:
            raise NotARun(f"No evaluation run in {folder}: {FILE_NAME} has no description of the run in it.")
        identity, settings = RunIdentity.from_dict(header["identity"]), RunSettings.from_dict(header["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise lacking(folder, error) from None
    return Run(folder, identity, settings, started_at, attempts)


class AttemptStore:
    """Writes one run. Opening a folder that holds the same run continues it; another run there is a ResumeMismatch.

    `recorded`: the brief of every rollout's result; `read` gives the whole row. `tried`: the highest attempt number of
    every rollout of which anything is recorded. `append` is not thread-safe by itself; one writer at a time, also between
    processes (RunInUse). Raises RecordingFailed when the disk refuses; what was recorded before stays intact.
    """

    def __init__(self, directory: str | os.PathLike[str], identity: RunIdentity, settings: RunSettings) -> None:
        self.directory = Path(directory)
        self.identity = identity
        self.settings = settings
        self.path = self.directory / FILE_NAME
        self.recorded: dict[Key, Brief] = {}
        self.tried: dict[Key, int] = {}
        self._run: OpenRun | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self.path.open("ab")
        except OSError as error:
            raise RecordingFailed.from_os_error(error, self.directory) from error
        try:
            self._lock()
            self._continue_or_begin()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunInUse(
                f"Another process is recording into {self.directory}. Wait for it, or write elsewhere with -o."
            ) from None

    def _continue_or_begin(self) -> None:
        self._drop_torn_line()
        if self.path.stat().st_size:
            self._run = OpenRun(self.directory)
            differences = differing(self._run.identity, self._run.settings, self.identity, self.settings)
            if differences:
                raise ResumeMismatch(mismatch_sentence(self.directory, differences))
            self.recorded = {(brief.example_id, brief.rollout_index): brief for brief in self._run.briefs()}
            self.tried = {(example, index): attempt for example, index, attempt in self._run.tries()}
            if self._run.settings.to_dict() == self.settings.to_dict():
                return
        header = {"kind": "run", "format": 1, "run": self.identity.digest, "started_at": time.time()}
        self._write([{**header, "identity": self.identity.to_dict(), "settings": self.settings.to_dict()}])
        with contextlib.suppress(OSError):
            sync_folder(self.directory)
        if self._run is None:
            # The index is a help to those who read, and can always be made later.
            with contextlib.suppress(OSError, sqlite3.Error):
                self._run = OpenRun(self.directory)

    def _drop_torn_line(self) -> None:
        """End the file at the last whole line. A line that is whole but for its newline is kept."""
        size = self.path.stat().st_size
        if not size:
            return
        with self.path.open("rb+") as file:
            end, tail = size, b""
            while end and b"\n" not in tail:
                start = max(0, end - 65536)
                file.seek(start)
                tail, end = file.read(end - start) + tail, start
            torn = tail[tail.rfind(b"\n") + 1 :]
            if not torn:
                return
            try:
                json.loads(torn)
            except ValueError:
                file.truncate(size - len(torn))
            else:
                file.seek(size)
                file.write(b"\n")

    def append(self, *batches: Sequence[Attempt]) -> None:
        """Record attempts: one write, on disk when this returns. A batch of final ones becomes final all or none."""
        records = [record for batch in batches for record in self._records(batch)]
        attempts = [attempt for batch in batches for attempt in batch]
        written, lines = self._write(records)
        for attempt, record in zip(attempts, written, strict=True):
            record.final = attempt.final
            self.tried[attempt.key] = max(attempt.attempt, self.tried.get(attempt.key, 0))
            if attempt.final:
                self.recorded[attempt.key] = Brief.of(attempt.output, attempt.attempt, record.offset, record.length)
        if self._run is not None and written:
            try:
                self._run.add(written, lines)
            except (OSError, sqlite3.Error, NotARun):  # a full disk, say; whoever opens the run next makes up for it
                self._run.close()
                self._run = None

    def _records(self, batch: Sequence[Attempt]) -> Iterator[dict[str, Any]]:
        for number, attempt in enumerate(batch, 1):
            yield {
                "kind": "attempt",
                "run": self.identity.digest,
                "example_id": attempt.example_id,
                "rollout_index": attempt.rollout_index,
                "attempt": attempt.attempt,
                "final": attempt.final,
                **({"of": [number, len(batch)]} if len(batch) > 1 and all(one.final for one in batch) else {}),
                "recorded_at": attempt.recorded_at,
                "output": attempt.output,
            }

    def read(self, key: Key) -> dict[str, Any]:
        """The whole row of a recorded rollout. Raises KeyError."""
        brief = self.recorded[key]
        return read_at(self.path, brief.offset, brief.length)["output"]

    def _write(self, records: list[dict[str, Any]]) -> tuple[list[Record], list[bytes]]:
        """Append; gives the records with where each lies, and their bytes."""
        lines = [
            json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", UNPAIRED) for record in records
        ]
        before = os.fstat(self._file.fileno()).st_size
        try:
            self._file.write(b"".join(line + b"\n" for line in lines))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._discard(before)
            raise RecordingFailed.from_os_error(error, self.directory, len(self.recorded)) from error
        written = []
        for record, line in zip(records, lines, strict=True):
            written.append(Record(before, len(line), record))
            before += len(line) + 1
        return written, lines

    def _discard(self, size: int) -> None:
        """After a failed write: forget what is still buffered and end the file where it was."""
        raw = os.dup(self._file.fileno())
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.ftruncate(raw, size)
        self._file = os.fdopen(raw, "ab")

    def close(self) -> None:
        """Let go of the file; the folder can then be resumed."""
        if self._run is not None:
            self._run.close()
            self._run = None
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> AttemptStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
