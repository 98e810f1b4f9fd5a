"""When a runner is wanted: by the Hubs of its host, or by what lives in it."""

from __future__ import annotations

import asyncio

import pytest

from prime_hub.runner.presence import Presence


async def test_it_stays_while_any_hub_is_there() -> None:
    presence = Presence(3600, lambda: 0)
    presence.attach(11)
    presence.attach(22)
    presence.detach(11)
    assert presence.hub_pid == 22
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(presence.until_unwanted(), 0.1)
    presence.detach(22)
    assert presence.hub_pid is None
    await asyncio.wait_for(presence.until_unwanted(), 60)


async def test_a_hub_that_was_killed_is_not_waited_for_long() -> None:
    presence = Presence(0.05, lambda: 0)
    presence.attach(11)  # and never again
    await asyncio.sleep(0.06)
    presence.attach(22)
    presence.detach(22)
    await asyncio.wait_for(presence.until_unwanted(), 60)


async def test_what_lives_keeps_it() -> None:
    living = 1
    presence = Presence(3600, lambda: living)
    presence.attach(11)
    presence.detach(11)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(presence.until_unwanted(), 0.1)
    living = 0
    presence.look_again()
    await asyncio.wait_for(presence.until_unwanted(), 60)
