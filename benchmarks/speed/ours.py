"""OpenEnvEnv with a model inside the process that answers at once, on a server of a Hub's sandbox that already runs.

A process that is told on its standard input what to play, a line of JSON each, and answers with a line. Its first line,
unasked, is about the server, which a first rollout has started. Ends with its standard input, or by SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from speed.games import GAMES, STEPS, Game
from verifiers.envs.integrations.openenv_env import OpenEnvEnv
from verifiers.evaluation.policies import Offline
from verifiers.openenv.source import RunningServer, ServerSource
from verifiers.types import AssistantMessage, ToolCall
from verifiers.utils.loop import run

NAP_SECONDS = 0.005


class Instant(Offline):
    """Says the game's one move."""

    def __init__(self, game: Game) -> None:
        super().__init__(None)
        self.tool, self.text = game.tool, game.text

    def move(self, *_: Any) -> AssistantMessage:
        if self.tool is None:
            return AssistantMessage(self.text)
        return AssistantMessage(None, tool_calls=[ToolCall(id="call", name=self.tool, arguments=self.text)])


def render(observation: Any, context: str, contract: str, **_: Any) -> list[dict[str, Any]]:
    """The observation as a user's message; a tool's answer needs none."""
    return [{"role": "user", "content": str(observation)}] if context == "reset" or contract == "gym" else []


class Watched(OpenEnvEnv):
    """Remembers which servers it has started."""

    def server_source(self) -> ServerSource:
        source: Any = super().server_source()
        start, self.servers = source.start, []

        async def started() -> RunningServer:
            server = await start()
            self.servers.append(server)
            return server

        source.start = started
        return source


class Player:
    """One environment, for as many runs as are asked for."""

    def __init__(self, game: Game, project: Path) -> None:
        self.game = game
        self.env = Watched(
            project / "proj",
            num_train_examples=0,
            num_eval_examples=4000,
            prompt_renderer=render,
            max_turns=STEPS,
        )

    async def warm_up(self) -> dict[str, Any]:
        """Start the server; where it is, and whether it is reached by a unix socket."""
        await self.play(1, 1)
        server = self.env.servers[0]
        return {"url": server.url, "unix_socket": server.socket_path is not None}

    async def play(self, rollouts: int, concurrency: int) -> float:
        """The sum of the rewards. Raises SystemExit when a rollout was not played to its end."""
        results = await self.env.evaluate(
            Instant(self.game), "instant", num_examples=rollouts, max_concurrent=concurrency, on_progress=[]
        )
        outputs = results["outputs"]
        whole = [row for row in outputs if row["error"] is None and row["metrics"]["num_turns"] == STEPS]
        right = [row for row in whole if self.game.reward in (None, row["reward"])]
        if len(right) != rollouts:
            errors = Counter(str(row["error"] or row["reward"])[:300] for row in outputs if row not in right)
            raise SystemExit(f"{rollouts - len(right)} of {rollouts} rollouts went wrong: {errors.most_common(3)}")
        return sum(row["reward"] for row in outputs)

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Play one order: `rollouts`, `concurrency`; `lag` to watch the event loop, `profile` for a file to write."""
        profile = cProfile.Profile() if order.get("profile") else None
        async with _lags(bool(order.get("lag"))) as lags:
            began, used = time.perf_counter(), time.process_time()
            if profile is not None:
                profile.enable()
            total = await self.play(order["rollouts"], order["concurrency"])
            if profile is not None:
                profile.disable()
            took, used = time.perf_counter() - began, time.process_time() - used
        if profile is not None:
            profile.dump_stats(order["profile"])
        servers = len(self.env.servers)
        report = {"seconds": took, "cpu_seconds": used, "total": total, "servers": servers, "peak_mib": peak_mib()}
        return {**report, "lag_ms": lags}


@contextlib.asynccontextmanager
async def _lags(watched: bool) -> AsyncGenerator[list[float]]:
    """How late, in milliseconds, a task woke that sleeps 5 ms again and again."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(NAP_SECONDS)
            late.append((time.perf_counter() - began - NAP_SECONDS) * 1000)

    watcher = asyncio.create_task(watch()) if watched else None
    try:
        yield late
    finally:
        if watcher is not None:
            watcher.cancel()


def peak_mib() -> float:
    """The most memory this process has had. (ru_maxrss would begin with that of the process which started it.)"""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def serve(player: Player) -> None:
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None
    loop.add_signal_handler(signal.SIGTERM, me.cancel)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        say({**await player.warm_up(), "peak_mib": peak_mib()})
        while line := await reader.readline():
            order = json.loads(line)
            if "idle" in order:
                async with _lags(True) as lags:
                    await asyncio.sleep(order["idle"])
                say({"lag_ms": lags})
            else:
                say(await player.obey(order))
    finally:
        await player.env._teardown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("project", type=Path, help="the environment's folder, with the manifest of its image")
    told = parser.parse_args()
    with contextlib.suppress(asyncio.CancelledError):
        run(serve(Player(GAMES[told.game], told.project)))


if __name__ == "__main__":
    main()
