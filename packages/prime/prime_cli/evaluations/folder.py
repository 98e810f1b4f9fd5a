"""A run's folder as a push and a comparison read it: one rollout after another, never all of them at once.

`attempts.jsonl` is the truth where it is there (this project's runs); else `results.jsonl`, which the official tools leave.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_core.errors import ProjectError
from prime_evals.opened import open_run
from prime_evals.records import FILE_NAME as ATTEMPTS
from prime_evals.records import scan, settled
from prime_evals.results import METADATA_NAME, RESULTS_NAME, described
from prime_evals.sources import recorded_at

PLACES = ("outputs/evals/*/*", "environments/*/outputs/evals/*/*")


def is_run(folder: Path) -> bool:
    """Whether a run lies there."""
    return any((folder / name).is_file() for name in (ATTEMPTS, RESULTS_NAME))


def find_run(named: Path | None, base: Path | None = None) -> Path:
    """The folder that is meant: the one named, the working directory, or the newest run below it. Raises ProjectError."""
    if named is not None:
        if is_run(named):
            return named
        raise ProjectError(
            f"There is no evaluation run in {named}: it has neither {ATTEMPTS} nor {RESULTS_NAME}.",
            "Name the folder that 'prime eval run' printed as its results.",
        )
    here = base or Path.cwd()
    if is_run(here):
        return here
    found = [path for place in PLACES for path in here.glob(place) if is_run(path)]
    if not found:
        raise ProjectError(
            "There is no evaluation run here, and none in outputs/evals.",
            "Make one with 'prime eval run ENV -m MODEL', or name its folder.",
        )
    return max(found, key=recorded_at)


@dataclass
class RunFolder:
    """One run. `warnings` tells of lines that were left out."""

    folder: Path
    metadata: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        file = self.folder / METADATA_NAME
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                raise ProjectError(f"{file} is not JSON; mend it, or remove it.") from None
            self.metadata = found if isinstance(found, dict) else {}
        elif (self.folder / ATTEMPTS).is_file():
            self.metadata = self._from_attempts()
        if not (self.metadata.get("env_id") or self.metadata.get("env")) or not self.metadata.get("model"):
            raise ProjectError(
                f"{file} does not say which environment and which model were run ('env_id' and 'model').",
                "Push the folder that 'prime eval run' has made.",
            )

    @property
    def env_id(self) -> str:
        """The environment as the run names it."""
        return str(self.metadata.get("env_id") or self.metadata.get("env"))

    @property
    def model(self) -> str:
        """The model as the run names it."""
        return str(self.metadata["model"])

    @property
    def source(self) -> Path:
        """The file that rollouts are read from."""
        attempts = self.folder / ATTEMPTS
        return attempts if attempts.is_file() else self.folder / RESULTS_NAME

    def _from_attempts(self) -> dict[str, Any]:
        """What metadata.json would say, of a run that was cut before it was written."""
        with open_run(self.folder) as run:
            return described(run)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each finished rollout, a row of results.jsonl, in the order of the file; of several tries at one the last."""
        self.warnings.clear()
        if self.source.name != ATTEMPTS:
            yield from _lines(self.source, self.warnings)
            return
        places: dict[tuple[str, int], tuple[int, int]] = {}
        for found in settled(scan(self.source)):
            if found.final:
                key = json.dumps(found.data.get("example_id")), found.data.get("rollout_index") or 0
                places[key] = found.offset, found.length
        with self.source.open("rb") as file:
            for offset, length in sorted(places.values()):
                file.seek(offset)
                record = json.loads(file.read(length))
                row = record.get("output")
                if isinstance(row, dict):
                    yield {"example_id": record.get("example_id"), "rollout_index": record.get("rollout_index"), **row}


def _lines(file: Path, warnings: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file's lines; what is none is skipped, with a warning."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            else:
                warnings.append(f"Line {number} of {file} is no JSON object and was left out.")
