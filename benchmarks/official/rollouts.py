"""What both clients run, each under its own interpreter: load the environment, play it, print one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import resource
import sys
import time
from collections import Counter
from typing import Any

SCORE = 10.0
MOVE = '{"move": "on"}'


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What both are told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--environment", required=True, help="the folder of ten_steps.py")
    parser.add_argument("--model-url", required=True, help="base URL of the instant model")
    parser.add_argument("--policy", action="store_true", help="answer inside the process, without the model server")
    parser.add_argument("--rollouts", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--spawned", type=float, required=True, help="time.time() when this process was asked for")
    return parser


def play(told: argparse.Namespace, client: Any) -> None:
    """Construct the environment, play, print how it went: seconds until it could be constructed (interpreter and imports),
    to construct it, and from then to the last scored rollout; rollouts and how many scored 10.0; errors; memory.
    """
    sys.path.insert(0, told.environment)
    ten_steps = importlib.import_module("ten_steps")
    ready = time.time()
    began = time.perf_counter()
    env = ten_steps.load_environment(num_eval_examples=told.rollouts)
    constructed = time.perf_counter()
    outputs, finished = asyncio.run(_evaluate(env, told, client))
    errors = Counter(str(row.get("error"))[:500] for row in outputs if row.get("error") is not None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "rollouts": len(outputs),
        "right": sum(row.get("reward") == SCORE for row in outputs),
        "errors": dict(errors.most_common(3)),
        "start_seconds": ready - told.spawned,
        "construct_seconds": constructed - began,
        "play_seconds": finished - constructed,
        "seconds": finished - began,
        "rate": len(outputs) / (finished - began),
        "peak_mib": peak / (1024 * 1024 if sys.platform == "darwin" else 1024),
    }
    print(json.dumps(report), flush=True)


async def _evaluate(env: Any, told: argparse.Namespace, client: Any) -> tuple[list[Any], float]:
    """The outputs, and when the last one was scored; the environment's servers are stopped after that."""
    try:
        results = await env.evaluate(
            client, "instant", num_examples=told.rollouts, max_concurrent=told.concurrency, on_progress=[]
        )
        finished = time.perf_counter()
        return list(results["outputs"]), finished
    finally:
        await env._teardown()
