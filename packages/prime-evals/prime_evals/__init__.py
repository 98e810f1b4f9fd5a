"""What an evaluation leaves behind: the attempt store and the result files derived from it.

AttemptStore   append-only attempts.jsonl in a run's folder: the truth, resumable exactly
RunIdentity    what makes two attempts the same: environment, arguments, model, sampling
read_run       a run's folder as data
summarize      averages, pass@k and counts over the scored rollouts
"""

from prime_evals.attempts import Attempt, AttemptStore, Run, read_run
from prime_evals.errors import EvalsError, NotARun, RecordingFailed, ResumeMismatch, RunInUse
from prime_evals.identity import RunIdentity, RunSettings
from prime_evals.results import derive, summarize
from prime_evals.runs import find_incomplete, new_run_path

__all__ = [
    "Attempt",
    "AttemptStore",
    "EvalsError",
    "NotARun",
    "RecordingFailed",
    "ResumeMismatch",
    "Run",
    "RunIdentity",
    "RunInUse",
    "RunSettings",
    "derive",
    "find_incomplete",
    "new_run_path",
    "read_run",
    "summarize",
]
