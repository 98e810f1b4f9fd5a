"""One run's folder as the pages need it: what a list tells of it, its summary, its rollouts in any order, one of them.

Columns of numbers are kept of a run that is open, never conversations: those are read when they are shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import threading
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prime_evals.estimates import clustered_mean
from prime_evals.sources import OfficialRun, OwnRun, open_source
from prime_evals.summaries import Summary
from prime_hub.errors import Invalid, NotFound
from prime_hub.services.evaluation_reading import place_of, shown, values_of
from prime_hub.services.evaluation_samples import OUTCOMES, Listed
from prime_hub.services.shelves import Card, Place

FILES = ("attempts.jsonl", "results.jsonl")
SORTS = {"reward": "reward", "tokens": "output_tokens", "seconds": "seconds", "cost": "cost"}
"""What a list can be sorted by besides the example, and the column."""
AMOUNTS = ("input_tokens", "output_tokens", "cost")


def id_of(folder: Path) -> str:
    """By which a run's address knows it: the same whenever it is served."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]


def stamp_of(folder: Path) -> tuple[int, ...]:
    """What changes when something is recorded."""
    found: list[int] = []
    for name in FILES:
        try:
            state = (folder / name).stat()
        except OSError:
            continue
        found += [state.st_size, state.st_mtime_ns]
    return tuple(found)


@dataclass(frozen=True)
class Row:
    """A rollout of a list (`shelves.Rollout`)."""

    id: str
    example_id: str
    rollout_index: int
    reward: float | None
    metrics: dict[str, float]
    error: str | None
    message: str | None
    stop_condition: str | None
    truncated: bool
    turns: int | None
    output_tokens: float | None
    cost: float | None
    seconds: float | None
    prompt: str
    completion: str


class Run:
    """A run that is open, as it was at one moment. Threads take turns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stamp = stamp_of(folder)
        self._lock = threading.Lock()
        self._source: OwnRun | OfficialRun = open_source(folder)
        self.columns = self._source.columns
        # When nobody reads from it any more, which may be after another has taken its place.
        self.close = weakref.finalize(self, self._source.close)

    @property
    def threshold(self) -> float:
        """From which reward on a rollout has passed."""
        return self._source.about.threshold

    def card(self) -> Card:
        """What a list tells: also the mean reward with its interval."""
        reward = clustered_mean(self.groups())
        told = {"reward": reward.to_dict() if reward else None, "num_scored": reward.count if reward else 0}
        return replace(self.description(), summary=told)

    def description(self) -> Card:
        """What it is, and how far; without numbers."""
        about = self._source.about
        count = len(self.columns["reward"])
        told: dict[str, Any] = {
            "num_examples": about.planned // max(1, about.rollouts_per_example),
            "rollouts_per_example": about.rollouts_per_example,
            "env_args": dict(about.env_args),
            "sampling_args": dict(about.sampling_args),
        }
        name = about.env_id.rpartition("/")[2]
        return Card(
            id=id_of(self.folder),
            name=shown(f"{name} · {self.folder.name}", 255),
            model=shown(about.model, 255),
            at=datetime.fromtimestamp(min(max(about.started_at, 0.0), 4e9), UTC),
            status="COMPLETED" if count >= about.planned else "RUNNING",
            samples=count,
            summary=None,
            folder=shown(str(self.folder), 300),
            environments=[Place(shown(about.env_id, 200), about.env_version)],
            finished=count > 0,
            details=told,
        )

    def groups(self) -> dict[Any, list[float]]:
        """The rewards of each example's scored rollouts, by the example's place."""
        found: dict[Any, list[float]] = {}
        for example, reward in zip(self.columns["example_id"], self.columns["reward"], strict=True):
            if math.isfinite(reward):
                found.setdefault(place_of(example), []).append(reward)
        return found

    def examples(self) -> dict[str, str]:
        """Places, as their examples are shown."""
        return {place_of(example): shown(example) for example in self.columns["example_id"]}

    def summary(self) -> dict[str, Any]:
        """All numbers, as a Hub makes them of what is pushed."""
        summary = Summary(self.threshold)
        for brief in self._source.briefs():
            error = brief.error
            usage = brief.usage
            summary.add(
                place_of(brief.example_id),
                brief.reward,
                metrics={shown(name, 80): value for name, value in brief.metrics.items()},
                error=shown(error["error"], 100) if error else None,
                sentence=shown(error["message"], 300) if error else None,
                stop=shown(brief.stop_condition, 100) if brief.stop_condition else None,
                truncated=brief.is_truncated,
                amounts={**{name: usage.get(name) for name in AMOUNTS}, "seconds": brief.seconds},
            )
        return summary.told()

    def places(self, listed: Listed) -> Sequence[int]:
        """Which rollouts, in their order. Raises Invalid."""
        found: Sequence[int] = range(len(self.columns["reward"]))
        tests = list(self._tests(listed))
        if tests:
            found = [place for place in found if all(test(place) for test in tests)]
        if listed.sort in ("example", "turns"):
            # Turns are not in the index, and no head of a table offers them here.
            return found[::-1] if listed.descending else found
        if listed.sort not in SORTS:
            raise Invalid(f"Rollouts cannot be sorted by '{listed.sort}'; use example, {', '.join(SORTS)}.")
        column = self.columns[SORTS[listed.sort]]
        there = [place for place in found if not math.isnan(column[place])]
        there.sort(key=column.__getitem__, reverse=listed.descending)
        return there + [place for place in found if math.isnan(column[place])]

    def _tests(self, listed: Listed) -> Iterator[Any]:
        rewards, errors, cut = (self.columns[name] for name in ("reward", "error", "is_truncated"))
        outcomes = {
            "passed": lambda place: rewards[place] >= self.threshold,
            "failed": lambda place: rewards[place] < self.threshold,
            "error": lambda place: errors[place] is not None,
            "unscored": lambda place: math.isnan(rewards[place]),
            "truncated": lambda place: bool(cut[place]),
        }
        if listed.outcome:
            if listed.outcome not in outcomes:
                raise Invalid(f"'{listed.outcome}' is no outcome of a rollout; use {', '.join(OUTCOMES)}.")
            yield outcomes[listed.outcome]
        if listed.error:
            kinds = {kind for kind in set(errors) if kind is not None and shown(kind, 100) == listed.error}
            yield lambda place: errors[place] in kinds
        if listed.example:
            examples = self.columns["example_id"]
            yield lambda place: shown(examples[place]) == listed.example

    def rows(self, places: Sequence[int]) -> list[Row]:
        """What a list tells of some; each whole row is read and let go."""
        with self._lock:
            return [self._row(place, self._source.row(place)) for place in places]

    def _row(self, place: int, sample: dict[str, Any]) -> Row:
        example, index = self.columns["example_id"][place], self.columns["rollout_index"][place]
        values = values_of(sample)
        known = {field.name: values[field.name] for field in fields(Row) if field.name in values}
        return Row(id=rollout_id(example, index), example_id=shown(example), rollout_index=index, **known)

    def place(self, wanted: str) -> int:
        """Where a rollout is. Raises NotFound."""
        try:
            padded = wanted + "=" * (-len(wanted) % 4)
            example, index = json.loads(base64.b64decode(padded, b"-_", validate=True))
        except (ValueError, TypeError, binascii.Error, RecursionError):
            example = index = None
        examples, indexes = self.columns["example_id"], self.columns["rollout_index"]
        for place, (one, number) in enumerate(zip(examples, indexes, strict=True)):
            if number == index and type(one) is type(example) and one == example:
                return place
        raise NotFound(f"This run has no rollout {wanted[:80]}; it may have been played anew.")

    def data(self, place: int) -> tuple[Row, dict[str, Any]]:
        """One of a list, and all of it."""
        with self._lock:
            sample = self._source.row(place)
        return self._row(place, sample), sample

    def beside(self, place: int) -> tuple[str | None, str | None]:
        """The ids of those before and after it."""
        examples, indexes = self.columns["example_id"], self.columns["rollout_index"]
        ids = [
            rollout_id(examples[near], indexes[near]) if 0 <= near < len(examples) else None
            for near in (place - 1, place + 1)
        ]
        return ids[0], ids[1]


def rollout_id(example: Any, index: int) -> str:
    """By which an address knows a rollout, also after others came in."""
    return base64.urlsafe_b64encode(json.dumps([example, index]).encode()).decode().rstrip("=")


def unreadable(folder: Path, why: str) -> Card:
    """What a list tells of a run that cannot be read."""
    return Card(
        id=id_of(folder),
        name=shown(f"{folder.name}: {why}", 255),
        model="",
        at=_changed_at(folder),
        status="FAILED",
        samples=0,
        summary=None,
        folder=shown(str(folder), 300),
        finished=False,
    )


def waiting(folder: Path) -> Card:
    """What a list tells of a run while it is being read."""
    return replace(unreadable(folder, ""), name=folder.name, status="COMPLETED", waiting=True)


def _changed_at(folder: Path) -> datetime:
    stamps = stamp_of(folder)
    return datetime.fromtimestamp(max(stamps[1::2], default=0) / 1e9, UTC)


@contextmanager
def opened(folder: Path) -> Generator[Run]:
    """A run for a while."""
    run = Run(folder)
    try:
        yield run
    finally:
        run.close()
