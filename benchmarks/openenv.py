"""Ten-step rollouts through OpenEnvEnv with an instant model, beside a bare websockets loop on the same running server."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect

from verifiers.envs.integrations.openenv_env import OpenEnvEnv
from verifiers.evaluation.policies import Policy
from verifiers.types import AssistantMessage

HERE = Path(__file__).resolve().parent
STEPS = 10
MOVE = AssistantMessage(content='{"move": "on"}')


class Instant(Policy):
    """Answers at once with the one valid move."""

    def answer(self, *_: Any) -> AssistantMessage:
        return MOVE

    async def get_native_response(self, *_: Any, **__: Any) -> AssistantMessage:
        return MOVE


def serve() -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "server:app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    child = subprocess.Popen(command, cwd=HERE / "servers" / "ten_steps")
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return child, url
        except httpx.HTTPError:
            time.sleep(0.05)
    child.kill()
    raise SystemExit("the benchmark's server did not start")


async def bare(url: str, episodes: int, concurrency: int) -> float:
    """Seconds for the episodes with a new connection for each, as any client must."""
    gate = asyncio.Semaphore(concurrency)

    async def one(seed: int) -> None:
        async with gate, connect(url.replace("http", "ws") + "/ws", compression=None, proxy=None) as ws:
            await ws.send(json.dumps({"type": "reset", "data": {"seed": seed}}))
            done = json.loads(await ws.recv())["data"]["done"]
            while not done:
                await ws.send(json.dumps({"type": "step", "data": {"move": "on"}}))
                done = json.loads(await ws.recv())["data"]["done"]

    began = time.perf_counter()
    await asyncio.gather(*(one(seed) for seed in range(episodes)))
    return time.perf_counter() - began


async def ours(url: str, episodes: int, concurrency: int) -> float:
    """Seconds for the same episodes as rollouts: environment, rubric, trajectory and all."""
    env = OpenEnvEnv(
        server_url=url,
        prompt_renderer=lambda observation, **_: [{"role": "user", "content": str(observation)}],
        num_train_examples=1,
        num_eval_examples=episodes,
    )
    began = time.perf_counter()
    results = await env.evaluate(
        Instant(), "instant", num_examples=episodes, max_concurrent=concurrency, on_progress=[]
    )
    took = time.perf_counter() - began
    await env._teardown()
    wrong = [row for row in results["outputs"] if row["reward"] != STEPS]
    if wrong:
        raise SystemExit(f"{len(wrong)} rollouts were not scored {STEPS}: {wrong[0]['error']}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    child, url = serve()
    try:
        print(f"{arguments.episodes} episodes of {STEPS} steps, median of {arguments.rounds} rounds taken in turn")
        print(f"{'at once':>8} {'bare steps/s':>13} {'ours steps/s':>13} {'ours/bare':>10} {'ours rollouts/s':>16}")
        for concurrency in arguments.concurrency:
            times: dict[str, list[float]] = {"bare": [], "ours": []}
            for _ in range(arguments.rounds):
                times["bare"].append(asyncio.run(bare(url, arguments.episodes, concurrency)))
                times["ours"].append(asyncio.run(ours(url, arguments.episodes, concurrency)))
            rate = {name: arguments.episodes / statistics.median(took) for name, took in times.items()}
            print(
                f"{concurrency:>8} {rate['bare'] * STEPS:>13.0f} {rate['ours'] * STEPS:>13.0f}"
                f" {rate['ours'] / rate['bare']:>10.2f} {rate['ours']:>16.0f}",
                flush=True,
            )
        print(
            f"memory of this process at its highest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB"
        )
    finally:
        child.terminate()
        child.wait()


if __name__ == "__main__":
    main()
