"""The queue of starts: order, adapting, memory, and turns that are given up."""

import asyncio
import contextlib

from prime_hub.runner.machine import Capacity
from prime_hub.runner.ramp import Ramp

GIB = 1 << 30


def _ramp(cpus: float = 2.0, available: int = 8 * GIB, running: int = 1) -> Ramp:
    return Ramp(lambda: running, lambda: Capacity(cpus, 16 * GIB, available))


class Server:
    """What a start brings up; it listens once it is told to."""

    def __init__(self) -> None:
        self.listens = False

    async def ready(self) -> bool:
        return self.listens


async def _start(ramp: Ramp, server: Server, order: list[Server]) -> None:
    async with ramp.turn("image", lambda: None) as turn:
        order.append(server)
        turn.ready = server.ready


def test_no_more_start_at_once_than_two_a_processor_and_in_order() -> None:
    async def go() -> None:
        ramp, order = _ramp(), []
        servers = [Server() for _ in range(6)]
        tasks = []
        for server in servers:
            tasks.append(asyncio.create_task(_start(ramp, server, order)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)
        assert order == servers[:4] and ramp.waiting == 2
        for number, server in enumerate(servers):
            while server not in order:  # noqa: ASYNC110 - the order is what is looked at
                await asyncio.sleep(0.01)
            assert order == servers[: len(order)], number
            server.listens = True
        await asyncio.gather(*tasks)
        await ramp.close()

    asyncio.run(go())


def test_more_start_at_once_when_that_slows_nobody_down() -> None:
    async def go() -> None:
        ramp, order = _ramp(), []
        before = ramp.limit
        servers = [Server() for _ in range(40)]
        for server in servers:
            server.listens = True
        await asyncio.gather(*(_start(ramp, server, order) for server in servers))
        assert ramp.limit > before
        assert ramp.limit <= 16
        await ramp.close()

    asyncio.run(go())


def test_a_start_waits_for_memory_unless_nothing_runs() -> None:
    async def go() -> None:
        free = [GIB // 4]
        ramp = Ramp(lambda: 1, lambda: Capacity(2.0, 16 * GIB, free[0]))
        order: list[Server] = []
        server = Server()
        waiting = asyncio.create_task(_start(ramp, server, order))
        await asyncio.sleep(0.2)
        assert not order and ramp.waiting == 1
        free[0] = 8 * GIB
        await asyncio.wait_for(waiting, 10)
        assert order == [server]
        await ramp.close()
        alone = Ramp(lambda: 0, lambda: Capacity(2.0, 16 * GIB, 0))
        await asyncio.wait_for(_start(alone, server, order), 10)
        await alone.close()

    asyncio.run(go())


def test_a_turn_that_is_given_up_or_fails_is_the_next_ones() -> None:
    async def go() -> None:
        ramp, order = _ramp(cpus=0.5), []
        first, last = Server(), Server()
        await _start(ramp, first, order)
        given_up = asyncio.create_task(_start(ramp, Server(), order))
        await asyncio.sleep(0)
        failing = asyncio.create_task(_fail(ramp))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(_start(ramp, last, order))
        await asyncio.sleep(0.2)
        assert ramp.waiting == 3
        given_up.cancel()
        first.listens = True
        with contextlib.suppress(RuntimeError):
            await failing
        await asyncio.wait_for(waiting, 10)
        assert order == [first, last]
        await ramp.close()

    asyncio.run(go())


async def _fail(ramp: Ramp) -> None:
    async with ramp.turn("image", lambda: None):
        raise RuntimeError("no start")
