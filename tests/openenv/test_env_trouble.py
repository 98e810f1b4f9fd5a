"""OpenEnvEnv when rollouts are given up, servers are exchanged and places are short: whose fault it is, and what is left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv
from verifiers.evaluation.policies import Policy
from verifiers.openenv.errors import SessionLost


class Says(Policy):
    """Says the same every turn: text, or a call of the tool `count`."""

    def __init__(self, text: str, tool: bool = False) -> None:
        super().__init__()
        self.text, self.tool, self.tools = text, tool, ()

    def answer(self, prompt, tools, action_schema, rng) -> vf.AssistantMessage:
        self.tools = tools
        if self.tool:
            return vf.AssistantMessage(None, tool_calls=[vf.ToolCall("1", "count", self.text)])
        return vf.AssistantMessage(self.text)


class Thinks(Says):
    """Never answers."""

    async def get_native_response(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(3600)


def render(observation: Any, **_: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": json.dumps(observation)}]


async def play(env: OpenEnvEnv, client: Policy, seed: int = 1) -> vf.State:
    state = await env.rollout({"info": {"seed": seed}, "example_id": seed, "prompt": []}, client, "says")
    await env.score([state])
    return state


async def sessions(url: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url + "/health")).json()["active"]


async def none_left(url: str) -> None:
    async with asyncio.timeout(5):
        while await sessions(url):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_stopping_the_servers_in_the_middle_of_a_step_is_infrastructure(running):
    url = running("counter")
    env = OpenEnvEnv(server_url=url, prompt_renderer=render, request_timeout_seconds=0.6)
    playing = [asyncio.create_task(play(env, Says("hang"), seed)) for seed in range(3)]
    while await sessions(url) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await env._teardown()
    for state in await asyncio.gather(*playing):
        assert isinstance(state["error"], SessionLost) and "(teardown)" in str(state["error"]), repr(state["error"])
    assert env._pool is None, "nothing was started anew to explain what is over"


async def test_a_server_of_somebody_elses_keeps_no_session_after_teardown(running):
    url = running("counter")
    env = OpenEnvEnv(server_url=url, prompt_renderer=render)
    playing = asyncio.create_task(play(env, Says("slow")))
    while not await sessions(url):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await env._teardown()
    await playing
    await none_left(url)


async def test_waiting_for_a_place_is_not_the_models_time(running):
    env = OpenEnvEnv(server_url=running("counter", CAPACITY="1"), prompt_renderer=render, timeout_seconds=3)
    states = await asyncio.gather(*(play(env, Says("hang"), seed) for seed in range(3)))
    await env._teardown()
    assert [state["stop_condition"] for state in states] == ["timeout_reached"] * 3
    began = [state for state in states if state["trajectory"]]
    assert len(began) == 1 and began[0]["error"] is None and began[0]["reward"] == 0.0
    for state in states:
        if state is not began[0]:
            assert state["reward"] is None and "No episode had begun after 3 s" in str(state["error"])


async def test_a_rollout_that_is_cancelled_twice_gives_its_session_back(running):
    cleaning = asyncio.Event()

    class Slow(OpenEnvEnv):
        @vf.cleanup(priority=60)
        async def long_goodbye(self, state):
            cleaning.set()
            await asyncio.sleep(60)

    url = running("counter")
    env = Slow(server_url=url, prompt_renderer=render)
    task = asyncio.create_task(play(env, Thinks("up")))
    while not await sessions(url):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    task.cancel()
    await cleaning.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await none_left(url)
    await env._teardown()


async def test_another_server_has_tools_and_a_contract_of_its_own(running):
    env = OpenEnvEnv(server_url=running("seed_mcp"), prompt_renderer=render, max_turns=1)
    model = Says('{"move": "1"}', tool=True)
    await play(env, model)
    assert [tool.name for tool in model.tools] == ["make_move"]
    for options, expected in (({"MCP": "1"}, ["count"]), ({}, [])):
        await env._teardown()
        env.set_server_url(running("counter", **options))
        model = Says('{"move": "up"}', tool=bool(expected))
        state = await play(env, model)
        assert state["error"] is None and state["reward"] == 1.0
        assert [tool.name for tool in model.tools or ()] == expected
    await env._teardown()
