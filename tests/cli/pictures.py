"""Pictures of the terminal for the docs, of runs that are really played: `script/screenshots terminal` runs it."""

from __future__ import annotations

import asyncio
import io
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import verifiers as vf
from prime_cli.browsing.app import Browser
from prime_cli.browsing.runs_screen import RunsScreen
from prime_cli.browsing.table import RowsTable
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "screenshots"
WIDE, NARROW = (110, 32), (56, 24)


class GuessEnv(vf.StatefulToolEnv):
    """Find a number with as few guesses as possible."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(tools=[], max_turns=6, **kwargs)
        self.add_tool(self.guess, args_to_skip=["secret"])

    async def guess(self, number: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], secret: int) -> str:
        """Say a number from 1 to 10.

        Args:
            number: The number.
        """
        return "right" if number == secret else "too low" if number < secret else "too high"

    def update_tool_args(self, tool_name: str, tool_args: dict, messages: Any, state: Any, **kwargs: Any) -> dict:
        return {**tool_args, "secret": int(state["answer"])}


def found(completion: vf.Messages) -> float:
    """Whether the number was found; later is worse."""
    said = [str(message.get("content")) for message in completion if message["role"] == "tool"]
    return round(1 - said.index("right") / 6, 3) if "right" in said else 0.0


def guessing() -> vf.Environment:
    rng = random.Random(4)
    rows = [{"question": "Guess my number, 1 to 10.", "answer": str(rng.randint(1, 10))} for _ in range(40)]
    env = GuessEnv(dataset=rows, rubric=vf.Rubric([found]))
    env.env_id = "guess-the-number"
    return env


async def play(folder: Path) -> None:
    """Two baselines, with two rollouts each."""
    for model in ("baseline/random", "baseline/first"):
        env = guessing()
        path = folder / "evals" / f"guess-the-number--{model.replace('/', '--')}" / os.urandom(4).hex()
        from verifiers.evaluation.policies import POLICIES

        await env.evaluate(POLICIES[model](), model, num_examples=40, rollouts_per_example=2, results_path=path)


async def browse(folder: Path) -> None:
    """Go through the screens."""
    app = Browser([folder])
    async with app.run_test(size=WIDE) as pilot:

        async def take(name: str, *keys: str) -> None:
            await pilot.press(*keys)
            for _ in range(200):
                await pilot.pause(0.02)
                if all(worker.is_finished for worker in app.workers):
                    break
            await pilot.pause(0.1)
            save(name, app.export_screenshot(title=f"prime eval tui: {name.removeprefix('tui-')}"))

        await take("tui-runs")
        await take("tui-run", "enter")
        await take("tui-rollout", "s", "S", "enter")
        await take("tui-keys", "question_mark")
        await pilot.press("escape", "escape", "escape", "space", "down", "space")
        await take("tui-comparison", "c")
        assert not isinstance(app.screen, RunsScreen), app.screen
        await take("tui-both", "enter")
    app = Browser([folder])
    async with app.run_test(size=NARROW) as pilot:
        await pilot.pause(0.5)
        app.screen.query_one(RowsTable).focus()
        await take_narrow(app, pilot)


async def take_narrow(app: Browser, pilot: Any) -> None:
    """A run in a narrow terminal."""
    await pilot.press("enter")
    for _ in range(200):
        await pilot.pause(0.02)
        if all(worker.is_finished for worker in app.workers):
            break
    save("tui-run-narrow", app.export_screenshot(title="prime eval tui"))


async def watch() -> None:
    """The live view in the middle of a run with failures, wide and narrow."""
    from rich.console import Console

    from verifiers.evaluation.policies import POLICIES
    from verifiers.evaluation.progress import frame
    from verifiers.evaluation.runner import Runner, RunOptions
    from verifiers.evaluation.standing import Watched

    class Slow(GuessEnv):
        async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
            number = state["example_id"] * 2 + state["rollout_index"]
            await asyncio.sleep(0.05 + 0.02 * (number % 7))
            if number % 9 == 4:
                raise vf.InfraError("The server of the game is gone.")
            return await super().env_response(messages, state, **kwargs)

    plain = guessing()
    env = Slow(dataset=[dict(row) for row in plain.get_dataset()], rubric=vf.Rubric([found]))
    rows = [{**row, "rollout_index": index} for row in env.get_dataset() for index in (0, 1)]
    options = RunOptions(max_concurrent=12, max_retries=1)
    runner = Runner(env, rows, POLICIES["baseline/random"](), "baseline/random", options=options)
    watched = Watched("guess-the-number", runner.progress, runner.activities)
    halfway = asyncio.Event()
    runner.listener = lambda progress, new: halfway.set() if progress.finished >= 50 else None
    playing = asyncio.create_task(runner.run())
    await halfway.wait()
    shown = {size: frame([watched], *size, time.monotonic()) for size in (WIDE, NARROW)}
    await playing
    for name, size in (("live", WIDE), ("live-narrow", NARROW)):
        console = Console(width=size[0], record=True, file=io.StringIO(), force_terminal=True)
        for line in shown[size]:
            console.print(line)
        save(name, console.export_svg(title="prime eval run guess-the-number -m baseline/random -n 40 -r 2"))


def save(name: str, picture: str) -> None:
    """Write one, and say so."""
    file = FOLDER / f"{name}.svg"
    # The renderer's style sheet asks another machine for a font; the reader's own does as well.
    kept = re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    file.write_text(re.sub(r"\s*<!--.*?-->", "", kept).rstrip() + "\n", encoding="utf-8")
    print(file.relative_to(ROOT), flush=True)


def main() -> int:
    """Take them all anew."""
    os.environ.pop("NO_COLOR", None)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder) / "outputs"))
        here = Path.cwd()
        os.chdir(folder)
        try:
            asyncio.run(browse(Path("outputs")))
        finally:
            os.chdir(here)
    asyncio.run(watch())
    return 0


if __name__ == "__main__":
    sys.exit(main())
