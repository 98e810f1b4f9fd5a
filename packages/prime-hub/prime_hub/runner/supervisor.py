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
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from prime_hub.runner.processes import busy_ports, busy_sockets
from prime_hub.runner.ramp import Ramp
from prime_hub.runner.records import TAIL_FILE, Record
from prime_hub.runner.runtimes.base import RunnerError, RunningSandbox, Runtime
from prime_hub.runner.runtimes.values import Egress, SandboxSpec

log = logging.getLogger("prime_hub.runner")

GRACE_SECONDS = 2.0
KEPT_ENDED = 1000
KEPT_SECONDS = 3600.0
KEPT_TAIL_BYTES = 65536
IDLE_LOOK_SECONDS = 15.0
ADOPT_SECONDS = 20.0
STRAY_LOOK_SECONDS = 30.0


class UnknownSandbox(Exception):
    """No sandbox of that id is known."""


class EndedSandbox(Exception):
    """The sandbox has ended; `record` says how."""

    def __init__(self, record: Record) -> None:
        decided = None if record.outcome is None else record.outcome[2]
        super().__init__(record.error or decided or f"The sandbox {record.spec.id} is {record.status}.")
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
        self._stray_task: asyncio.Task[None] | None = None
        self._ramp = Ramp(lambda: sum(record.status == "running" for record in self._records.values()))
        self._closed = False
        # Of what uses sandboxes from outside: told, with a sentence, before one ends; asked whether one is in use.
        self.before_end: Callable[[str, str], Awaitable[None]] | None = None
        self.in_use: Callable[[str], bool] = lambda _: False

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
                # One that still queued has nothing yet that could be found again.
                self._begin(record, adopt=record.status != "queued" or record.outcome is not None)
            else:
                self._forget_later(record)
        await self._wait_adopted()
        await self._end_strays()
        self._stray_task = asyncio.create_task(self._watch_strays(), name="strays")

    async def _wait_adopted(self) -> None:
        """Until what runs can be used again, so that nobody who asks the new runner finds it missing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ADOPT_SECONDS):
                # Those that ended long ago are forgotten meanwhile.
                for record in list(self._records.values()):
                    while record.status == "running" and record.running is None and record.outcome is None:
                        await record.changed.wait()

    async def _end_strays(self) -> None:
        """End what the runtime runs for this runner without its being on record, or although it has ended: its engine
        may not have answered then.
        """
        for sandbox_id in await self._runtime.strays({item.spec.id for item in self._records.values() if item.live}):
            log.warning("sandbox %s is on no record; ending it", sandbox_id)
            folder = self._folder / sandbox_id
            await self._runtime.sweep(sandbox_id, folder)
            shutil.rmtree(folder, ignore_errors=True)

    async def _watch_strays(self) -> None:
        while True:
            await asyncio.sleep(STRAY_LOOK_SECONDS)
            try:
                await self._end_strays()
            except Exception:
                log.exception("looking for strays failed")

    def create(
        self,
        spec: SandboxSpec,
        *,
        lease_seconds: float | None = None,
        expires_at: float | None = None,
        idle_seconds: float | None = None,
        spare: bool = False,
    ) -> Record:
        """Begin to start a sandbox; the one of the same id when there is one already. Raises OSError, RunnerError."""
        known = self._records.get(spec.id)
        if known is not None:
            return known
        if self._closed:
            raise RunnerError("The runner is about to end; ask again.")
        record = Record(spec, self._folder / spec.id, expires_at=expires_at, idle_seconds=idle_seconds)
        record.spare = spare
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
        self._watch(record)
        self._on_change()

    async def _live(self, record: Record, adopt: bool) -> None:
        """From the first process to the last trace.

        Only a program that breaks off cancels it, and then it stays as it is, for the next runner to adopt.
        """
        outcome: list[str | None] = ["failed", "RUNNER_ERROR", "The runner failed; see runner.log."]
        try:
            running = await self._adopt(record) if adopt else await self._start(record)
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
        # From here on nothing new begins in it.
        outcome = record.outcome = record.outcome or outcome
        if self.before_end is not None:
            await self.before_end(record.spec.id, outcome[2] or "The sandbox ended.")
        await self._clean(record)
        record.status, record.error_type, record.error = str(outcome[0]), outcome[1], outcome[2]
        record.ended_at = time.time()
        if record.timer is not None:
            record.timer.cancel()
        self._put_away(record)
        record.announce()
        log.info("sandbox %s %s %s", record.spec.id, record.status, record.error or "")
        self._forget_later(record)
        self._ramp.look_again()
        self._on_change()

    def _put_away(self, record: Record) -> None:
        """What is kept of an ended sandbox, its state and the end of its log, no longer stands among the living."""
        with contextlib.suppress(OSError):
            record.folder = record.folder.rename(self._ended / record.spec.id)

    async def _start(self, record: Record) -> RunningSandbox | None:
        """Start it when its turn has come; None when it is to end before that."""
        assert record.ending is not None
        starting = asyncio.ensure_future(self._start_in_turn(record))
        try:
            await asyncio.wait({starting, record.ending}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return None
            return await starting
        finally:
            if not starting.done():
                # Nothing of it is left when this returns: that is in the contract of a runtime's `start`.
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError, RunnerError, OSError):
                    record.running = await starting

    async def _start_in_turn(self, record: Record) -> RunningSandbox:
        def progress(saved: dict[str, Any]) -> None:
            record.saved = saved
            record.save()

        def queue() -> None:
            record.status = "queued"
            record.announce()

        async with self._ramp.turn(record.spec.digest, queue) as turn:
            if record.status == "queued":
                record.status = "starting"
                record.announce()
            record.running = running = await self._runtime.start(record.spec, record.folder, progress)
            if record.spec.port is not None:
                turn.ready = lambda: self._settled(record)
        self._runs(record, running, "running")
        return running

    async def _settled(self, record: Record) -> bool:
        """Whether a sandbox's server listens, or never will."""
        if record.running is None or not record.live:
            return True
        listens = any(item.port == record.spec.port for item in await record.running.listening())
        if listens:
            self._ramp.saw(record.spec.digest, (await record.running.usage()).memory_bytes)
        return listens

    async def _adopt(self, record: Record) -> RunningSandbox | None:
        record.running = running = await self._runtime.adopt(record.spec, record.folder, record.saved)
        if running is not None:
            self._runs(record, running, "adopted")
        return running

    def _runs(self, record: Record, running: RunningSandbox, how: str) -> None:
        record.saved = running.saved()
        record.pid, record.ports = running.pid, running.ports
        record.host_rewritten = running.host_rewritten
        record.status, record.started_at = "running", record.started_at or time.time()
        record.announce()
        log.info("sandbox %s %s pid %s", record.spec.id, how, record.pid)

    async def _until_end(self, record: Record, running: RunningSandbox) -> list[str | None]:
        assert record.ending is not None
        exited = asyncio.ensure_future(running.wait())
        try:
            await asyncio.wait({exited, record.ending}, return_when=asyncio.FIRST_COMPLETED)
            if record.outcome is not None:
                return record.outcome
            found = exited.result()
            record.exit_code = found.code
            how = "with an unknown code" if found.code is None else f"with code {found.code}"
            return ["exited", found.kind, found.message or f"The start command ended {how}."]
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
                with contextlib.suppress(OSError, RunnerError):
                    last = await running.log_part(-KEPT_TAIL_BYTES, KEPT_TAIL_BYTES)
                    record.log_end = last.end
                    (record.folder / TAIL_FILE).write_bytes(last.data)
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

    def assign(
        self, sandbox_id: str, *, lease_seconds: float | None, expires_at: float | None, idle_seconds: float | None
    ) -> Record:
        """Give a living sandbox another lease, deadline and idle limit: it has waited for somebody. Raises
        UnknownSandbox, EndedSandbox.
        """
        record = self.usable(sandbox_id, running=False)
        record.lease_until = None if lease_seconds is None else time.time() + lease_seconds
        record.expires_at, record.idle_seconds, record.spare = expires_at, idle_seconds, False
        record.save()
        self._arm(record)
        self._watch(record)
        return record

    def _watch(self, record: Record) -> None:
        if record.idle_seconds is not None and (self._idle_task is None or self._idle_task.done()):
            self._idle_task = asyncio.create_task(self._watch_idle())

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
        """End sandboxes that nobody used for their `idle_seconds`; a connection to one of its servers counts as
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
                held = record.holders > 0 or self.in_use(record.spec.id)
                if held or busy & set(record.ports.values()) or await self._reached(record, sockets):
                    record.last_used = now
                elif record.status == "running" and now - record.last_used >= (record.idle_seconds or 0.0):
                    words = f"Nobody used the sandbox for {record.idle_seconds:g} seconds, so it was ended."
                    self._end(record, "expired", "TIMEOUT", words)

    async def _reached(self, record: Record, sockets: set[Path]) -> bool:
        running = record.running
        if running is None or running.socket_folder in sockets:
            return running is not None
        try:
            return await running.connected()
        except Exception:
            # Not known, so not idle: and the watch goes on for all the others.
            log.exception("looking for connections to sandbox %s failed", record.spec.id)
            return True

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
            raise RunnerError(f"The sandbox {sandbox_id} is still {record.status}; wait until it is running.")
        record.last_used = time.time()
        return record

    @contextlib.contextmanager
    def held(self, sandbox_id: str) -> Generator[RunningSandbox]:
        """A running sandbox, which is in use until the block ends. Raises as `usable` does."""
        record = self.usable(sandbox_id)
        assert record.running is not None
        record.holders += 1
        try:
            yield record.running
        finally:
            record.holders -= 1
            record.last_used = time.time()

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
                while record.status in ("queued", "starting"):
                    await record.changed.wait()
        return record

    async def set_egress(self, sandbox_id: str, egress: Egress) -> None:
        """Change where a sandbox may connect to, also for a runner that adopts it later. Raises UnknownSandbox,
        EndedSandbox, ExecError.
        """
        record = self.usable(sandbox_id)
        assert record.running is not None
        await record.running.set_egress(egress)
        record.spec = replace(record.spec, egress=egress)
        record.save()

    async def logs(self, sandbox_id: str, limit: int) -> bytes:
        """The last `limit` bytes of output. Raises UnknownSandbox."""
        record = self.get(sandbox_id)
        if record.running is not None:
            return await record.running.logs(limit)
        try:
            return (record.folder / TAIL_FILE).read_bytes()[-limit:]
        except OSError:
            return b""

    async def close(self) -> None:
        """End all sandboxes and take no more."""
        self._closed = True
        for watch in (self._idle_task, self._stray_task):
            if watch is not None:
                watch.cancel()
        tasks = []
        for record in self._records.values():
            self._end(record, "deleted", "RUNNER_STOPPED", "The runner was stopped.")
            if record.task is not None and not record.task.done():
                tasks.append(record.task)
        if tasks:
            await asyncio.wait(tasks)
        await self._ramp.close()
