"""TextArena behind openenv-core: a session is a game."""

from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from server.games import MOVES, Game, Told


class Move(Action):
    """A move in the game's own words."""

    message: str = Field(description="A move as the game asks for it, in square brackets.", examples=list(MOVES))


class GameObservation(Observation):
    """What the game said since the last move, and how many moves have counted so far."""

    text: str
    moves: int = 0


class TextArenaEnvironment(Environment):
    """`reset(seed, game, words)` begins a game; `words` are Wordle's secret words."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._game: Game | None = None
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        game: str = "Mastermind-v0",
        words: list[str] | None = None,
        **kwargs: Any,
    ) -> GameObservation:
        self._game = Game(game, seed, words or ())
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return _observed(self._game.begin())

    def step(self, action: Move, timeout_s: float | None = None, **kwargs: Any) -> GameObservation:
        if self._game is None:
            raise ValueError("No game has begun: reset first.")
        told = self._game.play(action.message)
        self._state.step_count += 1
        return _observed(told)

    @property
    def state(self) -> State:
        return self._state


def _observed(told: Told) -> GameObservation:
    return GameObservation(text=told.text, moves=told.moves, reward=told.reward, done=told.done)
