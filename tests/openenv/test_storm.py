"""Many rollouts at once while some are cancelled in mid-step and servers are killed in mid-episode."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv
from verifiers.evaluation.policies import Policy

AT_ONCE = 64
ROLLOUTS = 192
KILLS = 4


class Careful(Policy):
    """Counts up, now and then slowly, and looks at every answer: it must be the next one of its own episode."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.mixed_up: list[str] = []

    async def get_native_response(self, prompt, model, sampling_args, tools, state=None, **_):
        expected = {"seed": state["info"]["seed"], "count": len(state["trajectory"])}
        if json.loads(prompt[-1]["content"]) != expected:
            self.mixed_up.append(f"{prompt[-1]['content']} instead of {expected}")
        await asyncio.sleep(self.rng.random() / 50)
        return await super().get_native_response(prompt, model, sampling_args, tools, state)

    def answer(self, *_):
        return vf.AssistantMessage(json.dumps({"move": self.rng.choice(["up", "up", "slow"])}))


@pytest.mark.parametrize("capacity", ["1", "3", "8"])
async def test_no_reply_reaches_another_episode_and_nothing_leaks(serve, tmp_path, capacity):
    rng = random.Random(int(capacity))
    source = serve("counter", CAPACITY=capacity)
    project = tmp_path / "proj"
    project.mkdir()
    manifest = {"image": "counter:latest", "port": 8000, "start_command": "x", "contract": "gym"}
    (project / ".build.json").write_text(json.dumps(manifest))

    class Here(OpenEnvEnv):
        def server_source(self):
            return source

    before = open_files()
    env = Here(project, prompt_renderer=lambda observation, **_: [{"role": "user", "content": json.dumps(observation)}])
    model = Careful(rng)
    ended: Counter[str] = Counter()
    finished = asyncio.Event()
    gate = asyncio.Semaphore(AT_ONCE)

    async def rollout(seed: int) -> None:
        async with gate:
            row = {"info": {"seed": seed}, "example_id": seed, "prompt": []}
            task = asyncio.ensure_future(env.rollout(row, model, "careful"))
            if seed % 6 == 0:
                asyncio.get_running_loop().call_later(rng.random(), task.cancel)
            try:
                state = await task
            except asyncio.CancelledError:
                ended["cancelled"] += 1
                return
        await env.score([state])
        if state["error"] is None:
            assert state["reward"] == 3.0 and json.loads(state["completion"][-1]["content"])["seed"] == seed
            ended["scored"] += 1
        else:
            assert isinstance(state["error"], vf.SandboxError) and state["reward"] is None, repr(state["error"])
            ended["lost"] += 1

    async def reaper() -> None:
        killed = 0
        while killed < KILLS and not finished.is_set():
            await asyncio.sleep(0.4)
            if victims := [child for child in source.alive if served(child.log)]:
                os.killpg(rng.choice(victims).pid, signal.SIGKILL)
                killed += 1
        ended["killed servers"] = killed

    async def all_of_them() -> None:
        await asyncio.gather(*(rollout(seed) for seed in range(ROLLOUTS)))
        finished.set()

    await asyncio.gather(reaper(), all_of_them())
    assert model.mixed_up == []
    assert ended.pop("killed servers") > 0
    assert sum(ended.values()) == ROLLOUTS and ended["scored"] > ROLLOUTS / 3, ended
    await env._teardown()
    assert not source.alive
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert open_files() <= before


def served(log: Path) -> bool:
    """Whether a server has had a session by now."""
    return "WebSocket /ws" in log.read_text(errors="replace")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
