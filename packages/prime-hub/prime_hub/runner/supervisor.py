"""Sandboxes and their ends: leases, deadlines, idle limits, restarts of the runner, and what is kept afterwards.

Each living sandbox is one task that starts it, waits for its exit or for a reason to end it, ends it and cleans up. So
there is one place where a sandbox stops, whatever the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prime_hub.runner.processes import busy_ports, busy_sockets
from prime_hub.runner.records import TAIL_FILE, Record
from prime_hub.runner.runtimes.base import RunnerError, RunningSandbox, Runtime, SandboxSpec

log = logging.getLogger("prime_hub.runner")

GRACE_SECONDS = 2.0
KEPT_ENDED = 1000
KEPT_SECONDS = 3600.0
KEPT_TAIL_BYTES = 65536
IDLE_LOOK_SECONDS = 15.0


class UnknownSandbox(Exception):
    """No sandbox of that id is known."""


class EndedSandbox(Exception):
    """The sandbox has ended; `record` says how."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.error or f"The sandbox {record.spec.id} is {record.status}.")
        self.record = record


class Sandboxes:
    """All sandboxes of one runner. `on_change` is called whenever one begins or ends."""

    def __init__(self, folder: Path, runtime: Runtime, on_change: Callable[[], object]) -> None:
        self._folder = folder
        self._ended = folder.with_name("ended")
        self._runtime = runtime
        self._on_change = on_change
        self._records: dict[str, Record] = {}
        self._idle_task: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Read what an earlier runner left: adopt what lives, end what may not live, remember what has ended."""
        for parent in (self._folder, self._ended):
            parent.mkdir(parents=True, exist_ok=True)
        for folder in sorted([*self._folder.iterdir(), *self._ended.iterdir()]):
            record = Record.load(folder)
            if record is None:
                await self._runtime.sweep(folder.name, folder)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self._records[record.spec.id] = record
            if record.live:
                self._begin(record, adopt=True)
            else:
                self._forget_later(record)

    def create(
        self,
        spec: SandboxSpec,
        *,
        lease_seconds: float | None = None,
        expires_at: float | None = None,
        idle_seconds: float | None = None,
    ) -> Record:
        """Begin to start a sandbox; the one of the same id when there is one already. Raises OSError, RunnerError."""
        known = self._records.get(spec.id)
        if known is not None:
            return known
        if self._closed:
            raise RunnerError("The runner is about to end; ask again.")
        record = Record(spec, self._folder / spec.id, expires_at=expires_at, idle_seconds=idle_seconds)
        record.lease_until = None if lease_seconds is None else time.time() + lease_seconds
        record.folder.mkdir(parents=True, mode=0o700)
        # Without a state on disk a killed runner's successor could not find it.
        record.write()
        self._records[spec.id] = record
        self._begin(record, adopt=False)
        return record

    def _begin(self, record: Record, *, adopt: bool) -> None:
        record.ending = asyncio.get_running_loop().create_future()
        if adopt:
            # What used it since the state was written last is not known, so it is given the benefit of the doubt.
            record.last_used = time.time()
        if record.outcome is not None:
            record.ending.set_result(None)
        record.task = asyncio.create_task(self._live(record, adopt), name=f"sandbox {record.spec.id}")
        self._arm(record)
        if record.idle_seconds is not None and (self._idle_task is None or self._idle_task.done()):
            self._idle_task = asyncio.create_task(self._watch_idle())
        self._on_change()

    async def _live(self, record: Record, adopt: bool) -> None:
        """From the first process to the last trace."""
        outcome: list[str | None] = ["failed", "RUNNER_ERROR", "The runner failed; see runner.log."]
        try:
            running = await self._start(record, adopt)
            if running is None:
                outcome = record.outcome or ["lost", "LOST", "The server ended while the runner was not running."]
            else:
                outcome = await self._until_end(record, running)
        except RunnerError as error:
            outcome = ["failed", error.kind, str(error)]
        except OSError as error:
            outcome = ["failed", "START_FAILED", f"The sandbox could not be started: {error}."]
        except Exception:
            log.exception("sandbox %s", record.spec.id)
        finally:
            await self._clean(record)
            record.status, record.error_type, record.error = str(outcome[0]), outcome[1], outcome[2]
            record.ended_at = time.time()
            if record.timer is not None:
                record.timer.cancel()
            self._put_away(record)
            record.announce()
            log.info("sandbox %s %s %s", record.spec.id, record.status, record.error or "")
            self._forget_later(record)
            self._on_change()

    def _put_away(self, record: Record) -> None:
        """What is kept of an ended sandbox, its state and the end of its log, no longer stands among the living."""
        with contextlib.suppress(OSError):
            record.folder = record.folder.rename(self._ended / record.spec.id)

    async def _start(self, record: Record, adopt: bool) -> RunningSandbox | None:
        def progress(saved: dict[str, Any]) -> None:
            record.saved = saved
            record.save()

        if adopt:
            record.running = await self._runtime.adopt(record.spec, record.folder, record.saved)
        else:
            record.running = await self._runtime.start(record.spec, record.folder, progress)
        if record.running is None:
            return None
        record.saved = record.running.saved()
        record.pid, record.ports = record.running.pid, record.running.ports
        record.host_rewritten = record.running.host_rewritten
        record.status, record.started_at = "running", record.started_at or time.time()
        record.announce()
        log.info("sandbox %s %s pid %s", record.spec.id, "adopted" if adopt else "running", record.pid)
        return record.running

    async def _until_end(self, record: Record, running: RunningSandbox) -> list[str | None]:
        assert record.ending is not None
        exited = asyncio.ensure_future(running.wait())
        try:
            await asyncio.wait({exited, record.ending}, return_when=asyncio.FIRST_COMPLETED)
            if record.outcome is not None:
                return record.outcome
            record.exit_code = exited.result()
            how = "with an unknown code" if record.exit_code is None else f"with code {record.exit_code}"
            return ["exited", "EXITED", f"The start command ended {how}."]
        finally:
            if not exited.done():
                exited.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await exited

    async def _clean(self, record: Record) -> None:
        running = record.running
        try:
            if running is not None:
                await running.end(GRACE_SECONDS)
                with contextlib.suppress(OSError):
                    (record.folder / TAIL_FILE).write_bytes(running.logs(KEPT_TAIL_BYTES))
                record.running = None
                await running.remove()
            else:
                await self._runtime.sweep(record.spec.id, record.folder)
        except Exception:
            log.exception("cleaning up sandbox %s", record.spec.id)
        record.running = None

    def _end(self, record: Record, status: str, error_type: str | None, error: str | None) -> None:
        if record.live and record.outcome is None and record.ending is not None:
            record.outcome = [status, error_type, error]
            # A runner that is killed now leaves it to the next one to end it, as what it was to be.
            record.save()
            record.ending.set_result(None)

    async def delete(self, sandbox_id: str) -> Record:
        """End a sandbox and return when nothing of it is left; one that has ended stays as it is. Raises
        UnknownSandbox.
        """
        record = self.get(sandbox_id)
        self._end(record, "deleted", None, "The sandbox was deleted.")
        if record.task is not None:
            await asyncio.shield(record.task)
        return record

    def renew(self, sandbox_id: str, lease_seconds: float) -> Record:
        """Let the lease run `lease_seconds` from now. Raises UnknownSandbox, EndedSandbox."""
        record = self.usable(sandbox_id, running=False)
        record.lease_until = time.time() + lease_seconds
        record.save()
        self._arm(record)
        return record

    def _arm(self, record: Record) -> None:
        if record.timer is not None:
            record.timer.cancel()
            record.timer = None
        if record.live and record.deadline is not None:
            delay = max(0.0, record.deadline - time.time())
            record.timer = asyncio.get_running_loop().call_later(delay, self._due, record)

    def _due(self, record: Record) -> None:
        now = time.time()
        if record.expires_at is not None and now >= record.expires_at:
            self._end(record, "expired", "TIMEOUT", "The sandbox reached its time limit and was ended.")
        elif record.lease_until is not None and now >= record.lease_until:
            self._end(record, "expired", "TIMEOUT", "The sandbox's lease was not renewed, so it was ended.")
        else:
            self._arm(record)

    async def _watch_idle(self) -> None:
        """End sandboxes that nobody used for their `idle_seconds`; a connection to a port or a unix socket counts as
        use.

        A closed connection to a port stays visible for a minute, so a look every quarter of one misses none; one to a
        unix socket counts while it is open.
        """
        while watched := [
            record for record in self._records.values() if record.live and record.idle_seconds is not None
        ]:
            shortest = min(record.idle_seconds or 0.0 for record in watched)
            await asyncio.sleep(min(IDLE_LOOK_SECONDS, max(0.2, shortest / 4)))
            busy = await asyncio.to_thread(busy_ports)
            sockets = {Path(path).parent for path in await asyncio.to_thread(busy_sockets)}
            now = time.time()
            for record in watched:
                folder = None if record.running is None else record.running.socket_folder
                if busy & set(record.ports.values()) or folder in sockets:
                    record.last_used = now
                elif record.status == "running" and now - record.last_used >= (record.idle_seconds or 0.0):
                    words = f"Nobody used the sandbox for {record.idle_seconds:g} seconds, so it was ended."
                    self._end(record, "expired", "TIMEOUT", words)

    def _forget_later(self, record: Record) -> None:
        age = time.time() - (record.ended_at or record.created_at)
        asyncio.get_running_loop().call_later(max(0.0, KEPT_SECONDS - age), self._forget, record)
        ended = [item for item in self._records.values() if not item.live]
        for item in sorted(ended, key=lambda item: item.ended_at or 0.0)[: max(0, len(ended) - KEPT_ENDED)]:
            self._forget(item)

    def _forget(self, record: Record) -> None:
        if self._records.get(record.spec.id) is record:
            del self._records[record.spec.id]
            shutil.rmtree(record.folder, ignore_errors=True)

    def get(self, sandbox_id: str) -> Record:
        """The record of a sandbox, living or ended. Raises UnknownSandbox."""
        record = self._records.get(sandbox_id)
        if record is None:
            raise UnknownSandbox(f"No sandbox {sandbox_id} is known here.")
        return record

    def usable(self, sandbox_id: str, *, running: bool = True) -> Record:
        """The record of a living sandbox, which counts as used now. Raises UnknownSandbox, EndedSandbox."""
        record = self.get(sandbox_id)
        if not record.live or record.outcome is not None:
            raise EndedSandbox(record)
        if running and record.running is None:
            raise RunnerError(f"The sandbox {sandbox_id} is still starting; wait until it is running.")
        record.last_used = time.time()
        return record

    def all(self) -> list[Record]:
        """Every record, oldest first."""
        return sorted(self._records.values(), key=lambda record: record.created_at)

    def live_count(self) -> int:
        """How many may still have processes."""
        return sum(record.live for record in self._records.values())

    def users_of(self, digest: str) -> list[str]:
        """The ids of living sandboxes of an image."""
        return [record.spec.id for record in self._records.values() if record.live and record.spec.digest == digest]

    async def wait_started(self, sandbox_id: str, seconds: float) -> Record:
        """The record as soon as it is no longer starting, or as it is after `seconds`. Raises UnknownSandbox."""
        record = self.get(sandbox_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while record.status == "starting":
                    await record.changed.wait()
        return record

    def logs(self, sandbox_id: str, limit: int) -> bytes:
        """The last `limit` bytes of output. Raises UnknownSandbox."""
        record = self.get(sandbox_id)
        if record.running is not None:
            return record.running.logs(limit)
        try:
            return (record.folder / TAIL_FILE).read_bytes()[-limit:]
        except OSError:
            return b""

    async def close(self) -> None:
        """End all sandboxes and take no more."""
        self._closed = True
        if self._idle_task is not None:
            self._idle_task.cancel()
        tasks = []
        for record in self._records.values():
            self._end(record, "deleted", "RUNNER_STOPPED", "The runner was stopped.")
            if record.task is not None and not record.task.done():
                tasks.append(record.task)
        if tasks:
            await asyncio.wait(tasks)
