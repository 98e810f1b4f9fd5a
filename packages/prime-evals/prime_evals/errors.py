"""What can go wrong with a run's folder.

EvalsError
├ RecordingFailed   an attempt or a result file could not be written (a full disk, usually)
├ ResumeMismatch    the folder holds a run of something else
├ RunInUse          another process is writing to it
└ NotARun           there is no readable run in the folder
"""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class EvalsError(Exception):
    """Base; its text is one sentence for the user."""


class RecordingFailed(EvalsError):
    """Results could not be written; what was recorded before is intact."""

    @classmethod
    def from_os_error(cls, error: OSError, directory: Path, recorded: int | None = None) -> RecordingFailed:
        """The sentence for a failed write in `directory`, with how many rollouts are safe."""
        reason = "the disk is full" if error.errno in _FULL else (error.strerror or str(error))
        kept = "" if recorded is None else f" {recorded} rollouts are recorded."
        return cls(
            f"Could not record results in {directory}: {reason}.{kept} "
            f"Make room and continue with --resume {directory}, or write elsewhere with -o."
        )


class ResumeMismatch(EvalsError, ValueError):
    """The run in the folder was made with other settings."""


class RunInUse(EvalsError):
    """Another process is recording into the folder."""


class NotARun(EvalsError):
    """No run can be read from the folder."""
