"""The official result files, derived from the attempts: `results.jsonl` (a row a rollout) and `metadata.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prime_evals.errors import RecordingFailed
from prime_evals.files import write_atomically
from prime_evals.opened import OpenRun, open_run
from prime_evals.statistics import average_metrics, average_usage, deviation, is_scored, mean, pass_at, rewards

RESULTS_NAME = "results.jsonl"
METADATA_NAME = "metadata.json"


def summarize(
    outputs: Sequence[Mapping[str, Any]], rollouts_per_example: int, pass_threshold: float = 0.5
) -> dict[str, Any]:
    """Averages, pass@k and counts. Keys: avg_reward, std_reward, avg_metrics, avg_error (share of rollouts that ended
    with an error), pass_at_k, pass_all_k, pass_threshold, usage (mean tokens a rollout), num_scored, num_rollouts.
    """
    found = rewards(outputs)
    some, every = pass_at(outputs, rollouts_per_example, pass_threshold)
    failed = sum(1 for output in outputs if output.get("error"))
    return {
        "avg_reward": mean(found),
        "std_reward": deviation(found),
        "avg_metrics": average_metrics(outputs),
        "avg_error": failed / len(outputs) if outputs else 0.0,
        "pass_at_k": some,
        "pass_all_k": every,
        "pass_threshold": pass_threshold,
        "usage": average_usage(outputs),
        "num_scored": sum(1 for output in outputs if is_scored(output)),
        "num_rollouts": len(outputs),
    }


def described(run: OpenRun) -> dict[str, Any]:
    """What metadata.json says of what was run."""
    identity, settings = run.identity, run.settings
    return {
        "env_id": identity.env_id,
        "env_args": dict(identity.env_args),
        "model": identity.model,
        "num_examples": settings.num_examples,
        "rollouts_per_example": settings.rollouts_per_example,
        "sampling_args": dict(identity.sampling_args),
        "pass_threshold": settings.pass_threshold,
        **dict(settings.details),
    }


def metadata(run: OpenRun) -> dict[str, Any]:
    """metadata.json of a run: what was run, then `summarize`. `time`: seconds from the start to the last attempt."""
    return {
        **described(run),
        "time": max(0.0, (run.ended_at or run.started_at) - run.started_at),
        **summarize(list(run.briefs()), run.settings.rollouts_per_example, run.settings.pass_threshold),
    }


def derive(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Write both files of the run in `directory` from its attempts, each atomically; gives the metadata.

    One row is in memory at a time. Raises NotARun, and RecordingFailed when the disk refuses (older files then stay as
    they were).
    """
    folder = Path(directory)
    with open_run(folder) as run:
        told = metadata(run)
        try:
            write_atomically(folder / RESULTS_NAME, (json.dumps(row, ensure_ascii=False) + "\n" for row in run.rows()))
            write_atomically(folder / METADATA_NAME, [json.dumps(told, ensure_ascii=False, indent=2) + "\n"])
        except OSError as error:
            raise RecordingFailed.from_os_error(error, folder, told["num_rollouts"]) from error
    return told
