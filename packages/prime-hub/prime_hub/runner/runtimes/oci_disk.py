"""The limit of what a sandbox writes, where the engine's storage cannot hold it to one: looked at, and ended beyond it.

There is nothing to wait for, so what a container's own layer takes is counted every second or so, never for more than
a tenth of the time. A fast writer gets some seconds' worth beyond its limit before it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prime_hub.runner.runtimes.base import RunnerError

if TYPE_CHECKING:
    from prime_hub.runner.runtimes.oci_sandbox import ContainerSandbox

LOOK_SECONDS = 1.0
REST = 10
LONGEST_REST_SECONDS = 15.0

log = logging.getLogger("prime_hub.runner")


class DiskWatch:
    """Ends sandboxes whose own layer has grown beyond their limit; for a runner that may read the engine's storage."""

    def __init__(self) -> None:
        self._boxes: dict[str, tuple[ContainerSandbox, Path, int]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, box: ContainerSandbox, layer: Path, limit: int) -> None:
        """Watch a sandbox's layer, in bytes."""
        self._boxes[box.id] = (box, layer, limit)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="disk")

    def forget(self, sandbox_id: str) -> None:
        """Watch it no longer."""
        self._boxes.pop(sandbox_id, None)

    async def close(self) -> None:
        """Stop."""
        self._boxes.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        pause = LOOK_SECONDS
        while self._boxes:
            await asyncio.sleep(pause)
            began = time.monotonic()
            for box, layer, limit in list(self._boxes.values()):
                if await asyncio.to_thread(grown_beyond, layer, limit):
                    self.forget(box.id)
                    await self._end(box, limit)
            pause = min(LONGEST_REST_SECONDS, max(LOOK_SECONDS, REST * (time.monotonic() - began)))

    async def _end(self, box: ContainerSandbox, limit: int) -> None:
        box.disk_message = (
            f"The sandbox wrote more than its {limit / (1 << 30):.3g} GiB of disk and was ended; give it more, or let it "
            "write less."
        )
        try:
            await box.engine.json("POST", f"containers/{box.container}/kill")
        except RunnerError as error:
            log.warning("sandbox %s is beyond its disk and cannot be ended: %s", box.id, error)


def grown_beyond(folder: Path, limit: int) -> bool:
    """Whether what lies in a folder takes more than `limit` bytes of disk; counted no further than that."""
    taken, todo = 0, [os.fspath(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        taken += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                    if taken > limit:
                        return True
        except OSError:  # it went away meanwhile
            continue
    return False
