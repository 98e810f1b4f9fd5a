"""A gym environment that runs unchanged on openenv-core 0.2 and 0.3 and on openenv 0.10: typed actions, and the ways to fail.

Environment variables: CAPACITY (sessions at once, default 8); BROKEN=1 (no environment can be made).
"""

import os
import time
from enum import StrEnum
from typing import Any

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel, Field, field_validator

# A red dot, five by five.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4"
    "//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=="
)


class Move(StrEnum):
    ADD = "add"
    SLOW = "slow"
    CRASH = "crash"
    DIE = "die"
    PICTURE = "picture"


class Place(BaseModel):
    x: int = Field(ge=0, le=9)
    y: int = Field(ge=0, le=9)


class Turn(Action):
    move: Move
    amount: int = Field(default=1, ge=1, le=10)
    place: Place | None = None

    @field_validator("amount")
    @classmethod
    def not_seven(cls, amount: int) -> int:
        if amount == 7:
            raise ValueError("seven is taken")
        return amount


class Seen(Observation):
    seed: int | None
    total: int
    image: str | None = None


class Tally(State):
    total: int = 0


class Bench(Environment):
    """Adds up; twenty or more ends the episode. A place is worth ten times its x more."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        if os.environ.get("BROKEN") == "1":
            raise RuntimeError("the bench has three legs")
        self._seed: int | None = None
        self._tally = Tally()

    def reset(self, seed: int | None = None, episode_id: str | None = None, total: int = 0, **kwargs: Any) -> Seen:
        if seed == 1313:
            raise ValueError("thirteen is unlucky")
        self._seed, self._tally = seed, Tally(episode_id=episode_id, total=total)
        return self._seen(None)

    def step(self, action: Turn, timeout_s: float | None = None, **kwargs: Any) -> Seen:
        self._tally.step_count += 1
        if action.move is Move.SLOW:
            time.sleep(3)
        if action.move is Move.CRASH:
            raise RuntimeError("the abacus fell over")
        if action.move is Move.DIE:
            print("somebody pulled the plug", flush=True)
            os._exit(9)
        worth = action.amount + (10 * action.place.x if action.place else 0)
        self._tally.total += worth
        return self._seen(float(worth), PNG if action.move is Move.PICTURE else None)

    def _seen(self, reward: float | None, image: str | None = None) -> Seen:
        total = self._tally.total
        more = {"steps": self._tally.step_count}
        return Seen(seed=self._seed, total=total, image=image, reward=reward, done=total >= 20, metadata=more)

    @property
    def state(self) -> Tally:
        return self._tally


app = create_app(Bench, Turn, Seen, env_name="bench", max_concurrent_envs=int(os.environ.get("CAPACITY", "8")))
