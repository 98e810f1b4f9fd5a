"""The examples against their own servers; openenv-core's in a virtual environment of its own."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

import verifiers as vf
from prime_core.metadata import check_environment
from prime_core.uv import run_uv, uv_environment
from verifiers.evaluation.policies import EchoPolicy, RandomPolicy

ENVIRONMENTS = Path(__file__).parents[2] / "environments"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """`example("openenv_echo")`: the example's folder copied, its module imported; both returned."""

    def load(name: str):
        folder = tmp_path / "environments" / name
        shutil.copytree(ENVIRONMENTS / name, folder, ignore=shutil.ignore_patterns(".build.json", "__pycache__"))
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return folder, importlib.import_module(name)

    return load


async def play(env: vf.Environment, policy, index: int, rollout_index: int = 0) -> vf.State:
    row = {**env.get_eval_dataset()[index], "rollout_index": rollout_index}
    state = await env.rollout(row, policy, "baseline")
    await env.score([state])
    assert state["error"] is None
    return state


@pytest.mark.parametrize("name", ["openenv_cartpole", "openenv_echo"])
def test_they_are_fit_to_be_published(name):
    metadata = check_environment(ENVIRONMENTS / name)
    assert metadata.version == "0.1.0" and metadata.tags and metadata.urls and "proj" in metadata.hatch_include
    assert metadata.eval_defaults == {"num_examples": 5, "rollouts_per_example": 3}


async def test_cartpole(example, serve):
    folder, module = example("openenv_cartpole")
    source = serve("counter")
    shutil.copy(folder / "proj" / "server.py", source.folder)
    env = module.load_environment(server_url=source.spawn().url, num_eval_examples=5)
    played = [await play(env, RandomPolicy(), index, turn) for index in range(5) for turn in range(2)]
    again = [await play(env, RandomPolicy(), index, turn) for index in range(5) for turn in range(2)]
    rewards = [state["reward"] for state in played]
    assert rewards == [state["reward"] for state in again] and all(reward > 5 for reward in rewards)
    assert rewards[::2] != rewards[1::2], "two rollouts of one example differ"
    first = played[0]
    assert first["prompt"][0]["role"] == "system" and first["prompt"][1]["content"].startswith(
        "The pole stands. Cart: "
    )
    assert first["stop_condition"] == "openenv_done" and first["metrics"]["openenv_action_errors"] == 0.0
    assert first["reward"] == len(first["trajectory"])
    assert first["trajectory"][-1]["extras"]["openenv"][0]["info"] == {"terminated": True, "truncated": False}

    class Sideways(RandomPolicy):
        def answer(self, prompt, tools, action_schema, rng):
            return vf.AssistantMessage("right!" if len(prompt) == 2 else "1")

    state = await play(env, Sideways(), 0)
    assert state["metrics"]["openenv_action_errors"] == 1.0 and state["trajectory"][0]["reward"] == 0.0
    assert "(HTTP 422): action: Input should be '0' or '1'" in state["completion"][1]["content"]
    await env._teardown()


@pytest.mark.index
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_echo_on_openenv_core(example, serve, tmp_path):
    folder, module = example("openenv_echo")
    requirements = folder / "proj" / "server" / "requirements.txt"
    environment = uv_environment()
    run_uv(["venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], env=environment)
    python = tmp_path / "venv" / "bin" / "python"
    done = run_uv(
        ["pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)], env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr
    command = [str(python), "-m", "uvicorn", "server.app:app", "--host", "127.0.0.1", "--port", "{port}"]
    source = serve("counter", command=command, MAX_CONCURRENT_ENVS="2", PYTHONPATH=str(folder / "proj"))
    (source.folder / "server.py").unlink()
    manifest = {"image": "openenv-echo:latest", "start_command": "x", "contract": "mcp"}
    (folder / "proj" / ".build.json").write_text(json.dumps(manifest))
    env = module.load_environment(num_eval_examples=3, startup_timeout_seconds=60)
    env.server_source = lambda: source
    state = await play(env, EchoPolicy(), 0)
    phrase = state["prompt"][1]["content"]
    assert state["reward"] == pytest.approx(1.0) and state["stop_condition"] == "openenv_done"
    assert state["completion"][-1]["content"] == phrase and [tool.name for tool in state["tool_defs"]] == [
        "echo_message"
    ]

    class Mumbler(EchoPolicy):
        def answer(self, prompt, tools, action_schema, rng):
            text = "hello" if len(prompt) == 2 else "nothing of the sort"
            call = vf.ToolCall("c", "echo_message" if len(prompt) < 5 else "shout", json.dumps({"message": text}))
            return vf.AssistantMessage(None, tool_calls=[call])

    states = await asyncio.gather(*(play(env, Mumbler(), 1) for _ in range(5)))
    for state in states:
        assert 0 < state["reward"] < 1 and len(state["trajectory"]) == 4
        tools = [message["content"] for message in state["completion"] if message["role"] == "tool"]
        assert tools[0] == "hello" and tools[2].startswith("Error: ") and "shout" in tools[2]
    assert len({state["reward"] for state in states}) == 1 and len(source.children) <= 3
    await env._teardown()
