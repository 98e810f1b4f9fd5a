"""The wire of every OpenEnv version, by our session alone: what is answered, refused, lost."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from tests.versions.conftest import METADATA
from verifiers.openenv import probe
from verifiers.openenv.errors import ActionRejected, CapacityReached, SessionLost
from verifiers.openenv.session import WebSocketSession, connect


@asynccontextmanager
async def opened(url: str, timeout: float = 30.0):
    async with probe.new_client("http:") as client:
        session = await connect(url, client, timeout=timeout)
        assert isinstance(session, WebSocketSession)
        try:
            yield session
        finally:
            await session.close()


async def test_reset_step_and_state(shared, version):
    async with opened(shared(version, "bench:app")) as session:
        first = await session.reset(5, {"episode_id": "e5"})
        assert (first.observation["seed"], first.observation["total"], first.reward, first.done) == (5, 0, None, False)
        moved = await session.step({"move": "add", "amount": 3, "place": {"x": 1, "y": 2}})
        assert (moved.reward, moved.done, moved.observation["total"]) == (13.0, False, 13)
        assert await session.state() == {"episode_id": "e5", "step_count": 1, "total": 13}
        last = await session.step({"move": "add", "amount": 10})
        assert last.done and last.observation["total"] == 23
        again = await session.reset(6, {"total": 4})
        assert (again.observation["seed"], again.observation["total"], again.done) == (6, 4, False)


@pytest.mark.parametrize("seed", [None, -3, 0, 2**40])
async def test_any_seed_or_none(shared, version, seed):
    async with opened(shared(version, "bench:app")) as session:
        assert (await session.reset(seed)).observation["seed"] == seed


async def test_metadata_where_a_version_sends_it(shared, version):
    async with opened(shared(version, "bench:app")) as session:
        first, moved = await session.reset(1), await session.step({"move": "add"})
    assert [first.metadata, moved.metadata] == ([{"steps": 0}, {"steps": 1}] if METADATA[version] else [None, None])
    assert ("metadata" in moved.observation) == METADATA[version]


@pytest.mark.parametrize(
    ("action", "code", "text"),
    [
        ({"move": "fly"}, "VALIDATION_ERROR", "move: Input should be 'add', 'slow', 'crash', 'die' or 'picture'"),
        ({"move": "add", "amount": "x"}, "VALIDATION_ERROR", "amount: Input should be a valid integer, unable to"),
        ({"move": "add", "amount": 11}, "VALIDATION_ERROR", "amount: Input should be less than or equal to 10"),
        ({"move": "add", "place": {"x": 1, "y": "b"}}, "VALIDATION_ERROR", "place.y: Input should be a valid integer"),
        ({"move": "add", "place": {"x": 1}}, "VALIDATION_ERROR", "place.y: Field required"),
        ({"move": "add", "speed": 3}, "VALIDATION_ERROR", "speed: Extra inputs are not permitted"),
        ({"amount": [1, 2], "move": None}, "VALIDATION_ERROR", "move: Input should be"),
        ({"move": "crash"}, "EXECUTION_ERROR", "the abacus fell over"),
    ],
)
async def test_a_refused_action_leaves_the_session_alive(shared, version, action, code, text):
    async with opened(shared(version, "bench:app")) as session:
        await session.reset(1)
        with pytest.raises(ActionRejected) as refused:
            await session.step(action)
        assert refused.value.code == code and text in str(refused.value) and "\n" not in str(refused.value)
        assert (await session.step({"move": "add", "amount": 2})).observation["total"] == 2


async def test_a_reset_that_fails(shared, version):
    async with opened(shared(version, "bench:app")) as session:
        with pytest.raises(SessionLost, match=r"reset failed for seed=1313 \(EXECUTION_ERROR\): thirteen is unlucky"):
            await session.reset(1313)


async def test_an_environment_that_cannot_be_made(sources, version):
    source = sources(version, "bench:app", BROKEN="1")
    url = source.spawn().url
    async with probe.new_client("http:") as client:
        await probe.wait_until_healthy(source.children[0], client)
    async with opened(url) as session:
        with pytest.raises(SessionLost, match=r"ended the session \(FACTORY_ERROR\): .*Bench"):
            await session.reset(1)


async def test_a_full_server_says_so_unasked(sources, version):
    source = sources(version, "bench:app", CAPACITY="1")
    url = source.spawn().url
    async with probe.new_client("http:") as client:
        await probe.wait_until_healthy(source.children[0], client)
    async with opened(url) as first:
        await first.reset(1)
        for _ in range(3):
            async with opened(url) as second:
                with pytest.raises(CapacityReached) as refused:
                    await second.reset(2)
                assert refused.value.limit == 1
        assert (await first.step({"move": "add"})).reward == 1.0
    async with opened(url) as third:
        assert (await third.reset(3)).observation["seed"] == 3


async def test_an_answer_that_comes_too_late_is_nobodys(shared, version):
    url = shared(version, "bench:app")
    async with opened(url) as session:
        await session.reset(1)
        with pytest.raises(SessionLost, match=r"did not answer within 0\.5 s"):
            await session.step({"move": "slow"}, timeout=0.5)
        with pytest.raises(SessionLost, match="is over"):
            await session.step({"move": "add"})
    async with opened(url) as session:
        assert (await session.reset(2)).observation["total"] == 0


async def test_a_server_that_dies_in_a_step(sources, version):
    source = sources(version, "bench:app")
    url = source.spawn().url
    async with probe.new_client("http:") as client:
        await probe.wait_until_healthy(source.children[0], client)
    async with opened(url) as session:
        await session.reset(1)
        with pytest.raises(SessionLost, match="closed the connection on a step"):
            await session.step({"move": "die"})


async def test_tools_of_fastmcp(shared, version):
    async with opened(shared(version, "toolbox:app")) as session:
        assert (await session.reset(3)).observation["seed"] == 3
        tools = {tool.name: tool for tool in await session.list_tools()}
        assert set(tools) == {"saw", "measure", "look", "look_and_tell", "hammer", "sleep", "die"}
        saw = tools["saw"]
        assert saw.description == "Cut a board; what is left of a hundred comes back."
        assert saw.parameters["required"] == ["length"] and saw.parameters["properties"]["wood"]["enum"] == [
            "oak",
            "ash",
        ]
        answer = await session.step({"type": "call_tool", "tool_name": "saw", "arguments": {"length": 3}})
        assert answer.observation["tool_name"] == "saw" and answer.observation["result"]["data"] == 97
        assert (await session.list_tools())[0].name in tools, "also in the middle of an episode"


async def test_list_tools_as_a_step(shared, version):
    """openenv-core 0.2 refuses it, so the tools of an episode never depend on it."""
    async with opened(shared(version, "toolbox:app")) as session:
        await session.reset(3)
        if version == "0.2.1":
            with pytest.raises(ActionRejected) as refused:
                await session.step({"type": "list_tools"})
            assert refused.value.code == "VALIDATION_ERROR"
        else:
            answer = await session.step({"type": "list_tools"})
            assert "saw" in [tool["name"] for tool in answer.observation["tools"]]


async def test_tools_that_are_actions_of_the_environments_own(shared, version):
    async with opened(shared(version, "desk:app")) as session:
        await session.reset(1)
        (write,) = await session.list_tools()
        assert write.name == "write" and write.parameters["required"] == ["line"]
        answer = await session.step({"type": "call_tool", "tool_name": "write", "arguments": {"line": "four"}})
        assert answer.reward == 4.0


async def test_the_spelling_of_a_tools_schema_differs(shared, version):
    """What makes both spellings necessary, on the wire itself."""
    import json

    from websockets.asyncio.client import connect as open_socket

    url = shared(version, "toolbox:app")
    async with open_socket("ws" + url.removeprefix("http") + "/ws", proxy=None) as socket:
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        await socket.send(json.dumps({"type": "mcp", "data": request}))
        tool = json.loads(await socket.recv())["data"]["result"]["tools"][0]
    assert ("inputSchema" in tool, "input_schema" in tool) == ((True, False) if version == "0.10.0" else (False, True))
