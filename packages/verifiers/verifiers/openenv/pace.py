"""Whether one more server would be of use: a server takes seconds to start, and a short episode is over long before."""

from __future__ import annotations

import math

WEIGHT = 0.3  # of the newest measurement
SHORTEST_LOOK = 0.02


class Pace:
    """What is known about how long a session is held and how long a server takes to start. Times in seconds.

    With `waiting` rollouts, sessions held for `held` each and a start that takes `start`, `waiting * held / start` places
    have work for the whole time that another server would need; with more places it would come too late.
    """

    def __init__(self) -> None:
        self._held: float | None = None
        self._start: float | None = None
        self._since: dict[object, float] = {}  # in order of beginning

    def server_started(self, seconds: float) -> None:
        """A server became healthy after `seconds`."""
        self._start = _blend(self._start, seconds)

    def session_began(self, session: object, now: float) -> None:
        """Somebody holds a session from now on."""
        self._since[session] = now

    def session_ended(self, session: object, now: float) -> None:
        """It was given back."""
        began = self._since.pop(session, None)
        if began is not None:
            self._held = _blend(self._held, now - began)

    def useful_places(self, waiting: int, now: float) -> int | None:
        """How many places have work while a server starts; None when no start was measured yet."""
        if self._start is None:
            return None
        return math.ceil(waiting * self._expected(now) / max(self._start, 1e-3))

    def look_again(self, waiting: int, places: int, now: float) -> float:
        """In how many seconds one more place would be of use, should no session be given back until then."""
        enough = places * (self._start or 0.0) / max(1, waiting)
        return max(SHORTEST_LOOK, enough - self._expected(now))

    def _expected(self, now: float) -> float:
        # A session that is still held says most: a slow model shows before its first episode has ended.
        oldest = next(iter(self._since.values()), now)
        return max(self._held or 0.0, now - oldest)


def _blend(before: float | None, new: float) -> float:
    return new if before is None else (1 - WEIGHT) * before + WEIGHT * new
