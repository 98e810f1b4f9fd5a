"""Where runs lie: `<base>/evals/<env_id>--<model>/<eight hex digits>/`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from prime_evals.errors import EvalsError
from prime_evals.identity import RunIdentity, RunSettings, differing
from prime_evals.opened import open_run
from prime_evals.records import FILE_NAME


def run_folder(base: Path, env_id: str, model: str) -> Path:
    """The folder of all runs of one environment and model; a slash in a name becomes `--`."""
    return base / "evals" / f"{env_id.replace('/', '--')}--{model.replace('/', '--')}"


def new_run_path(base: Path, env_id: str, model: str) -> Path:
    """A fresh folder name for a run; nothing is made yet."""
    return run_folder(base, env_id, model) / uuid.uuid4().hex[:8]


@dataclass(frozen=True, slots=True)
class Found:
    """A run, and why it is not the one that was looked for: what differs, and whether it is complete."""

    directory: Path
    finished: int
    planned: int
    differences: tuple[str, ...]
    changed_at: float

    @property
    def is_complete(self) -> bool:
        return self.finished >= self.planned

    def __str__(self) -> str:
        """The folder, and what speaks against it."""
        state = "is complete" if self.is_complete else f"has {self.finished} of {self.planned} rollouts"
        return f"{self.directory}, which {state}" + (f" ({'; '.join(self.differences)})" if self.differences else "")


def find_runs(base: Path, identity: RunIdentity, settings: RunSettings) -> list[Found]:
    """The runs of this environment under `base`, nearest first: fewest differences, then incomplete ones, then newest."""
    found = []
    plain = identity.env_id.replace("/", "--")
    for path in base.glob(f"evals/{escape(plain)}--*/*/{FILE_NAME}"):
        try:
            with open_run(path.parent) as run:
                if run.identity.env_id != identity.env_id:
                    continue
                counts = run.counts
                different = tuple(differing(run.identity, run.settings, identity, settings, may_grow=False))
                changed_at = path.stat().st_mtime
        except (EvalsError, OSError):
            continue
        found.append(Found(path.parent, counts.finished, counts.planned, different, changed_at))
    found.sort(key=lambda one: (len(one.differences), one.is_complete, -one.changed_at))
    return found
