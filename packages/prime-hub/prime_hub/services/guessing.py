"""How often somebody may try: counters that forget, and that never grow beyond a bound."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from prime_hub.errors import TooMany

MOST_KEYS = 10_000


class Tries:
    """At most `most` tries a key within `seconds`. Kept in memory: a Hub that restarts has forgotten them."""

    def __init__(self, most: int, seconds: float, keys: int = MOST_KEYS) -> None:
        self._most = most
        self._seconds = seconds
        self._keys = keys
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, key: str, what: str) -> None:
        """One more. Raises TooMany, a sentence about `what`, beyond the bound."""
        began, count = self._current(key)
        if count >= self._most:
            minutes = max(1, math.ceil((began + self._seconds - time.monotonic()) / 60))
            raise TooMany(f"Too many {what}; try again in {minutes} minute{'' if minutes == 1 else 's'}.")
        self._counts[key] = (began, count + 1)
        self._counts.move_to_end(key)
        while len(self._counts) > self._keys:
            self._counts.popitem(last=False)

    def forgive(self, key: str) -> None:
        """One less: that try was a good one."""
        began, count = self._current(key)
        if count > 1:
            self._counts[key] = (began, count - 1)
        else:
            self._counts.pop(key, None)

    def _current(self, key: str) -> tuple[float, int]:
        began, count = self._counts.get(key, (time.monotonic(), 0))
        if time.monotonic() - began > self._seconds:
            return time.monotonic(), 0
        return began, count
