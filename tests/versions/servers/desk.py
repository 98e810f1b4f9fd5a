"""Tools without FastMCP: an environment that lists and calls them as its own actions, as some servers do."""

from typing import Any, Literal

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

WRITE = {
    "name": "write",
    "description": "Write a line.",
    "inputSchema": {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]},
}


class Errand(Action):
    type: Literal["list_tools", "call_tool"] = "call_tool"
    tool_name: str | None = None
    arguments: dict[str, Any] = {}


class Paper(Observation):
    text: str = ""
    tools: list[dict[str, Any]] | None = None


class Desk(Environment):
    """Every line is worth its length; the fourth ends the page."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Paper:
        self._lines = []
        return Paper(text=f"Page {seed}.")

    def step(self, action: Errand, timeout_s: float | None = None, **kwargs: Any) -> Paper:
        if action.type == "list_tools":
            return Paper(tools=[WRITE])
        if action.tool_name != "write":
            raise ValueError(f"There is no {action.tool_name} on this desk.")
        line = str(action.arguments["line"])
        self._lines.append(line)
        return Paper(text=f"{len(self._lines)}: {line}", reward=float(len(line)), done=len(self._lines) == 4)

    @property
    def state(self) -> State:
        return State(step_count=len(self._lines))


app = create_app(Desk, Errand, Paper, env_name="desk", max_concurrent_envs=8)
