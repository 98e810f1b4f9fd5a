"""The processes that play, as those who give them orders see them."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from official.scratch import Failed, Scratch

from speed.games import Game

BENCHMARKS = Path(__file__).resolve().parent.parent
ANSWER_SECONDS = 900.0
START_SECONDS = 120.0
END_SECONDS = 20.0


class Process:
    """A process that answers each line of JSON with one."""

    def __init__(self, name: str, module: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        self.name = name
        self._asked = False
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=BENCHMARKS,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for who gives the orders, and ends them all in turn
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait for the answer. Raises Failed when the process ends instead, or says nothing."""
        assert self._child.stdin is not None
        self._asked = True
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(order) + "\n")
            self._child.stdin.flush()
        answer = self.answer(ANSWER_SECONDS)
        self._asked = False
        return answer

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next line."""
        assert self._child.stdout is not None
        if not select.select([self._child.stdout], [], [], seconds)[0]:
            raise Failed(f"{self.name} did not answer within {seconds:.0f} seconds.")
        line = self._child.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended with exit code {self._child.wait(END_SECONDS)}; it says why above.")
        return json.loads(line)

    def stop(self) -> None:
        """End it: by the end of its input, or at once when it is in the middle of something."""
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        if self._asked:
            child.terminate()
        for harder in (child.terminate, child.kill, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS)
                break
            if harder is not None:
                harder()
        child.stdout.close()


@contextlib.contextmanager
def our_player(place: Scratch, game: Game) -> Generator[tuple[Process, dict[str, Any]]]:
    """Our client with a running server, and what it says about that one."""
    player = Process(
        f"Our client ({game.name})", "speed.ours", [game.name, str(place.copy_of(game.project))], place.variables
    )
    try:
        yield player, player.answer(START_SECONDS)
    finally:
        player.stop()


@contextlib.contextmanager
def bare_player(place: Scratch, game: Game, url: str) -> Generator[Process]:
    """The bare loop on the server at `url`; its first episodes are played already."""
    player = Process(f"The bare loop ({game.name})", "speed.bare", [game.name, url], place.variables)
    try:
        player.ask(rollouts=1, concurrency=1)
        yield player
    finally:
        player.stop()
