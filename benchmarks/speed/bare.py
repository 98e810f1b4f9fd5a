"""What one would write without a library: a `websockets` connection for each episode, plain asyncio.

A process that is told on its standard input what to play, a line of JSON each, and answers with a line: seconds, its own
processor seconds, and the sum of all rewards. Ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect

from speed.games import GAMES, STEPS, Game


async def play(game: Game, url: str, episodes: int, concurrency: int) -> float:
    """The sum of the rewards of the episodes with seeds 0, 1, …"""
    gate = asyncio.Semaphore(concurrency)

    async def one(seed: int) -> float:
        total = 0.0
        async with gate, connect(url, compression=None, proxy=None) as socket:
            await socket.send(json.dumps({"type": "reset", "data": {"seed": seed}}))
            json.loads(await socket.recv())["data"]
            for _ in range(STEPS):
                await socket.send(json.dumps({"type": "step", "data": game.action}))
                result = json.loads(await socket.recv())["data"]
                total += result["reward"] or 0.0
        return total

    return sum(await asyncio.gather(*(one(seed) for seed in range(episodes))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("url", help="http://host:port")
    told = parser.parse_args()
    game, url = GAMES[told.game], "ws" + told.url.removeprefix("http") + "/ws"
    for line in sys.stdin:
        order = json.loads(line)
        began, used = time.perf_counter(), time.process_time()
        total = asyncio.run(play(game, url, order["rollouts"], order["concurrency"]))
        took, used = time.perf_counter() - began, time.process_time() - used
        print(json.dumps({"seconds": took, "cpu_seconds": used, "total": total}), flush=True)


if __name__ == "__main__":
    main()
