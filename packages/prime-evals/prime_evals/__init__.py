"""What an evaluation leaves behind: the attempt store and the result files derived from it.

AttemptStore   append-only attempts.jsonl in a run's folder: the truth, resumable exactly
RunIdentity    what makes two attempts the same: environment, arguments, model, sampling
open_run       a run of any size, by its index: counts, columns, one row at a time
read_run       a run's folder as data, all in memory
summarize      averages, pass@k and counts over the scored rollouts
"""

from prime_evals.attempts import Attempt, AttemptStore, Run, read_run
from prime_evals.briefs import Brief
from prime_evals.errors import EvalsError, NotARun, RecordingFailed, ResumeMismatch, RunInUse
from prime_evals.identity import RunIdentity, RunSettings
from prime_evals.opened import Counts, Only, OpenRun, open_run
from prime_evals.results import derive, summarize
from prime_evals.runs import Found, find_runs, new_run_path

__all__ = [
    "Attempt",
    "AttemptStore",
    "Brief",
    "Counts",
    "EvalsError",
    "Found",
    "NotARun",
    "Only",
    "OpenRun",
    "RecordingFailed",
    "ResumeMismatch",
    "Run",
    "RunIdentity",
    "RunInUse",
    "RunSettings",
    "derive",
    "find_runs",
    "new_run_path",
    "open_run",
    "read_run",
    "summarize",
]
