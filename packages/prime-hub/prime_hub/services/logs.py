"""A sandbox's log, told to those who follow it: from where they have come to, held until there is more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from prime_hub.db.models import Account, Sandbox
from prime_hub.errors import HubError
from prime_hub.services.queue import LIVE, WAITING
from prime_hub.services.runner import Runner
from prime_hub.services.sandboxes import Sandboxes
from prime_hub.services.signals import Signals

AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class LogText:
    """What came from an offset on, the offset to go on with, and whether that is all there will ever be."""

    text: str
    offset: int
    complete: bool


class Logs:
    """Reads the logs of sandboxes on record."""

    def __init__(self, sandboxes: Sandboxes, signals: Signals, runner: Runner) -> None:
        self._sandboxes = sandboxes
        self._signals = signals
        self._runner = runner

    async def read(self, account: Account, sandbox_id: str, offset: int, wait: float) -> LogText:
        """From byte `offset` on, a negative one counted from the end. While there is nothing yet and the sandbox has
        not ended, it waits for at most `wait` seconds. Raises NotFound.

        A runner that is away meanwhile is waited for; bytes keep their numbers.
        """
        await self._sandboxes.row(account, sandbox_id)
        nothing = LogText("", offset, False)
        return await self._signals.held(self._read(account, sandbox_id, offset, wait), nothing)

    async def _read(self, account: Account, sandbox_id: str, offset: int, wait: float) -> LogText:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            row = await self._row(account, sandbox_id, deadline - loop.time())
            if row.placed_at is None and row.status in LIVE:
                return LogText("", offset, False)
            left = max(0.0, deadline - loop.time())
            try:
                client = await self._runner.client(wait=left)
                found = LogText(**await client.hold(f"/sandboxes/{sandbox_id}/logs", left, offset=offset))
            except HubError:
                if row.status not in LIVE:
                    return _kept(row, offset)
            else:
                if found.complete and row.status in LIVE:
                    # Who asks for the sandbox next finds that it has ended, and how.
                    await self._sandboxes.refresh(sandbox_id)
                return found
            await self._sandboxes.refresh(sandbox_id)
            if loop.time() >= deadline:
                return LogText("", offset, False)
            await asyncio.sleep(min(AGAIN_SECONDS, deadline - loop.time()))

    async def _row(self, account: Account, sandbox_id: str, wait: float) -> Sandbox:
        """The record, once a runner has the sandbox, or after `wait` seconds as it is then."""

        async def look() -> Sandbox:
            return await self._sandboxes.row(account, sandbox_id)

        row = await look()
        if wait <= 0 or row.placed_at is not None or row.status not in WAITING:
            return row
        return await self._signals.until(
            f"sandbox/{sandbox_id}", wait, look, lambda row: row.placed_at is not None or row.status not in WAITING
        )


def _kept(row: Sandbox, offset: int) -> LogText:
    """Of the end of a log that outlived its runner's. Nobody knows any more where in the whole it lies, so who has read
    a part of it has read all.
    """
    data = (row.last_log or "").encode()
    return LogText(data[offset:].decode("utf-8", "replace") if offset <= 0 else "", len(data), True)
