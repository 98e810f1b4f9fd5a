"""A working folder with an environment and a model that echoes, for the real vf-eval as a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai_server import OpenAIServer


ENVIRONMENT = """
import asyncio
import verifiers as vf

class Talk(vf.MultiTurnEnv):
    async def setup_state(self, state, **kwargs):
        state["colour"] = "green"
        await asyncio.sleep(self.pause)
        return state

    async def env_response(self, messages, state, **kwargs):
        return "and?"

def load_environment(word="word", turns=1, count=6, pause=0.0, grouped=False):
    def right(completion, answer):
        return float(completion[-1]["content"] == answer)

    def best(states):
        return [1.0 / len(states) for _ in states]

    rows = [{"question": f"{word}{n}", "answer": f"{word}{n}"} for n in range(count)]
    env = Talk(dataset=rows, rubric=vf.Rubric(funcs=[best if grouped else right]), max_turns=turns)
    env.pause = pause
    return env
"""
PROJECT = '[project]\nname = "my-talk"\nversion = "0.1.0"\n'


class World:
    """A working folder with an environment, a model that echoes, and the command."""

    def __init__(self, folder: Path, server: OpenAIServer) -> None:
        from openai_server import text

        self.folder, self.server = folder, server
        server.reply(lambda request: text(request["messages"][-1]["content"]))
        place = folder / "environments" / "my_talk"
        place.mkdir(parents=True)
        (place / "my_talk.py").write_text(ENVIRONMENT)
        (place / "pyproject.toml").write_text(PROJECT)

    @property
    def model(self) -> tuple[str, ...]:
        return ("-m", "m", "-b", self.server.url)

    def run(self, *args: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "verifiers.cli.eval", *args],
            cwd=self.folder,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def data(self, *args: str, code: int = 0, **environ: str) -> Any:
        """What `--output json` prints."""
        return json.loads(self.run("my-talk", *args, "--output", "json", code=code, **environ).stdout)

    def endpoints(self, more: str = "", file: str = "configs/endpoints.toml") -> None:
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'[[endpoint]]\nendpoint_id = "mine"\nmodel = "big"\nurl = "{self.server.url}"\nkey = "MY_KEY"\n{more}'
        )
