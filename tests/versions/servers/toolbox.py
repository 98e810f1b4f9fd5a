"""An MCP environment that runs unchanged on openenv-core 0.2 and 0.3 and on openenv 0.10."""

import base64
import os
import time
from typing import Any, Literal

from bench import PNG
from fastmcp import FastMCP
from fastmcp.utilities.types import Image
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State


class Opened(Observation):
    seed: int | None


class Toolbox(MCPEnvironment):
    """Tools that answer with a number, an object, a picture, an error, or not in time."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp = FastMCP("toolbox")

        @mcp.tool
        def saw(length: int, wood: Literal["oak", "ash"] = "oak") -> int:
            """Cut a board; what is left of a hundred comes back."""
            return 100 - length

        @mcp.tool
        def measure(length: int) -> dict[str, Any]:
            """An object."""
            return {"length": length, "unit": "cm"}

        @mcp.tool
        def look() -> Image:
            """A picture."""
            return Image(data=base64.b64decode(PNG), format="png")

        @mcp.tool
        def look_and_tell():
            """A picture with words before it."""
            return ["A red dot.", Image(data=base64.b64decode(PNG), format="png")]

        @mcp.tool
        def hammer() -> str:
            """Hits the thumb."""
            raise RuntimeError("the thumb is blue")

        @mcp.tool
        def sleep() -> str:
            """Takes longer than anybody waits."""
            time.sleep(3)
            return "good morning"

        @mcp.tool
        def die() -> str:
            """Ends the server."""
            os._exit(9)

        super().__init__(mcp)
        self._state = State(episode_id=None, step_count=0)

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Observation:
        self._state = State(episode_id=episode_id, step_count=0)
        return Opened(seed=seed, done=False, reward=None, metadata={"drawers": 3})

    def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        raise ValueError("The toolbox knows tool calls only.")

    @property
    def state(self) -> State:
        return self._state


app = create_app(
    Toolbox,
    CallToolAction,
    CallToolObservation,
    env_name="toolbox",
    max_concurrent_envs=int(os.environ.get("CAPACITY", "8")),
)
