"""Echo: an episode is a phrase, and the reward says how much of it came back."""

from typing import Any
from uuid import uuid4

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.types import Action, Observation, State

from server.phrases import Game


class Phrase(Observation):
    """What is to be repeated."""

    phrase: str


class EchoEnvironment(MCPEnvironment):
    """One tool, `echo_message`. A call is worth what it improves on the best one so far; the whole phrase ends the
    episode.

    The tool keeps the score, because which of `step` and `step_async` leads to it differs between versions of openenv.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp = FastMCP("echo")

        @mcp.tool
        def echo_message(message: str) -> str:
            """Say `message`; it comes back as it was understood."""
            self._scored = self._game.say(message)
            self._state.step_count += 1
            return message

        super().__init__(mcp)
        self._game = Game(None)
        self._scored: tuple[float, bool] | None = None
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Observation:
        self._game, self._scored = Game(seed), None
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return Phrase(phrase=self._game.phrase, done=False, reward=None)

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        return self._with_score(super().step(action, timeout_s=timeout_s, **kwargs))

    async def step_async(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        return self._with_score(await super().step_async(action, timeout_s=timeout_s, **kwargs))

    def _with_score(self, observation: Observation) -> Observation:
        """The observation with what the tool has scored, once."""
        if self._scored is not None:
            (observation.reward, observation.done), self._scored = self._scored, None
        return observation

    def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        raise ValueError("Echo knows tool calls only.")

    @property
    def state(self) -> State:
        return self._state
