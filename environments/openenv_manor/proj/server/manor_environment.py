"""The manor as an MCP environment: three tools, and a reward for the accusation."""

from typing import Annotated, Any, Literal
from uuid import uuid4

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from server.case import GUESTS, HOURS, Case

Guest = Literal[GUESTS]
Hour = Annotated[int, Field(ge=HOURS[0], le=HOURS[-1], description="The hour that begins then, as in 20 for 20:00.")]


class Story(Observation):
    """What is known at first."""

    story: str


class ManorEnvironment(MCPEnvironment):
    """An accusation ends the episode and brings its reward; questions bring none. One question too many ends it too.

    The tools keep the case, because which of `step` and `step_async` leads to them differs between versions of openenv.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp = FastMCP("manor")

        @mcp.tool
        def ask(guest: Guest, hour: Hour) -> str:
            """Ask a guest where they were at an hour, and who was with them. Everybody but the thief tells the truth."""
            return self._case.ask(guest, hour)

        @mcp.tool
        def watchman(hour: Hour) -> str:
            """Ask the watchman whether the thing was still there when an hour began."""
            return self._case.watchman(hour)

        @mcp.tool
        def accuse(guest: Guest, hour: Hour) -> str:
            """Accuse a guest of the theft in the hour that begins then. This ends the case."""
            self._worth, told = self._case.accuse(guest, hour)
            return told

        super().__init__(mcp)
        self._case = Case(None)
        self._worth: float | None = None
        self._episode = str(uuid4())

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Observation:
        self._case, self._worth = Case(seed), None
        self._episode = episode_id or str(uuid4())
        return Story(story=self._case.story, done=False, reward=None)

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        self._open()
        return self._scored(super().step(action, timeout_s=timeout_s, **kwargs))

    async def step_async(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        self._open()
        return self._scored(await super().step_async(action, timeout_s=timeout_s, **kwargs))

    def _open(self) -> None:
        if self._case.over:
            raise ValueError("The case is closed.")

    def _scored(self, observation: Observation) -> Observation:
        observation.reward, observation.done = self._worth or 0.0, self._case.over
        return observation

    def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        raise ValueError("The manor knows tool calls only.")

    @property
    def state(self) -> State:
        return State(episode_id=self._episode, step_count=self._case.asked)
