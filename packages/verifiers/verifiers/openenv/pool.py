"""Sessions on few servers instead of a server for every rollout.

A rollout leases a session: a new WebSocket on a running server where the server takes several, the whole server
where it speaks plain HTTP. How many a server takes is learnt from its CAPACITY_REACHED. Servers are started while
rollouts wait, a few at a time, and never more than there are rollouts; one that died is replaced when somebody waits
for it. Everything happens on one event loop, in callbacks: no threads, no locks, no polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from verifiers.errors import Error
from verifiers.openenv import probe
from verifiers.openenv.errors import CapacityReached, ContractMismatch, ServerStartError, SessionLost
from verifiers.openenv.pace import Pace
from verifiers.openenv.room import Bounds
from verifiers.openenv.session import Dialect, Session, connect
from verifiers.openenv.source import RunningServer, ServerSource
from verifiers.openenv.wire import StepResult
from verifiers.utils.activity import SERVER, doing

T = TypeVar("T")
Isolation = Literal["session", "sandbox"]
Probe = Callable[[str, "Any"], Awaitable[None]]

BEGIN_ATTEMPTS = 3  # servers tried for one lease, when one turns out dead
PATIENT_REFUSALS = 4  # about a second: sessions that are still closing
MAX_REFUSALS = 36  # about half a minute
PATIENCE = 5  # times the health timeout, for a server that carries episodes and may be busy with them
TORN_DOWN = "This environment's servers have been stopped (teardown)."
AWAY = 5.0  # seconds for a server that somebody else runs, and may be starting again
FAILED_STARTS = 3  # in a row, with no server alive: further leases fail at once for a while
GIVE_UP_SECONDS = 30.0
ENDED_POLLS = (0.0, 0.1, 0.2, 0.4, 0.8)  # seconds


@dataclass(eq=False, slots=True)
class _Server:
    running: RunningServer
    capacity: int | None
    leases: int = 0  # connecting ones included
    connecting: int = 0
    closing: int = 0
    refusals: int = 0
    blocked: bool = False
    retired: bool = False
    stopping: asyncio.Task[None] | None = None
    question: asyncio.Task[bool] | None = None  # whether it lives, while that is being asked

    @property
    def free(self) -> bool:
        if self.retired or self.blocked:
            return False
        if self.capacity is not None:
            # One that has refused is asked by one at a time until it grants a session.
            return self.leases < self.capacity and not (self.refusals and self.connecting)
        # Unknown: no more attempts at once than sessions it has already granted, so few are refused.
        return self.connecting < max(1, self.leases - self.connecting)


@dataclass(frozen=True)
class PoolOptions:
    """How servers are waited for. Times in seconds; `parallel_starts` is how many servers may be starting at once,
    `max_servers` how many there may be. Both are bounded by what the servers' machine bears as well.
    """

    isolation: Isolation = "session"
    parallel_starts: int = 4
    max_servers: int | None = None
    startup_timeout: float = 30.0
    poll_interval: float = 1.0
    health_timeout: float = 2.0
    request_timeout: float = 60.0


@dataclass(eq=False)
class Lease:
    """A session in an episode. `first` is the answer to reset."""

    session: Session
    first: StepResult
    pool: Pool = field(repr=False)
    _server: _Server = field(repr=False)

    @property
    def url(self) -> str:
        return self.session.url


class Pool:
    """Leases sessions on servers from `source`. Belongs to the event loop it is first used on; `close` works on any.

    `check(url, client)` is asked once, of the first healthy server, before anybody gets a session.
    """

    def __init__(self, source: ServerSource, options: PoolOptions | None = None, check: Probe | None = None) -> None:
        self.source = source
        self.options = options or PoolOptions()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.started_servers = 0
        self.most_servers = 0
        self._check = check
        self._checked = check is None
        self._client: Any = None
        self._dialect: Dialect | None = None
        self._capacity: int | None = 1 if self.options.isolation == "sandbox" else None
        self._servers: list[_Server] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[_Server]] = deque()
        self._background: set[asyncio.Task[Any]] = set()
        self._was_healthy = False
        self._failed_starts = 0
        self._start_after = 0.0
        self._failure: tuple[float, Error] | None = None  # (until, what): leases fail at once
        self._closed = False
        self._resetting: set[Session] = set()
        self._pace = Pace()
        self._bounds = Bounds(source, self._dispatch)
        self._look: asyncio.TimerHandle | None = None

    async def begin(
        self, seed: int | None = None, arguments: dict[str, Any] | None = None, reset_timeout: float | None = None
    ) -> Lease:
        """Lease a session and reset it with `seed` and `arguments`, within `reset_timeout` seconds; waits while every
        server is full and none can be started.

        Raises: ServerStartError, ContractMismatch, SessionLost.
        """
        self._bind()
        attempts = 0
        requeued = False
        while True:
            with doing(SERVER):
                server = await self._seat(front=requeued)
            requeued, session, kept = True, None, False
            try:
                session = await connect(
                    server.running.url,
                    self._client,
                    socket_path=server.running.socket_path,
                    dialect=self._dialect,
                    timeout=self.options.request_timeout,
                )
                if session.dialect == "http":
                    self._dialect, self._capacity, server.capacity = "http", 1, 1
                if self._closed:
                    raise SessionLost(TORN_DOWN)
                self._resetting.add(session)
                try:
                    first = await session.reset(seed, arguments, reset_timeout)
                finally:
                    self._resetting.discard(session)
                if self._closed:
                    raise SessionLost(TORN_DOWN)
                self._dialect = session.dialect
                self._granted(server)
                kept = True
                lease = Lease(session, first, self, server)
                self._pace.session_began(lease, asyncio.get_running_loop().time())
                return lease
            except CapacityReached as error:
                if self._refused(server, error):
                    if self.source.limit is not None:
                        raise SessionLost(f"{error} Its sessions are held by somebody else.") from error
                    await self._retire(server)
            except SessionLost:
                attempts += 1
                if attempts >= BEGIN_ATTEMPTS or not await self._is_dead(server):
                    raise
            finally:
                server.connecting -= 1
                if not kept:
                    await asyncio.shield(self._closing(server, session))
                self._dispatch()

    async def end(self, lease: Lease) -> None:
        """Give a session back. Never raises.

        A WebSocket that is in order is closed in the background, and its place is free once the server has let go of it.
        Else the server has let go of it, or has been stopped, when this returns.
        """
        self._pace.session_ended(lease, asyncio.get_running_loop().time())
        session = lease.session
        closing = self._closing(lease._server, session)
        if self._closed or session.dialect != "ws" or session.lost or self.options.isolation == "sandbox":
            await asyncio.shield(closing)

    async def explain(self, lease: Lease, error: SessionLost) -> SessionLost:
        """`error` with the exit code and the tail of the log when the server of the lost session is gone as well."""
        if self._closed:
            return SessionLost(TORN_DOWN)
        server = lease._server
        if server.retired or await probe.health_problem(self._client, lease.url, self.options.health_timeout) is None:
            return error
        sentence = str(error)
        for pause in ENDED_POLLS:  # who watches the process may notice its end a moment later than we do
            await asyncio.sleep(pause)
            if (ended := await server.running.ended()) is not None:
                sentence = f"The OpenEnv server ended in the middle of an episode ({ended})."
                break
        return SessionLost(await probe.with_log(server.running, sentence))

    async def close(self) -> None:
        """Stop every server, also from another event loop than the pool's own."""
        self._closed = True
        if self._look is not None:
            self._look.cancel()
        for server in self._servers:
            server.retired = True
        own = self.loop is asyncio.get_running_loop()
        try:
            if own:
                for future in self._waiting:
                    if not future.done():
                        future.set_exception(SessionLost(TORN_DOWN))
                for session in self._resetting:
                    session.drop()
                for task in self._starting:
                    task.cancel()
                await self._bounds.close()
                await asyncio.gather(*self._starting, *self._background, return_exceptions=True)
        finally:
            await asyncio.gather(*(server.running.stop() for server in self._servers), return_exceptions=True)
        self._servers = []
        if self._client is not None and own:
            await self._client.aclose()
        await self.source.aclose()

    @property
    def servers(self) -> int:
        """How many servers run or are starting."""
        return len(self._servers) + len(self._starting)

    # One lease

    def _bind(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            raise RuntimeError("A pool of OpenEnv servers belongs to the event loop that it was first used on.")

    async def _seat(self, *, front: bool) -> _Server:
        """Wait for a place on a server."""
        assert self.loop is not None
        if self._closed:
            raise SessionLost(TORN_DOWN)
        if self._failure is not None and self.loop.time() < self._failure[0]:
            raise _again(self._failure[1])
        future: asyncio.Future[_Server] = self.loop.create_future()
        if front:
            self._waiting.appendleft(future)
        else:
            self._waiting.append(future)
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)
            if future.done() and not future.cancelled() and future.exception() is None:
                server = future.result()
                server.leases -= 1
                server.connecting -= 1
                self._dispatch()
            raise

    def _closing(self, server: _Server, session: Session | None) -> asyncio.Task[None]:
        """Close the session; replace a server that can no longer be trusted with another one."""
        server.closing += 1
        return self._in_background(self._close_session(server, session))

    def _in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that goes on when whoever waits for it is cancelled; `close` waits for it."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _close_session(self, server: _Server, session: Session | None) -> None:
        try:
            if session is not None:
                await session.close()
                if self.options.isolation == "sandbox":
                    await self._retire(server)
                elif session.interrupted and (session.dialect == "http" or await self._is_dead(server)):
                    # A plain HTTP server may still be busy with the abandoned step of its one and only episode.
                    await self._retire(server)
        finally:
            server.closing -= 1
            server.leases -= 1
            self._dispatch()

    def _refused(self, server: _Server, error: CapacityReached) -> bool:
        """Learn the capacity. True when there is no point in asking this server again."""
        assert self.loop is not None
        held = server.leases - server.connecting
        self._capacity = server.capacity = max(1, error.limit if error.limit is not None else held)
        if held >= server.capacity:
            return False
        # Slots of sessions that are still closing, or of other people's. Many that asked at once were refused once.
        if server.blocked:
            return False
        server.refusals += 1
        if server.refusals > MAX_REFUSALS and not held:
            return True
        server.blocked = True
        self.loop.call_later(min(1.0, 0.05 * 2 ** min(server.refusals, 5)), self._unblock, server)
        return False

    def _granted(self, server: _Server) -> None:
        """A server that does not say how many sessions it takes may turn out to take more than was thought."""
        server.refusals = 0
        held = server.leases - server.closing - server.connecting + 1
        if server.capacity is not None and held > server.capacity:
            self._capacity = server.capacity = held

    def _unblock(self, server: _Server) -> None:
        server.blocked = False
        self._dispatch()

    async def _is_dead(self, server: _Server) -> bool:
        """Whether a server that lost a session is gone as well; if so it is retired."""
        if server.retired:
            return True
        if server.question is None:
            server.question = self._in_background(self._does_not_answer(server))
        return await asyncio.shield(server.question)

    async def _does_not_answer(self, server: _Server) -> bool:
        # Others may play there: it is not stopped under their feet for being slow once.
        held = server.leases - server.closing - server.connecting
        timeout = self.options.health_timeout * (PATIENCE if held else 1)
        try:
            if await probe.health_problem(self._client, server.running.url, timeout) is None:
                return server.retired
        finally:
            server.question = None
        await self._retire(server)
        return True

    async def _retire(self, server: _Server) -> None:
        """Stop a server, to its end also when whoever asked for it gives up."""
        if server.stopping is None:
            server.retired = True
            server.stopping = self._in_background(self._stop(server))
        await asyncio.shield(server.stopping)

    async def _stop(self, server: _Server) -> None:
        try:
            await server.running.stop()
        finally:
            if server in self._servers:
                self._servers.remove(server)
            self._dispatch()

    # All of them

    def _dispatch(self) -> None:
        """Give free places to who waits longest, then start what is missing."""
        if self._closed:
            return
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            server = min(
                (server for server in self._servers if server.free), key=lambda server: server.leases, default=None
            )
            if server is None:
                break
            server.leases += 1
            server.connecting += 1
            self._waiting.popleft().set_result(server)
        self._start_more()

    def _would_help(self, wanted: int, waiting: int, alive: list[_Server]) -> int:
        """How many of the wanted servers would be ready before the others have served everybody; looks again in time."""
        assert self.loop is not None
        each = self._capacity or 1
        places = each * (len(self._starting) + sum(not server.blocked for server in alive))
        useful = self._pace.useful_places(waiting, self.loop.time())
        if useful is None or not places or self.options.isolation == "sandbox":
            return wanted
        wanted = min(wanted, -(-(useful - places) // each))
        if wanted <= 0 and self._look is None:
            self._look = self.loop.call_later(
                self._pace.look_again(waiting, places, self.loop.time()), self._look_again
            )
        return wanted

    def _look_again(self) -> None:
        self._look = None
        self._dispatch()

    def _start_more(self) -> None:
        assert self.loop is not None
        # Those who get the places of sessions that are closing need no other server.
        waiting = len(self._waiting) - sum(server.closing for server in self._servers)
        if waiting <= 0 or self.loop.time() < self._start_after:
            return
        alive = [server for server in self._servers if not server.retired]
        if any(server.capacity is None or (server.blocked and server.refusals <= PATIENT_REFUSALS) for server in alive):
            return  # what they answer next tells whether there is a need
        wanted = waiting - len(self._starting) * (self._capacity or 1)
        # The first one tells how many sessions a server takes.
        wanted = min(wanted, 1 - len(self._starting)) if self._capacity is None else -(-wanted // self._capacity)
        wanted = self._would_help(wanted, waiting, alive)
        room = self.options.parallel_starts - len(self._starting)
        for limit in (self.source.limit, self.options.max_servers):
            if limit is not None:
                room = min(room, limit - self.servers)
        if min(wanted, room) > 0:
            room = min(room, self._bounds.starts(alive[0].running if alive else None, len(self._starting)))
        for _ in range(min(wanted, room)):
            task = self.loop.create_task(self._start_one())
            self._starting.add(task)
            self._bounds.started()
            task.add_done_callback(self._started)
        self.most_servers = max(self.most_servers, self.servers)

    async def _start_one(self) -> None:
        running = await self.source.start()
        self.started_servers += 1
        try:
            if self._client is None:
                self._client = probe.new_client(running.url)
            await probe.wait_until_healthy(
                running,
                self._client,
                timeout=self.options.startup_timeout if self.source.starts else min(AWAY, self.options.startup_timeout),
                ours=self.source.starts,
                poll_interval=self.options.poll_interval,
                request_timeout=self.options.health_timeout,
            )
            if not self._checked and self._check is not None:
                await self._check(running.url, self._client)
                self._checked = True
        except BaseException:
            await asyncio.shield(running.stop())
            raise
        self._pace.server_started(time.monotonic() - running.started)
        self._servers.append(_Server(running, self._capacity))
        self._starting.discard(cast("asyncio.Task[None]", asyncio.current_task()))  # counted once

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if task.cancelled() or self._closed:
            if not task.cancelled():
                task.exception()
            return
        error = task.exception()
        if error is None:
            self._was_healthy, self._failed_starts = True, 0
            self._failure, self._start_after = None, 0.0
        else:
            self._start_failed(
                error if isinstance(error, Error) else ServerStartError(f"OpenEnv server could not be started: {error}")
            )
        self._dispatch()

    def _start_failed(self, error: Error) -> None:
        """Where servers live or have lived the waiting ones wait on; else they all fail, with this sentence."""
        assert self.loop is not None
        now = self.loop.time()
        self._failed_starts += 1
        if isinstance(error, ContractMismatch):
            self._failure = (float("inf"), error)
        elif any(not server.retired for server in self._servers) or (
            self._was_healthy and self._failed_starts < FAILED_STARTS
        ):
            pause = min(GIVE_UP_SECONDS, 2.0**self._failed_starts)
            self._start_after = now + pause
            self.loop.call_later(pause, self._dispatch)
            return
        elif self._failed_starts >= FAILED_STARTS:
            self._failure = (now + GIVE_UP_SECONDS, error)
        if not self._starting or self._failure is not None:
            for future in self._waiting:
                if not future.done():
                    future.set_exception(_again(error))
            self._waiting.clear()


def _again(error: Error) -> Error:
    """The same sentence as an exception of its own: one raised in many tasks would gather all their tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
