"""Where runs lie: `<base>/evals/<env_id>--<model>/<eight hex digits>/`."""

from __future__ import annotations

import uuid
from pathlib import Path

from prime_evals.attempts import FILE_NAME, Run, read_run
from prime_evals.errors import EvalsError
from prime_evals.identity import RunIdentity


def run_folder(base: Path, env_id: str, model: str) -> Path:
    """The folder of all runs of one environment and model; a slash in a name becomes `--`."""
    return base / "evals" / f"{env_id.replace('/', '--')}--{model.replace('/', '--')}"


def new_run_path(base: Path, env_id: str, model: str) -> Path:
    """A fresh folder name for a run; nothing is made yet."""
    return run_folder(base, env_id, model) / uuid.uuid4().hex[:8]


def find_incomplete(base: Path, identity: RunIdentity, rollouts_per_example: int, num_examples: int) -> Run | None:
    """The newest run under `base` that these settings could finish, or None."""
    folder = run_folder(base, identity.env_id, identity.model)
    files = sorted(folder.glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files:
        try:
            run = read_run(path.parent)
        except EvalsError:
            continue
        same = run.identity.digest == identity.digest and run.settings.rollouts_per_example == rollouts_per_example
        wanted = num_examples * rollouts_per_example
        if same and run.settings.num_examples <= num_examples and len(run.results) < wanted:
            return run
    return None
