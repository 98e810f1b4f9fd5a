"""Ending a run whose every rollout ends with the same error: the thousandth would fare no better than the eighth."""

from __future__ import annotations

import re

from verifiers.errors import InfraError, RateLimitError, RepeatedError, is_unscored

_CHANGING = re.compile(r"\b\w*\d\w*\b")
"""What differs between two sentences of one cause: counters, ids, seconds."""


class Breaker:
    """Looks at the rollouts of a run as they end. `limit`: after how many with the same error the run ends; 0 for never.

    It counts from the first rollout on, and not any more once one has ended in another way. Errors that time may heal,
    RateLimitError and InfraError, do not count, nor do those after which a rollout is scored.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._count = 0
        self._cause: tuple[str, str] | None = None

    def add(self, error: BaseException | None) -> RepeatedError | None:
        """One more rollout has ended, with `error`; gives the error that ends the run, when it is time."""
        if self.limit < 1:
            return None
        if error is None or not is_unscored(error) or isinstance(error, InfraError | RateLimitError):
            self.limit = 0
            return None
        cause = (type(error).__name__, _CHANGING.sub("#", str(error)))
        if self._cause not in (None, cause):
            self.limit = 0
            return None
        self._cause = cause
        self._count += 1
        if self._count < self.limit:
            return None
        return RepeatedError(
            f"Each of the first {self._count} rollouts ended with the same error, so the run was ended: "
            f"{type(error).__name__}: {error}"
        )
