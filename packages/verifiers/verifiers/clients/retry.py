"""When a request is repeated, and after how long.

Repeated: connection errors, time-outs, 408, 409, 429 and 5xx, unless the answer's `x-should-retry` says otherwise. Not
repeated: a refused key, an account without money, anything that is wrong with the request itself.

The wait is what Retry-After says, at most LONGEST_RETRY_AFTER_SECONDS; else it doubles from the client's
`retry_delay_seconds` to LONGEST_WAIT_SECONDS, less up to a half of it, by chance, so that many rollouts do not come
back at once. Every wait is told to the client's `on_retry` and counted in its `retries`.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
SILENT_RETRIES = 2
"""How often a request is repeated that got no answer in time, or one to an endpoint that has never answered yet: more
would hide for minutes that nothing is there.
"""
_REPEATED = frozenset({408, 409, 429})


def is_repeated(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer with this status asks for another attempt."""
    said = headers.get("x-should-retry")
    if said in ("true", "false"):
        return said == "true"
    return status in _REPEATED or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait, bounded; None where it says nothing, or nothing that can be read."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(said).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return min(LONGEST_RETRY_AFTER_SECONDS, max(0.0, seconds))
    return None


def backoff(attempt: int, first: float) -> float:
    """Seconds before the repetition number `attempt` (1 is the first)."""
    return min(LONGEST_WAIT_SECONDS, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1)
