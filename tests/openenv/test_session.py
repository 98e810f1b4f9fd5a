"""A session's wire, in both dialects, against real servers."""

from __future__ import annotations

import asyncio

import pytest

from verifiers.openenv.errors import ActionRejected, CapacityReached, SessionLost
from verifiers.openenv.probe import fetch_schema, health_problem, new_client, wait_until_healthy
from verifiers.openenv.schema import contract_of
from verifiers.openenv.session import connect as open_any
from verifiers.openenv.wire import RPCError


@pytest.fixture
async def client():
    async with new_client("http:") as made:
        yield made


@pytest.fixture
async def connect(client):
    """Opens sessions, and closes them after the test."""
    opened = []

    async def open_session(url, **options):
        opened.append(await open_any(url, client, **options))
        return opened[-1]

    yield open_session
    for session in opened:
        await session.close()


async def test_a_websocket_episode(running, connect):
    session = await connect(running("counter"))
    first = await session.reset(seed=5)
    assert session.dialect == "ws"
    assert first.observation == {"seed": 5, "count": 0} and first.reward is None and not first.done
    for count in (1, 2, 3):
        result = await session.step({"move": "up"})
        assert result.observation["count"] == count and result.reward == 1.0 and "pid" in result.metadata
    assert result.done
    assert (await session.reset(seed=6)).observation == {"seed": 6, "count": 0}
    await session.close()
    with pytest.raises(SessionLost, match="is over"):
        await session.step({"move": "up"})


async def test_the_seeds_gym_server_is_played_over_http(running, connect):
    session = await connect(running("seed_gym"))
    assert session.dialect == "http"
    first, again = await session.reset(seed=3), await session.reset(seed=3)
    other = await session.reset(seed=4)
    assert first.observation == again.observation != other.observation and first.info == {}
    result = await session.step({"action": "1"})
    assert result.reward == 1.0 and not result.done and isinstance(result.observation, str)


async def test_the_seeds_mcp_server_lists_tools_and_a_call_is_a_step(running, connect):
    session = await connect(running("seed_mcp"))
    assert (await session.reset(seed=2)).observation["total"] == 2
    (tool,) = await session.list_tools()
    assert tool.name == "make_move" and tool.parameters["required"] == ["move"]
    await session.step({"type": "call_tool", "tool_name": "make_move", "arguments": {"move": "3"}})
    last = await session.step({"type": "call_tool", "tool_name": "make_move", "arguments": {"move": "2"}})
    assert last.done and last.reward == 1.0


async def test_tools_over_the_mcp_frame(running, connect):
    session = await connect(running("counter", MCP="1"))
    await session.reset(seed=1)
    assert [tool.name for tool in await session.list_tools()] == ["count"]
    gym = await connect(running("counter"))
    with pytest.raises(RPCError, match=r"MCP RPC error \(-32603\): no MCP here"):
        await gym.list_tools()
    assert (await gym.reset(seed=1)).observation["seed"] == 1


@pytest.mark.parametrize(
    ("move", "code", "text"),
    [
        ("sideways", "VALIDATION_ERROR", "move: 'sideways' is not a move"),
        ("crash", "EXECUTION_ERROR", "the abacus fell over"),
    ],
)
async def test_a_refused_action_leaves_the_session_alive(running, connect, move, code, text):
    session = await connect(running("counter"))
    await session.reset(seed=1)
    with pytest.raises(ActionRejected, match=text) as caught:
        await session.step({"move": move})
    assert caught.value.code == code
    assert (await session.step({"move": "up"})).observation["count"] == 1


async def test_an_http_500_of_a_healthy_server_is_the_actions_fault(running, connect):
    session = await connect(running("seed_gym"))
    await session.reset(seed=1)
    with pytest.raises(ActionRejected, match="Internal Server Error") as caught:
        await session.step({"action": "left"})
    assert caught.value.code == "HTTP_500"
    assert (await session.step({"action": "0"})).reward == 1.0


async def test_an_http_422_says_what_is_wrong(running, connect):
    session = await connect(running("seed_gym"))
    with pytest.raises(SessionLost, match=r"OpenEnv reset failed for seed=x \(HTTP_422\): query\.seed: .*integer"):
        await session.reset(seed="x")  # ty: ignore[invalid-argument-type]
    assert not session.interrupted


@pytest.mark.parametrize("move", ["die", "nonsense", "nan"])
async def test_a_lost_session_is_infrastructure(running, connect, move):
    session = await connect(running("counter"))
    await session.reset(seed=1)
    with pytest.raises(SessionLost):
        await session.step({"move": move})
    assert session.lost


async def test_no_answer_in_time_ends_the_session(running, connect, client):
    url = running("counter")
    session = await connect(url, timeout=0.2)
    await session.reset(seed=1)
    with pytest.raises(SessionLost, match=r"did not answer within 0\.2 s"):
        await session.step({"move": "hang"})
    with pytest.raises(SessionLost, match="is over"):
        await session.step({"move": "up"})
    assert await health_problem(client, url) is None


async def test_a_cancelled_step_closes_the_connection(running, connect):
    session = await connect(running("counter"))
    await session.reset(seed=1)
    task = asyncio.create_task(session.step({"move": "slow"}))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session.lost and session.interrupted


async def test_a_full_server_says_so_unasked(running, connect):
    url = running("counter", CAPACITY="1")
    first = await connect(url)
    await first.reset(seed=1)
    second = await connect(url)
    with pytest.raises(CapacityReached) as caught:
        await second.reset(seed=2)
    assert caught.value.limit == 1
    # The place is free as soon as close() returns, not some time later.
    for seed in range(5):
        await first.close()
        first = await connect(url)
        assert (await first.reset(seed=seed)).observation["seed"] == seed


async def test_a_failing_reset_is_nobodys_action(running, connect):
    session = await connect(running("counter"))
    with pytest.raises(
        SessionLost, match=r"OpenEnv reset failed for seed=1313 \(EXECUTION_ERROR\): thirteen is unlucky"
    ):
        await session.reset(seed=1313)


async def test_nobody_there(connect):
    with pytest.raises(SessionLost, match=r"No session on the OpenEnv server at http://127\.0\.0\.1:9"):
        await connect("http://127.0.0.1:9")


async def test_the_schema_tells_the_contract(running, client):
    assert contract_of((await fetch_schema(client, running("seed_gym")))["action"]) == "gym"
    assert contract_of((await fetch_schema(client, running("seed_mcp")))["action"]) == "mcp"
    assert contract_of({"properties": {"type": {"enum": ["list_tools", "call_tool"]}}}) == "mcp"
    assert (
        contract_of(
            {
                "anyOf": [
                    {"properties": {"type": {"const": "list_tools"}}},
                    {"properties": {"tool_name": {}, "arguments": {}}},
                ]
            }
        )
        == "mcp"
    )
    assert contract_of({"properties": {"type": {"type": "string"}, "message": {"type": "string"}}}) == "gym"


async def test_a_plain_server_that_was_started_anew_has_no_episode(serve, connect, client):
    source = serve("counter")
    (source.folder / "server.py").write_text(RESTARTED)
    child = source.spawn()
    await wait_until_healthy(child, client)
    session = await connect(child.url)
    assert session.dialect == "http" and (await session.reset(1)).observation == {}
    with pytest.raises(ActionRejected, match="taken already"):
        await session.step({"cell": 1})
    with pytest.raises(SessionLost, match="has no episode any more: No episode is running: POST /reset first"):
        await session.step({"cell": 2})


RESTARTED = """
from fastapi import FastAPI, HTTPException
app = FastAPI()
@app.get("/health")
def health(): return {}
@app.post("/reset")
def reset(): return {"observation": {}}
@app.post("/step")
def step(action: dict):
    raise HTTPException(409, "This cell is taken already" if action["cell"] == 1 else "No episode is running: POST /reset first.")
"""
