"""The game. A sound one; what is broken in the others stands in their own game.py."""

import random
from typing import Any

from pydantic import BaseModel, Field


class Action(BaseModel):
    guess: int = Field(ge=0, le=9)


class Observation(BaseModel):
    text: str
    left: int


ACTION_SCHEMA = Action.model_json_schema()


def read(data: Any) -> Action:
    """What was sent as an action. Raises pydantic's ValidationError."""
    return Action.model_validate(data)


class Game:
    """One episode after another. Guesses that are answered cost one of four."""

    def reset(self, seed: int) -> dict[str, Any]:
        self.rng = random.Random(seed)
        self.secret, self.left = self.rng.randrange(10), 4
        return self.shown(f"The digit is not {(self.secret + self.rng.randint(1, 9)) % 10}.")

    def step(self, action: Action) -> tuple[dict[str, Any], float, bool]:
        self.left -= 1
        off = abs(action.guess - self.secret)
        return self.shown(f"Off by {off}."), 1 - off / 10, off == 0 or self.left <= 0

    def close(self) -> None:
        pass

    def shown(self, text: str) -> dict[str, Any]:
        return {"text": text, "left": self.left}
