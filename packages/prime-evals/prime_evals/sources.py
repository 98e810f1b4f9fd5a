"""What browsers of runs open: a run of ours by its index, or a folder as the official command writes it."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prime_evals.briefs import Brief
from prime_evals.errors import NotARun
from prime_evals.opened import open_run

SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", ".venv", ".git"})
DEEPEST = 8
_ATTEMPTS, _RESULTS, _METADATA = "attempts.jsonl", "results.jsonl", "metadata.json"


@dataclass(frozen=True, slots=True)
class About:
    """What was run. `started_at`: seconds since 1970; `planned`: rollouts."""

    env_id: str
    model: str
    started_at: float
    planned: int
    rollouts_per_example: int
    threshold: float
    env_version: str | None = None
    env_args: Mapping[str, Any] = field(default_factory=dict)
    sampling_args: Mapping[str, Any] = field(default_factory=dict)
    base_url: str = ""


class Source(Protocol):
    """A run. `columns`: as `OpenRun.columns` gives them, in the order of the results; `row` and `attempts` take a place
    in that order.
    """

    directory: Path
    about: About
    columns: dict[str, Any]

    def row(self, place: int) -> dict[str, Any]:
        """One whole row."""

    def attempts(self, place: int) -> list[dict[str, Any]]:
        """The rows of all attempts at it, first to last."""

    def briefs(self) -> Iterator[Brief]:
        """What a summary needs of each."""

    def having(self, text: str, places: Sequence[int]) -> Iterator[tuple[int, bool]]:
        """Each place, and whether its row has `text` in it somewhere, in whatever case."""


class OwnRun:
    """A run in an attempt store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._run = run = open_run(directory)
        identity, settings = run.identity, run.settings
        self.about = About(
            env_id=identity.env_id,
            model=identity.model,
            started_at=run.started_at,
            planned=settings.num_examples * settings.rollouts_per_example,
            rollouts_per_example=settings.rollouts_per_example,
            threshold=settings.pass_threshold,
            env_version=identity.env_version,
            env_args=identity.env_args,
            sampling_args=identity.sampling_args,
            base_url=str(settings.details.get("base_url") or ""),
        )
        self.columns = run.columns()

    def _key(self, place: int) -> tuple[Any, int]:
        return self.columns["example_id"][place], self.columns["rollout_index"][place]

    def row(self, place: int) -> dict[str, Any]:
        return self._run.row(self._key(place))

    def attempts(self, place: int) -> list[dict[str, Any]]:
        return [record["output"] for record in self._run.attempts(self._key(place))]

    def briefs(self) -> Iterator[Brief]:
        # A connection belongs to its thread, and a summary is made in one of its own.
        with open_run(self.directory) as run:
            yield from run.briefs()

    def having(self, text: str, places: Sequence[int]) -> Iterator[tuple[int, bool]]:
        wanted = _needle(text)
        with open_run(self.directory) as run, (self.directory / _ATTEMPTS).open("rb") as file:
            where = [(brief.offset, brief.length) for brief in run.briefs()]
            for place in places:
                offset, length = where[place]
                file.seek(offset)
                yield place, wanted in file.read(length).decode("utf-8", "replace").casefold()

    def close(self) -> None:
        self._run.close()


class OfficialRun:
    """results.jsonl and metadata.json without attempts. The file is read once, to know where each row is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / _RESULTS
        told = _metadata(directory)
        self._offsets = array("q")
        self._briefs: list[Brief] = []
        self._read()
        examples = len({str(brief.example_id) for brief in self._briefs})
        rollouts = int(told.get("rollouts_per_example") or 1)
        self.about = About(
            env_id=str(told.get("env_id") or told.get("env") or directory.name),
            model=str(told.get("model") or "?"),
            started_at=self._path.stat().st_mtime,
            planned=int(told.get("num_examples") or examples) * rollouts,
            rollouts_per_example=rollouts,
            threshold=float(told.get("pass_threshold") or 0.5),
            env_args=told.get("env_args") or {},
            sampling_args=told.get("sampling_args") or {},
            base_url=str(told.get("base_url") or ""),
        )
        self.columns = self._columns()

    def _read(self) -> None:
        seen: dict[Any, int] = {}
        with self._path.open("rb") as file:
            offset = 0
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if isinstance(row, dict):
                    example = row.get("example_id", len(self._briefs))
                    index = seen[str(example)] = seen.get(str(example), -1) + 1
                    self._briefs.append(Brief.of({**row, "example_id": example, "rollout_index": index}))
                    self._offsets.append(offset)
                offset += len(line)

    def _columns(self) -> dict[str, Any]:
        briefs = self._briefs

        def floats(values: Iterator[Any]) -> array[float]:
            return array("d", (math.nan if value is None else float(value) for value in values))

        return {
            "example_id": [brief.example_id for brief in briefs],
            "rollout_index": array("q", (brief.rollout_index for brief in briefs)),
            "attempt": array("q", (1 for _ in briefs)),
            "is_truncated": array("q", (int(brief.is_truncated) for brief in briefs)),
            "reward": floats(brief.reward for brief in briefs),
            "seconds": floats(brief.seconds for brief in briefs),
            "input_tokens": floats(brief.usage.get("input_tokens") for brief in briefs),
            "output_tokens": floats(brief.usage.get("output_tokens") for brief in briefs),
            "cost": floats(brief.usage.get("cost") for brief in briefs),
            "error": [brief.error["error"] if brief.error else None for brief in briefs],
            "stop_condition": [brief.stop_condition for brief in briefs],
        }

    def row(self, place: int) -> dict[str, Any]:
        with self._path.open("rb") as file:
            file.seek(self._offsets[place])
            row = json.loads(file.readline())
        return {**row, "rollout_index": self._briefs[place].rollout_index}

    def attempts(self, place: int) -> list[dict[str, Any]]:
        return [self.row(place)]

    def briefs(self) -> Iterator[Brief]:
        return iter(self._briefs)

    def having(self, text: str, places: Sequence[int]) -> Iterator[tuple[int, bool]]:
        wanted = _needle(text)
        with self._path.open("rb") as file:
            for place in places:
                file.seek(self._offsets[place])
                yield place, wanted in file.readline().decode("utf-8", "replace").casefold()

    def close(self) -> None:
        pass


def _needle(text: str) -> str:
    """How the text stands in JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1].casefold()


def _metadata(directory: Path) -> dict[str, Any]:
    try:
        told = json.loads((directory / _METADATA).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def is_run(directory: Path) -> bool:
    """Whether there is something to open in this folder."""
    return (directory / _ATTEMPTS).is_file() or ((directory / _RESULTS).is_file() and (directory / _METADATA).is_file())


def open_source(directory: Path) -> OwnRun | OfficialRun:
    """The run in the folder. Raises NotARun with a sentence."""
    if (directory / _ATTEMPTS).is_file():
        return OwnRun(directory)
    if (directory / _RESULTS).is_file():
        return OfficialRun(directory)
    raise NotARun(f"No evaluation run in {directory}: it holds neither {_ATTEMPTS} nor {_RESULTS}.")


def recorded_at(directory: Path) -> float:
    """When something was recorded last in a run's folder, in seconds since 1970; other files in it do not count."""
    return max((directory / name).stat().st_mtime for name in (_ATTEMPTS, _RESULTS) if (directory / name).is_file())


def find_folders(places: Sequence[Path]) -> list[Path]:
    """The folders of runs at and under `places`, newest first."""
    found: dict[Path, float] = {}
    for place in places:
        for folder, names, files in os.walk(place):
            here = Path(folder)
            if {_ATTEMPTS, _METADATA} & set(files) and is_run(here):
                found[here] = recorded_at(here)
                names.clear()
                continue
            deep = len(here.parts) - len(place.parts) >= DEEPEST
            names[:] = [] if deep else [one for one in names if one not in SKIPPED and not one.startswith(".")]
    return sorted(found, key=lambda one: -found[one])
