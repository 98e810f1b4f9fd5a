"""The attempt store: `attempts.jsonl`, append-only, one line per attempt, each on disk before the next rollout counts
as done.

A line is `{"kind": "run", …}` (identity and settings; the first line, and again when a run is resumed with more
examples) or `{"kind": "attempt", "run": digest, "example_id", "rollout_index", "attempt", "final", "recorded_at",
"output"}`. An attempt that was retried, or cut off by something that ended the run, is not final. A last line torn by
a kill is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prime_evals.errors import NotARun, RecordingFailed, ResumeMismatch, RunInUse
from prime_evals.files import UNPAIRED, sync_folder
from prime_evals.identity import RunIdentity, RunSettings, mismatch_sentence

FILE_NAME = "attempts.jsonl"
Key = tuple[Any, int]
"""(example_id, rollout_index): which rollout of a run."""


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


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        yield from enumerate(file, 1)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of the file; a torn last line is left out, a broken one before it is an error."""
    broken: int | None = None
    for number, line in _lines(path):
        if broken is not None:
            raise NotARun(
                f"Line {broken} of {path} is not JSON, so the run cannot be trusted; mend or remove the line."
            )
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            broken = number
            continue
        if not isinstance(record, dict):
            raise NotARun(f"Line {number} of {path} is not a JSON object, so the run cannot be trusted.")
        yield record


def read_run(directory: str | os.PathLike[str]) -> Run:
    """The run in `directory`. Raises NotARun with a sentence when there is none."""
    folder = Path(directory)
    path = folder / FILE_NAME
    if not path.is_file():
        raise NotARun(f"No evaluation run in {folder}: {FILE_NAME} is missing.")
    header: dict[str, Any] | None = None
    started_at = 0.0
    attempts = []
    try:
        for record in _read(path):
            if record.get("kind") == "run":
                started_at = started_at or float(record.get("started_at", 0.0))
                header = record
            elif record.get("kind") == "attempt":
                attempts.append(
                    Attempt(
                        record["example_id"],
                        record["rollout_index"],
                        record["output"],
                        record.get("attempt", 1),
                        record.get("final", True),
                        record.get("recorded_at", 0.0),
                    )
                )
        if header is None:
            raise NotARun(f"No evaluation run in {folder}: {FILE_NAME} has no description of the run in it.")
        identity, settings = RunIdentity.from_dict(header["identity"]), RunSettings.from_dict(header["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise NotARun(f"No evaluation run in {folder}: a record of {FILE_NAME} lacks a field ({error}).") from None
    return Run(folder, identity, settings, started_at, attempts)


class AttemptStore:
    """Writes one run. Opening a folder that holds the same run continues it; another run there is a ResumeMismatch.

    `append` is not thread-safe by itself; one writer at a time, also between processes (RunInUse). Raises
    RecordingFailed when the disk refuses; what was recorded before stays intact.
    """

    def __init__(self, directory: str | os.PathLike[str], identity: RunIdentity, settings: RunSettings) -> None:
        self.directory = Path(directory)
        self.identity = identity
        self.settings = settings
        self.path = self.directory / FILE_NAME
        self.recorded: dict[Key, Attempt] = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self.path.open("ab")
        except OSError as error:
            raise RecordingFailed.from_os_error(error, self.directory) from error
        try:
            self._lock()
            self._continue_or_begin()
        except BaseException:
            self._file.close()
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
            run = read_run(self.directory)
            differences = run.identity.differences(self.identity)
            old, new = run.settings, self.settings
            if old.rollouts_per_example != new.rollouts_per_example:
                differences.append(f"rollouts_per_example: {old.rollouts_per_example} != {new.rollouts_per_example}")
            if new.num_examples < old.num_examples:
                differences.append(f"num_examples: {old.num_examples} != {new.num_examples}")
            if differences:
                raise ResumeMismatch(mismatch_sentence(self.directory, differences))
            self.recorded = run.results
            if old.to_dict() == new.to_dict():
                return
        header = {"kind": "run", "format": 1, "run": self.identity.digest, "started_at": time.time()}
        self._write([{**header, "identity": self.identity.to_dict(), "settings": self.settings.to_dict()}])
        with contextlib.suppress(OSError):
            sync_folder(self.directory)

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

    def append(self, attempts: Sequence[Attempt]) -> None:
        """Record attempts together: one write, on disk when this returns."""
        self._write(
            [
                {
                    "kind": "attempt",
                    "run": self.identity.digest,
                    "example_id": attempt.example_id,
                    "rollout_index": attempt.rollout_index,
                    "attempt": attempt.attempt,
                    "final": attempt.final,
                    "recorded_at": attempt.recorded_at,
                    "output": attempt.output,
                }
                for attempt in attempts
            ]
        )
        self.recorded.update({attempt.key: attempt for attempt in attempts if attempt.final})

    def _write(self, records: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        before = os.fstat(self._file.fileno()).st_size
        try:
            self._file.write(text.encode("utf-8", UNPAIRED))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._discard(before)
            raise RecordingFailed.from_os_error(error, self.directory, len(self.recorded)) from error

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
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> AttemptStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
