"""When a request is repeated, and after how long.

Repeated: connection errors, time-outs, 408, 409, 429 and 5xx, unless the answer's `x-should-retry` says otherwise. Not
repeated: a refused key, an account without money, anything that is wrong with the request itself.

The wait is what Retry-After says, in seconds or as a date, at most LONGEST_RETRY_AFTER_SECONDS, and up to a tenth more, by
chance; else it doubles from the client's `retry_delay_seconds` to LONGEST_WAIT_SECONDS, less up to a half of it, by
chance, so that many rollouts do not come back at once. One request waits LONGEST_TROUBLE_SECONDS in all, and then fails.
Every wait is told to the client's `on_retry` and counted in its `retries`.

What an endpoint asks of one request it asks of all: while a Retry-After lasts, no request is sent to it (`Pause`).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from weakref import WeakValueDictionary

from verifiers.utils.activity import MODEL_AGAIN, doing

LONGEST_WAIT_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
LONGEST_TROUBLE_SECONDS = 300.0
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
    asked = asked_for(headers)
    return None if asked is None else min(LONGEST_RETRY_AFTER_SECONDS, asked)


def asked_for(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait, however many."""
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
            return max(0.0, seconds)
    return None


def backoff(attempt: int, first: float) -> float:
    """Seconds before the repetition number `attempt` (1 is the first)."""
    return min(LONGEST_WAIT_SECONDS, first * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1)


class Pause:
    """What one endpoint has asked of everybody: no request before `until` (`time.monotonic`), since `reason`."""

    def __init__(self) -> None:
        self.until = 0.0
        self.reason = ""

    def extend(self, seconds: float, reason: str) -> None:
        """Nobody asks for so long; a longer pause that goes on stays."""
        until = time.monotonic() + seconds
        if until > self.until:
            self.until, self.reason = until, reason

    async def over(self) -> None:
        """Wait for its end, and up to a tenth longer, by chance."""
        while (left := self.until - time.monotonic()) > 0:
            with doing(MODEL_AGAIN, self.reason):
                await asyncio.sleep(left * random.uniform(1, 1.1))


_pauses: WeakValueDictionary[str, Pause] = WeakValueDictionary()


def pause_of(address: str) -> Pause:
    """The pause of the endpoint at a base URL, which all clients of it share while one of them lives."""
    return _pauses.setdefault(address, Pause())
