"""Leasing sessions: how many servers there are, what is learnt, what survives."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from verifiers.errors import SandboxError
from verifiers.openenv.errors import ContractMismatch, ServerStartError, SessionLost
from verifiers.openenv.pool import Lease, Pool, PoolOptions
from verifiers.openenv.session import connect
from verifiers.openenv.source import Room, URLSource


@pytest.fixture
async def pool_of():
    pools = []

    def make(source, check=None, **options) -> Pool:
        pools.append(Pool(source, PoolOptions(**{"startup_timeout": 30.0, "poll_interval": 0.1, **options}), check))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()


async def play(pool: Pool, seed: int, action: dict | None = None, pause: Callable[[], float] = lambda: 0.0) -> int:
    """One episode of the counter; the pid of the server it ran on. Every answer must be this episode's own."""
    lease = await pool.begin(seed)
    try:
        assert lease.first.observation == {"seed": seed, "count": 0}
        for count in (1, 2, 3):
            await asyncio.sleep(pause())
            result = await lease.session.step(action or {"move": "up"})
            assert result.observation == {"seed": seed, "count": count}
        assert result.done
        return result.metadata["pid"]
    finally:
        await pool.end(lease)


async def test_one_server_carries_many_sessions(serve, pool_of):
    pool = pool_of(source := serve("counter"))
    pids = await asyncio.gather(*(play(pool, seed) for seed in range(40)))
    assert len(set(pids)) == 1 and len(source.children) == 1


@pytest.mark.parametrize("capacity", [1, 3])
async def test_capacity_is_learnt_and_servers_never_outnumber_rollouts(serve, pool_of, capacity):
    pool = pool_of(source := serve("counter", CAPACITY=str(capacity)))
    at_once = asyncio.Semaphore(6)

    async def rollout(seed):
        async with at_once:
            return await play(pool, seed, {"move": "slow"})

    await asyncio.gather(*(rollout(seed) for seed in range(15)))
    assert 1 <= len(source.children) == pool.most_servers <= 6 // capacity


async def test_servers_start_while_rollouts_wait_when_sessions_are_long(serve, pool_of):
    pool = pool_of(source := serve("counter", CAPACITY="1"))
    began: list[Lease] = []
    all_began = asyncio.Event()

    async def hold(seed: int) -> None:
        lease = await pool.begin(seed)
        began.append(lease)
        if len(began) == 3:
            all_began.set()
        await all_began.wait()
        await pool.end(lease)

    async with asyncio.timeout(120):
        await asyncio.gather(*(hold(seed) for seed in range(3)))
    assert len({lease.url for lease in began}) == len(source.children) == 3


async def test_no_server_is_started_that_would_come_too_late(serve, pool_of):
    pool = pool_of(source := serve("counter", CAPACITY="1"))
    await play(pool, 0)  # an episode of milliseconds on a server that takes far longer to start
    await asyncio.gather(*(play(pool, seed) for seed in range(1, 9)))
    assert len(source.children) == 1


async def test_a_plain_http_server_is_one_session_and_is_used_again_by_reset(serve, pool_of):
    pool = pool_of(source := serve("seed_mcp"))
    at_once = asyncio.Semaphore(3)

    async def rollout(seed):
        async with at_once:
            lease = await pool.begin(seed)
            assert lease.first.observation["total"] == seed % 5
            result = await lease.session.step({"tool_name": "make_move", "arguments": {"move": "2"}})
            await pool.end(lease)
            assert result.observation["total"] == seed % 5 + 2

    await asyncio.gather(*(rollout(seed) for seed in range(12)))
    assert 1 <= len(source.children) <= 3


async def test_a_sandbox_for_every_rollout(serve, pool_of):
    pool = pool_of(source := serve("counter"), isolation="sandbox")
    at_once = asyncio.Semaphore(2)

    async def rollout(seed):
        async with at_once:
            return await play(pool, seed)

    pids = await asyncio.gather(*(rollout(seed) for seed in range(4)))
    assert len(set(pids)) == 4 and not source.alive and pool.most_servers <= 2


async def test_a_server_that_died_idle_is_replaced_unnoticed(serve, pool_of):
    pool = pool_of(source := serve("counter"))
    await play(pool, 1)
    os.killpg(source.children[0].pid, signal.SIGKILL)
    source.children[0].process.wait()
    await play(pool, 2)
    assert len(source.children) == 2 and pool.servers == 1


async def test_a_server_that_dies_in_an_episode_is_explained_and_replaced(serve, pool_of):
    pool = pool_of(source := serve("counter"))
    lease = await pool.begin(1)
    with pytest.raises(SessionLost) as caught:
        await lease.session.step({"move": "die"})
    explained = await pool.explain(lease, caught.value)
    assert "ended in the middle of an episode (exit code 9)" in str(explained)
    assert str(explained).endswith("Logs (tail):\nsomebody pulled the plug"), "nothing of what went well"
    await pool.end(lease)
    await play(pool, 2)
    assert len(source.children) == 2


async def test_a_lost_session_of_a_living_server_costs_no_server(serve, pool_of):
    pool = pool_of(source := serve("counter"))
    lease = await pool.begin(1)
    with pytest.raises(SessionLost) as caught:
        await lease.session.step({"move": "nonsense"})
    assert await pool.explain(lease, caught.value) is caught.value
    await pool.end(lease)
    await play(pool, 2)
    assert len(source.children) == 1


async def test_a_crash_on_start_is_noticed_at_once_and_shows_the_log(serve, pool_of):
    crash = [sys.executable, "-c", "import sys; print('the board is missing'); sys.exit(3)"]
    pool = pool_of(source := serve("counter", command=crash), startup_timeout=60.0)
    results = await asyncio.gather(*(pool.begin(seed) for seed in range(8)), return_exceptions=True)
    for error in results:
        assert isinstance(error, ServerStartError)
        assert "exited on start (exit code 3)" in str(error) and "the board is missing" in str(error)
    assert len(source.children) == 1, "one start tells all that wait"
    for _ in range(5):
        with pytest.raises(ServerStartError, match="the board is missing"):
            await pool.begin(1)
    assert len(source.children) == 3, "further leases fail at once after three failed starts"


async def test_a_server_that_never_becomes_healthy(serve, pool_of):
    sleeper = [sys.executable, "-c", "import time; print('thinking', flush=True); time.sleep(60)"]
    pool = pool_of(source := serve("counter", command=sleeper), startup_timeout=0.5)
    with pytest.raises(ServerStartError, match=r"(?s)not ready\. Health check timeout=0\.5s.*/health.*thinking"):
        await pool.begin(1)
    assert not source.alive


async def test_a_failed_check_is_told_to_everybody_and_for_good(serve, pool_of):
    async def refuse(url, client):
        raise ContractMismatch("OpenEnv contract mismatch")

    pool = pool_of(source := serve("counter"), check=refuse)
    for _ in range(3):
        with pytest.raises(ContractMismatch):
            await pool.begin(1)
    assert len(source.children) == 1 and not source.alive


async def test_a_cancelled_rollout_gives_its_place_back(serve, pool_of):
    pool = pool_of(source := serve("counter", CAPACITY="1"), parallel_starts=1)
    holder = await pool.begin(1)
    waiting = [asyncio.create_task(pool.begin(seed)) for seed in (2, 3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await pool.end(holder)
    lease = await waiting[1]
    assert lease.first.observation["seed"] == 3
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    stepping = asyncio.create_task(lease.session.step({"move": "hang"}))
    await asyncio.sleep(0.05)
    stepping.cancel()
    await asyncio.gather(stepping, return_exceptions=True)
    await pool.end(lease)
    await play(pool, 4)
    assert len(source.alive) <= 2


async def test_an_interrupted_plain_http_server_is_not_used_again(serve, pool_of):
    pool = pool_of(source := serve("seed_gym"))
    lease = await pool.begin(1)
    task = asyncio.create_task(lease.session.step({"action": "1"}))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await pool.end(lease)
    assert not source.alive
    await pool.end(await pool.begin(2))
    assert len(source.alive) == 1


async def test_a_server_that_somebody_else_runs(running, pool_of):
    url = running("counter", CAPACITY="2")
    pool, other = pool_of(URLSource(url)), pool_of(URLSource(url))
    held = await other.begin(99)
    pids = await asyncio.gather(*(play(pool, seed) for seed in range(6)))
    assert len(set(pids)) == 1 and pool.servers == 1
    await other.end(held)
    with pytest.raises(ValueError, match="server_url must begin with http"):
        URLSource("localhost:8000")


async def test_nothing_runs_after_close_and_nobody_waits_in_vain(serve, pool_of):
    pool = pool_of(source := serve("counter", CAPACITY="1"), parallel_starts=1)
    await pool.begin(1)
    waiting = [asyncio.create_task(pool.begin(seed)) for seed in range(3)]
    await asyncio.sleep(0.05)
    await pool.close()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, SandboxError)
    assert not source.alive
    with pytest.raises(SessionLost, match="teardown"):
        await pool.begin(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the first loop's sockets went with it
def test_servers_are_stopped_from_another_event_loop(serve):
    source = serve("counter")
    pool = Pool(source)
    asyncio.run(pool.begin(1))
    assert len(source.alive) == 1
    asyncio.run(pool.close())
    assert not source.alive
    del pool
    gc.collect()


async def test_what_the_machine_bears_bounds_the_servers(serve, pool_of):
    source = serve("counter", CAPACITY="1")
    asked = []

    async def room(server):
        asked.append(server.url)
        return Room(servers=2 - len(source.children), starts=1)

    source.room = room
    pool = pool_of(source)
    pids = await asyncio.gather(*(play(pool, seed, {"move": "slow"}) for seed in range(8)))
    assert len(set(pids)) == len(source.children) == 2, "the first, which is the measure, and the one there is room for"
    assert asked and set(asked) <= {child.url for child in source.children}
    await pool.close()


async def test_no_more_servers_than_wanted(serve, pool_of):
    pool = pool_of(source := serve("counter", CAPACITY="1"), max_servers=2)
    await asyncio.gather(*(play(pool, seed, {"move": "slow"}) for seed in range(8)))
    assert len(source.children) == 2


async def test_a_full_machine_is_asked_again(serve, pool_of, monkeypatch):
    monkeypatch.setattr("verifiers.openenv.room.FRESH_SECONDS", 0.2)
    source = serve("counter", CAPACITY="1")
    answers = [Room(0, 1), Room(0, 1)]

    async def room(server):
        return answers.pop(0) if answers else Room(5, 2)

    source.room = room
    pool = pool_of(source)
    await asyncio.gather(*(play(pool, seed, {"move": "slow"}) for seed in range(8)))
    assert not answers and len(source.children) > 1


async def test_a_session_through_a_unix_socket(serve, running, tmp_path):
    source = serve("counter")
    path = str(tmp_path / "s")
    source.command = [sys.executable, "-m", "uvicorn", "server:app", "--uds", path]
    behind = source.spawn()
    while not Path(path).exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    session = await connect("http://127.0.0.1:1", None, socket_path=path)
    assert (await session.reset(5)).observation == {"seed": 5, "count": 0}
    assert (await session.step({"move": "up"})).metadata["pid"] == behind.pid
    await session.close()
    session = await connect(running("counter"), None, socket_path=str(tmp_path / "nobody"))
    assert (await session.reset(6)).observation["seed"] == 6, "where nobody listens on it, the port will do"
    await session.close()


async def test_many_refused_at_once_are_refused_once(running, pool_of):
    url = running("counter", CAPACITY="64")
    other, pool = pool_of(URLSource(url)), pool_of(URLSource(url))
    held = await asyncio.gather(*(other.begin(seed) for seed in range(24)))
    playing = asyncio.gather(*(play(pool, seed, {"move": "slow"}) for seed in range(120)))
    await asyncio.gather(playing)
    for lease in held:
        await other.end(lease)


async def test_a_capacity_that_was_learnt_too_low_is_corrected(serve, pool_of):
    source = serve("counter", CAPACITY="3")
    server = source.folder / "server.py"
    server.write_text(server.read_text().replace("max_sessions=CAPACITY,", ""))
    pool = pool_of(source, max_servers=1)
    await asyncio.gather(*(play(pool, seed, {"move": "slow"}) for seed in range(12)))
    leases = await asyncio.wait_for(asyncio.gather(*(pool.begin(seed) for seed in range(3))), 10)
    for lease in leases:
        await pool.end(lease)


async def test_giving_up_while_a_dead_server_is_stopped_costs_no_place(serve, pool_of):
    source = serve("counter")
    pool = pool_of(source, max_servers=1)
    await play(pool, 1)
    (child,) = source.children
    stop, stopping = child.stop, asyncio.Event()

    async def slow() -> None:
        stopping.set()
        await asyncio.sleep(0.3)
        await stop()

    child.stop = slow
    os.killpg(child.pid, signal.SIGKILL)
    child.process.wait()
    waiting = asyncio.create_task(pool.begin(2))
    await stopping.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(play(pool, 3), 20)


async def test_a_lease_that_is_on_its_way_fails_when_the_servers_are_stopped(serve, running, pool_of):
    for source in (serve("counter"), URLSource(running("counter"))):
        pool = pool_of(source)
        await play(pool, 1)
        on_its_way = [asyncio.create_task(pool.begin(seed, {"pause": 20})) for seed in range(3)]
        await asyncio.sleep(0.2)
        await pool.close()
        for result in await asyncio.wait_for(asyncio.gather(*on_its_way, return_exceptions=True), 10):
            assert isinstance(result, SessionLost) and "(teardown)" in str(result), repr(result)


async def test_a_busy_server_is_not_stopped_under_the_feet_of_others(serve, pool_of):
    pool = pool_of(source := serve("counter"), health_timeout=0.4)
    given_up, other = await pool.begin(1), await pool.begin(2)
    step = asyncio.create_task(given_up.session.step({"move": "hang"}))
    await asyncio.sleep(0.1)
    os.kill(source.children[0].pid, signal.SIGSTOP)
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    ending = asyncio.create_task(pool.end(given_up))
    await asyncio.sleep(0.8)
    os.kill(source.children[0].pid, signal.SIGCONT)
    await ending
    assert (await other.session.step({"move": "up"})).observation == {"seed": 2, "count": 1}
    await pool.end(other)
    assert len(source.children) == len(source.alive) == 1
