"""The two games that are played, as data: the action of a step, and how the model says it. Nothing is imported here that
the bare loop would not have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEPS = 10
SESSIONS = 512  # more than are ever open at once: one server plays them all, for both sides


@dataclass(frozen=True)
class Game:
    """`project` is the environment's folder. `reward` is what an episode is worth, None when that depends on its seed.

    `action` goes into each step's frame. A model says `tool` with `action["arguments"]`, or without a tool the action.
    `variables` are set in the server's image.
    """

    name: str
    title: str
    project: Path
    action: dict[str, Any]
    tool: str | None = None
    reward: float | None = None
    variables: tuple[str, ...] = ()
    dockerfile: str = "Dockerfile"

    @property
    def text(self) -> str:
        """What the model writes: the action, or the arguments of its tool."""
        return json.dumps(self.action if self.tool is None else self.action["arguments"])

    def prepare(self, folder: Path) -> None:
        """Set `variables` in the Dockerfile of this copy of the project."""
        if not self.variables:
            return
        file = folder / "proj" / self.dockerfile
        head, cmd, tail = file.read_text().rpartition("\nCMD ")
        file.write_text(head + "".join(f"\nENV {variable}" for variable in self.variables) + cmd + tail)


GAMES = {
    game.name: game
    for game in (
        Game(
            name="gym",
            title="a bare WebSocket server, no work in a step",
            project=ROOT / "benchmarks" / "environments" / "ten_steps",
            action={"move": "on"},
            reward=float(STEPS),
        ),
        Game(
            name="mcp",
            title="openenv-core, each step a tool call over MCP",
            project=ROOT / "environments" / "openenv_echo",
            # Never the phrase itself, so the episode goes on.
            action={"type": "call_tool", "tool_name": "echo_message", "arguments": {"message": "a grey moon"}},
            tool="echo_message",
            variables=(f"MAX_CONCURRENT_ENVS={SESSIONS}",),
            dockerfile="server/Dockerfile",
        ),
    )
}
