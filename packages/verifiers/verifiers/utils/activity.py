"""What each rollout is doing right now, for those who watch a run.

A run follows each of its rollouts (`follow`); code that waits for something says so (`doing`) and need not know who
watches, or whether anybody does. Which rollout it is about follows from the task it runs in, or that started it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

SETTING_UP = "setting up"
SERVER = "for a server"
MODEL = "on the model"
MODEL_AGAIN = "to ask the model again"
ENVIRONMENT = "on the environment"
SCORING = "on the scoring"
ANOTHER_ATTEMPT = "for another attempt"
ORDER = (SETTING_UP, SERVER, MODEL, MODEL_AGAIN, ENVIRONMENT, SCORING, ANOTHER_ATTEMPT)
"""As a rollout comes by them."""


class Activity:
    """One rollout: `waits`, what for (one of the names above, or a word of the code's own), `detail`, and `since` when, by
    `time.monotonic`.
    """

    __slots__ = ("began", "detail", "since", "waits")

    def __init__(self) -> None:
        self.began = self.since = time.monotonic()
        self.waits = SETTING_UP
        self.detail = ""


_current: ContextVar[Activity | None] = ContextVar("activity", default=None)


@contextmanager
def follow(activities: MutableMapping[Any, Activity], key: Any) -> Generator[Activity]:
    """Meanwhile what this task does is in `activities[key]`."""
    activity = activities[key] = Activity()
    token = _current.set(activity)
    try:
        yield activity
    finally:
        _current.reset(token)
        del activities[key]


class doing:
    """Meanwhile the rollout waits for `waits`; afterwards for what it waited for before. Does nothing where no run
    watches.
    """

    __slots__ = ("_activity", "_before", "_detail", "_waits")

    def __init__(self, waits: str, detail: str = "") -> None:
        self._waits, self._detail = waits, detail

    def __enter__(self) -> None:
        self._activity = activity = _current.get()
        if activity is not None:
            self._before = (activity.waits, activity.detail)
            activity.waits, activity.detail, activity.since = self._waits, self._detail, time.monotonic()

    def __exit__(self, *_: object) -> None:
        activity = self._activity
        if activity is not None:
            activity.waits, activity.detail = self._before
            activity.since = time.monotonic()
