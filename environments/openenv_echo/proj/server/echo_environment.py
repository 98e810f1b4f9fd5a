"""Echo: an episode is a phrase, and the reward says how much of it came back."""

from difflib import SequenceMatcher
from random import Random
from typing import Any
from uuid import uuid4

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction
from openenv.core.env_server.types import Action, Observation, State

WHO = ("a grey heron", "the night train", "my grandmother", "an old robot", "the harbour master", "a lost satellite")
DOES = ("counts", "paints", "remembers", "carries", "forgets", "repairs")
WHAT = ("seven umbrellas", "the second moon", "a paper boat", "every bridge", "two quiet clocks", "the last apple")
WHERE = ("in the rain", "before sunrise", "behind the library", "without a word", "on a Tuesday", "for nobody")


class Phrase(Observation):
    """What is to be repeated."""

    phrase: str


def phrase_of(seed: int | None) -> str:
    """The phrase of a seed; without one, any."""
    rng = Random(seed)
    return " ".join(rng.choice(part) for part in (WHO, DOES, WHAT, WHERE))


class EchoEnvironment(MCPEnvironment):
    """One tool, `echo_message`. A call is worth what it improves on the best one so far, so an episode's sum is the
    best similarity, from 0 to 1; the whole phrase ends it."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp = FastMCP("echo")

        @mcp.tool
        def echo_message(message: str) -> str:
            """Say `message`; it comes back as it was understood."""
            return message

        super().__init__(mcp)
        self._phrase = ""
        self._best = 0.0
        self._state = State(episode_id=str(uuid4()), step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Observation:
        self._phrase, self._best = phrase_of(seed), 0.0
        self._state = State(episode_id=episode_id or str(uuid4()), step_count=0)
        return Phrase(phrase=self._phrase, done=False, reward=None)

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        self._state.step_count += 1
        observation = super().step(action, timeout_s=timeout_s, **kwargs)
        if isinstance(action, CallToolAction) and action.tool_name == "echo_message":
            said = str(action.arguments.get("message", ""))
            similarity = SequenceMatcher(None, self._phrase, said, autojunk=False).ratio()
            observation.reward = max(0.0, similarity - self._best)
            self._best = max(self._best, similarity)
            observation.done = said == self._phrase
        return observation

    def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        raise ValueError("Echo knows tool calls only.")

    @property
    def state(self) -> State:
        return self._state
