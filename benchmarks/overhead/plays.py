"""One measurement in a process of its own, by ours or by the official library: the same file under either interpreter.

The model answers at once, inside the process, so what is left is the library's own work. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from typing import Any

import verifiers as vf
from verifiers.types import Response, ResponseMessage, ToolCall

NAP_SECONDS = 0.005
FEW = 50


class Instant(vf.Client):
    """Says `42`, or calls the tool so many times first."""

    tool_turns = 0

    def setup_client(self, config: Any) -> Any:
        return None

    async def to_native_tool(self, tool: Any) -> Any:
        return tool

    async def to_native_prompt(self, messages: Any) -> tuple[Any, dict[str, Any]]:
        return messages, {}

    async def get_native_response(self, prompt: Any, model: str, *_: Any, state: Any = None, **__: Any) -> bool:
        return len(state["trajectory"]) < self.tool_turns

    async def raise_from_native_response(self, response: bool) -> None:
        return None

    async def from_native_response(self, response: bool) -> Response:
        calls = [ToolCall(id="call", name="add", arguments='{"a": 40, "b": 2}')] if response else None
        said = None if response else "42"
        message = ResponseMessage(content=said, tool_calls=calls, finish_reason="stop", is_truncated=False)
        return Response(id="", created=0, model="instant", message=message)

    async def close(self) -> None:
        return None


class Talk(vf.MultiTurnEnv):
    """Says `go on` until the turns are over."""

    async def env_response(self, messages: Any, state: Any, **_: Any) -> list[dict[str, str]]:
        return [{"role": "user", "content": "go on"}]


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: the other
    """
    return a + b


def right(completion: Any, answer: str) -> float:
    """Whether the last message is the answer."""
    return float(completion[-1]["content"] == answer)


def environment(turns: int, tool_turns: int, rollouts: int) -> vf.Environment:
    """What is played."""
    rows: Any = [{"question": f"What is {n} + {42 - n}?", "answer": "42"} for n in range(rollouts)]
    if hasattr(vf, "RowTable"):  # ours takes rows as they are
        dataset = rows
    else:
        from datasets import Dataset

        dataset = Dataset.from_list(rows)
    given = {"eval_dataset": dataset, "rubric": vf.Rubric(funcs=[right])}
    if tool_turns:
        return vf.ToolEnv(tools=[add], max_turns=tool_turns + 2, **given)
    return vf.SingleTurnEnv(**given) if turns == 1 else Talk(max_turns=turns, **given)


async def lateness(late: list[float]) -> None:
    """How late a task wakes, in milliseconds, that sleeps a moment again and again."""
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(NAP_SECONDS)
        late.append((time.perf_counter() - asked - NAP_SECONDS) * 1000)


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


async def play(told: argparse.Namespace) -> dict[str, Any]:
    """Play a few rollouts to warm up, then all of them: seconds, processor seconds, memory, how late the loop was."""
    client = Instant(vf.ClientConfig())
    client.tool_turns = told.tool_turns
    how = {"max_concurrent": told.at_once, "on_progress": []}
    warm = environment(told.turns, told.tool_turns, FEW)
    await warm.evaluate(client, "instant", num_examples=FEW, **how)
    env = environment(told.turns, told.tool_turns, told.rollouts)
    before = peak_mib()
    late: list[float] = []
    watcher = asyncio.create_task(lateness(late))
    began, used = time.perf_counter(), time.process_time()
    results = await env.evaluate(client, "instant", num_examples=told.rollouts, **how)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    watcher.cancel()
    rewards = [row["reward"] for row in results["outputs"]]
    return {
        "seconds": seconds,
        "cpu_seconds": processor,
        "right": sum(reward == 1.0 for reward in rewards),
        "late_ms": sorted(late),
        "peak_mib": peak_mib(),
        "growth_mib": peak_mib() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--tool-turns", type=int, default=0)
    parser.add_argument("--rollouts", type=int, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    print(json.dumps(asyncio.run(play(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()
