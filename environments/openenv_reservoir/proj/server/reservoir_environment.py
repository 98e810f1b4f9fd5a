"""The reservoir as an OpenEnv environment: an episode is a year, a step a month."""

from typing import Any
from uuid import uuid4

from models import Month, Release
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import State

from server.reservoir import CAPACITY, MONTHS, Year


class ReservoirEnvironment(Environment):
    """A step's reward is what its month was worth, at most a twelfth."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._year = Year(None)
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Month:
        self._year = Year(seed)
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return self._seen(None, "")

    def step(self, action: Release, timeout_s: float | None = None, **kwargs: Any) -> Month:
        if self._year.over:
            raise ValueError("The year is over.")
        worth, report = self._year.release(action.town, action.farms)
        self._state.step_count += 1
        return self._seen(worth, report)

    @property
    def state(self) -> State:
        return self._state

    def _seen(self, reward: float | None, report: str) -> Month:
        year = self._year
        return Month(
            month="the end of the year" if year.over else MONTHS[year.month],
            level=year.level,
            capacity=CAPACITY,
            inflow=year.ahead(year.inflow),
            town=year.ahead(year.town),
            farms=year.ahead(year.farms),
            report=report,
            reward=reward,
            done=year.over,
        )
