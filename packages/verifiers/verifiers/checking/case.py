"""One run of the checks: what is checked, the evidence that several checks share, and who is to blame when it cannot be had.

Evidence is gathered when the first check asks for it and kept. Where gathering it shows what is wrong (the server does
not start, a step hangs), the check of that id has failed there and then, and the others that need the evidence are
skipped with a word on why: so one mistake is told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from prime_core.checks.report import Result, failed
from prime_core.errors import APIError, PrimeError
from verifiers.checking.playing import Episode, Moment, Moves, Policy, play
from verifiers.errors import SandboxError
from verifiers.openenv import check as looks
from verifiers.openenv import probe
from verifiers.openenv.errors import CapacityReached, NoAnswer, SessionLost, UnusableReward
from verifiers.openenv.schema import contract_of
from verifiers.openenv.session import Dialect, Session, connect
from verifiers.openenv.source import RunningServer, ServerSource
from verifiers.openenv.wire import JSON, RPCError

if TYPE_CHECKING:
    from prime_core.manifest import Manifest
    from prime_core.metadata import EnvironmentMetadata
    from verifiers.checking.loading import Told

SLOTS = (0.1, 0.2, 0.5, 1.0)  # seconds between attempts while a full server lets go of sessions that were just closed

LOOK = 1.0  # seconds between two looks at where a server listens that is not healthy yet


class Blocked(Exception):
    """A check cannot be made; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take. Times in seconds, sizes in bytes."""

    startup: float = 60.0
    request: float = 10.0
    elsewhere: float = 5.0
    """that a server may listen on another port, and not yet on its own"""
    health: float = 5.0
    load: float = 60.0
    steps: int = 60
    """of one episode that is compared"""
    long_steps: int = 1000
    long_seconds: float = 6.0
    """for one episode to come to its end"""
    oversize: int = 4 * 1024 * 1024
    rounds: int = 3
    sessions: int = 12
    """in each round of those that memory is watched over"""
    leak: int = 256 * 1024
    """of memory that each session may leave behind"""
    slow_step: float = 1.0
    rollouts: int = 2
    """of each baseline, through the environment itself"""


@dataclass(slots=True)
class Target:
    """What is checked, as far as there is something: the environment's folder, its server, the Python that it runs in.

    `module` is imported when there is no folder to import from. `declared` are the contracts that the project
    shows, and where. `prepare` makes `manifest` and `source` before the first server is started (it may build an image);
    `no_source` says why there is none. `trusted`: the environment's code is the user's own and sees all variables.
    `child` loads and plays it somewhere else than in a child of this program: it gets the task and the seconds that it may take.
    """

    folder: Path | None = None
    metadata: EnvironmentMetadata | None = None
    manifest: Manifest | None = None
    declared: list[tuple[str, str]] = field(default_factory=list)
    source: ServerSource | None = None
    prepare: Callable[[Case], Awaitable[None]] | None = None
    no_source: str = "It has no server."
    python: Path | None = None
    module: str | None = None
    child: Callable[[dict[str, Any], float], Awaitable[Told]] | None = None
    trusted: bool = True
    has_project: bool = False
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Started:
    """A healthy server, its HTTP client, and how long it took to start (seconds)."""

    running: RunningServer
    client: Any
    seconds: float


class Case:
    """The evidence of one run. Belongs to one event loop; `aclose` stops everything that it started."""

    def __init__(
        self, target: Target, limits: Limits | None = None, found: Callable[[Result], None] | None = None
    ) -> None:
        self.target = target
        self.limits = limits or Limits()
        self.dialect: Dialect | None = None
        self.contract: str | None = target.manifest.contract if target.manifest else None
        self.capacity: int | None = None
        self.starts = 0
        self._found = found or (lambda result: None)
        self._kept: dict[str, asyncio.Future[Any]] = {}
        self._servers: list[Started] = []
        self._server: Started | None = None
        self._unplayable: str | None = None
        self._startless: str | None = None
        self._attacked = False
        self._cleanups: list[Callable[[], Awaitable[None]]] = []

    # Blame

    def blame(self, id: str, sentence: str, where: str, change: str, **facts: Any) -> NoReturn:
        """Evidence shows what is wrong: check `id` has failed, and whoever asked cannot be made. Raises: Blocked."""
        if self._attacked:
            raise Blocked(_first_sentence(sentence))
        self._found(Result(id, failed(id, sentence, where, change, **facts)))
        raise Blocked(f"It cannot be told, because of {id}: {_first_sentence(sentence)}")

    def unplayable(self, id: str, sentence: str, where: str, change: str) -> NoReturn:
        """Like `blame`, for what spoils every episode: none is tried again. Raises: Blocked."""
        if not self._attacked:
            self._unplayable = f"It cannot be told, because of {id}: {_first_sentence(sentence)}"
        self.blame(id, sentence, where, change)

    @contextmanager
    def attacked(self) -> Generator[None]:
        """While the server is treated badly, what goes wrong is nobody's fault but that: nothing is blamed on an id."""
        self._attacked = True
        try:
            yield
        finally:
            self._attacked = False

    async def once(self, name: str, gather: Callable[[], Awaitable[Any]]) -> Any:
        """The evidence of that name, gathered by the first who asks. Raises what gathering it did."""
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = asyncio.get_running_loop().create_future()
            kept.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                kept.set_result(await gather())
            except asyncio.CancelledError:
                kept.cancel()
                raise
            except Exception as error:
                kept.set_exception(error)
        return await kept

    def later(self, cleanup: Callable[[], Awaitable[None]]) -> None:
        """What to do at the end, last come first served."""
        self._cleanups.append(cleanup)

    async def aclose(self) -> None:
        """Stop every server, and undo what else was made for the run. Never raises."""
        for started in self._servers:
            with contextlib.suppress(Exception):
                await started.running.stop()
                await started.client.aclose()
        for cleanup in reversed(self._cleanups):
            with contextlib.suppress(Exception):
                await cleanup()
        if self.target.source is not None:
            with contextlib.suppress(Exception):
                await self.target.source.aclose()

    def described(self) -> dict[str, Any]:
        """What the run has learnt of the environment, for the report."""
        manifest = self.target.manifest
        image = {} if manifest is None else {"image": manifest.image, "image_digest": manifest.image_digest}
        return {**image, "contract": self.contract, "dialect": self.dialect}

    # The server

    @property
    def where(self) -> str:
        """The server, in a finding."""
        manifest = self.target.manifest
        return "the server" if manifest is None or manifest.app is None else f"the server, {manifest.app}"

    @property
    def starts_servers(self) -> bool:
        """Whether a server that was lost can be replaced."""
        return self.target.source is not None and self.target.source.starts

    async def source(self) -> ServerSource:
        """Where servers come from, made ready. Raises: Blocked."""
        prepare = self.target.prepare
        if prepare is not None:
            await self.once("prepared", lambda: self._prepare(prepare))
        if self.target.source is None:
            raise Blocked(self.target.no_source)
        return self.target.source

    async def _prepare(self, prepare: Callable[[Case], Awaitable[None]]) -> None:
        try:
            await prepare(self)
        except APIError:
            raise
        except PrimeError as error:
            self.blame("image-not-built", str(error.sentence), "proj/", error.hint or "Correct the project.")

    async def server(self) -> Started:
        """The server that is looked at: started, or started anew when it was lost. Raises: Blocked."""
        if self._server is None:
            if self.starts and not self.starts_servers:
                raise Blocked("The server is gone, and somebody else has to start it again.")
            if self._startless is not None:  # one that did not start is not started for every check again
                raise Blocked(self._startless)
            try:
                self._server = await self.start(await self.source())
            except Blocked as blocked:
                self._startless = str(blocked)
                raise
        return self._server

    async def start(self, source: ServerSource) -> Started:
        """Start a server of `source` and wait until it is healthy. Raises: Blocked."""
        limits, manifest = self.limits, self.target.manifest
        try:
            running = await source.start()
        except SandboxError as error:
            if isinstance(error.__cause__, APIError) and (error.__cause__.status or 401) in (401, 403):
                raise error.__cause__ from error
            self.blame("server-not-healthy", str(error), self.where, "Correct the project; its log says why.")
        self.starts += 1
        started = Started(running, probe.new_client(running.url), 0.0)
        self._servers.append(started)
        port, command = (manifest.port, manifest.start_command) if manifest is not None else (0, "")
        try:
            if source.starts:
                started.seconds = await self._healthy(started, port, command)
                await looks.check_reachable(running, port, command)
            elif (problem := await probe.health_problem(started.client, running.url, limits.health)) is not None:
                self.blame(
                    "server-not-healthy",
                    f"GET /health of the server gives {problem}.",
                    self.where,
                    "Start it, as in 'uvicorn server:app --port 8000' in the project's folder, or correct --server.",
                )
        except looks.CheckFailed as error:
            blamed = {"port": "port-mismatch", "interface": "loopback-only"}.get(error.kind, "server-not-healthy")
            sentence = str(error.sentence)
            log = probe.log_tail(error.log or await self._log(running)) if blamed == "server-not-healthy" else ""
            place = "the start command (CMD)" if blamed != "server-not-healthy" else self.where
            self.blame(blamed, f"{sentence} Logs (tail):\n{log}" if log else sentence, place, error.hint or "")
        return started

    async def _healthy(self, started: Started, port: int, command: str) -> float:
        """Wait until it is healthy: its seconds. One that listens on another port for a while is not waited for longer.

        Raises: CheckFailed.
        """
        running, limits = started.running, self.limits
        healthy = asyncio.ensure_future(looks.wait_healthy(running, started.client, port, command, limits.startup))
        elsewhere = 0.0
        try:
            while not (await asyncio.wait({healthy}, timeout=LOOK))[0]:
                try:
                    await looks.check_reachable(running, port, command)
                    elsewhere = 0.0
                except looks.CheckFailed:
                    elsewhere += LOOK
                    if elsewhere >= limits.elsewhere:
                        raise
            return await healthy
        finally:
            healthy.cancel()

    async def _log(self, running: RunningServer) -> str:
        try:
            return await running.logs() or ""
        except Exception:
            return ""

    async def lost(self) -> str | None:
        """Whether the server is gone: a sentence, None while it answers. One that is gone is stopped and not used again."""
        started = self._server
        if started is None:
            return "The server is gone."
        problem = await probe.health_problem(started.client, started.running.url, self.limits.health)
        if problem is None:
            return None
        ended = await started.running.ended()
        log = probe.log_tail(await self._log(started.running))
        await self.give_up()
        sentence = f"the server ended ({ended})" if ended else f"GET /health gives {problem}"
        return f"{sentence}. Logs (tail):\n{log}" if log else f"{sentence}."

    async def give_up(self) -> None:
        """Stop the server and use another one from now on."""
        started, self._server = self._server, None
        if started is not None:
            await started.running.stop()

    async def usage(self) -> tuple[int | None, int | None]:
        """Bytes of memory and number of processes of the server's sandbox, None for what nobody can tell."""
        ask = getattr(self.target.source, "usage", None)
        return (None, None) if ask is None or self._server is None else await ask(self._server.running)

    # What it says

    async def schema(self) -> JSON:
        """GET /schema. Raises: Blocked."""
        return await self.once("schema", self._schema)

    async def _schema(self) -> JSON:
        started = await self.server()
        try:
            schema = await looks.read_schema(started.client, started.running)
        except looks.CheckFailed as error:
            self.blame("schema-invalid", str(error.sentence), f"{self.where}, GET /schema", error.hint or "")
        self.contract = contract_of(schema["action"])
        return schema

    async def moves(self) -> Moves:
        """What can be done: the action schema, or the tools. Raises: Blocked."""
        return await self.once("moves", self._moves)

    async def _moves(self) -> Moves:
        schema = (await self.schema())["action"]
        contract = contract_of(schema)
        if contract != "mcp":
            return Moves(contract, schema)
        async with self.session(0) as (session, _):
            try:
                return Moves(contract, schema, await session.list_tools())
            except RPCError as error:
                self.blame(
                    "tools-unusable",
                    f"It is an MCP environment, and lists no tools: {error}",
                    f"{self.where}, tools/list",
                    "Answer tools/list with at least one tool, each with name, description and inputSchema.",
                )
            except SessionLost as error:
                await self.fault(error, "tools/list")

    # Sessions

    @asynccontextmanager
    async def session(self, seed: int) -> AsyncGenerator[tuple[Session, Moment]]:
        """A session in an episode, and the answer to its reset. Raises: Blocked."""
        started = await self.server()
        for pause in (*SLOTS, None):
            session = await self._connected(started)
            try:
                first = Moment.of(await session.reset(seed, timeout=self.limits.request))
                break
            except CapacityReached as error:
                self.capacity = error.limit
                if pause is None:
                    raise Blocked("The server takes no session although every other was closed.") from error
                await asyncio.sleep(pause)
            except SessionLost as error:
                await session.close()
                await self._cannot_begin(error)
        try:
            yield session, first
        finally:
            await session.close()

    async def _connected(self, started: Started) -> Session:
        running = started.running
        try:
            session = await connect(
                running.url,
                started.client,
                socket_path=running.socket_path,
                dialect=self.dialect,
                timeout=self.limits.request,
            )
        except SessionLost as error:
            gone = await self.lost()
            self.blame(
                "factory-fails",
                f"No session can be opened: {error}" + (f" {gone}" if gone else ""),
                self.where,
                "See to what its /ws, or its POST /reset, does; the server's log says more.",
            )
        self.dialect = session.dialect
        return session

    async def _cannot_begin(self, error: SessionLost) -> NoReturn:
        if isinstance(error, UnusableReward):
            await self.fault(error, "reset")
        gone = await self.lost() if isinstance(error, NoAnswer) or "closed the connection" in str(error) else None
        self.unplayable(
            "factory-fails",
            f"/health says that all is well, but no episode can be begun: {error}" + (f" {gone}" if gone else ""),
            f"{self.where}, reset",
            "Make the environment's constructor and its reset work in the image: what they need (data, packages, "
            "settings) has to be there, or be fetched when the image is built.",
        )

    async def episode(self, seed: int, policy: Policy = "random", steps: int | None = None) -> Episode:
        """An episode that was played so, kept for all. Raises: Blocked."""
        steps = steps or self.limits.steps
        return await self.once(f"episode {seed} {policy} {steps}", lambda: self._play(seed, policy, steps))

    async def _play(self, seed: int, policy: Policy, steps: int) -> Episode:
        moves = await self.moves()
        async with self.playing(seed) as (session, episode):
            until = time.monotonic() + self.limits.long_seconds
            return await play(session, episode, moves, policy, steps, self.limits.request, until)

    @asynccontextmanager
    async def playing(self, seed: int) -> AsyncGenerator[tuple[Session, Episode]]:
        """A session with its episode begun; what goes wrong in it is blamed on who is to blame. Raises: Blocked."""
        if self._unplayable is not None:
            raise Blocked(self._unplayable)
        async with self.session(seed) as (session, first):
            episode = Episode(seed, [first])
            try:
                yield session, episode
            except SessionLost as error:
                await self.fault(error, f"step {len(episode.actions) + 1} of the episode with seed {seed}", episode)
            except ValueError as error:
                self.unplayable(
                    "schema-invalid",
                    f"No action can be made from the schema: {error}",
                    f"{self.where}, GET /schema",
                    "Correct the action's schema (or the tool's inputSchema) so that something satisfies it.",
                )

    async def fault(self, error: SessionLost, place: str, episode: Episode | None = None) -> NoReturn:
        """A session was lost through no hostility: whose id that is. Raises: Blocked."""
        if isinstance(error, UnusableReward):
            self.unplayable(
                "reward-not-finite",
                f"{error}",
                f"{self.where}, {place}",
                "Send a finite number, or null where there is no reward; look for divisions by zero and logarithms of 0.",
            )
        if isinstance(error, NoAnswer):
            await self.give_up()
            self.unplayable(
                "step-hangs",
                f"There was no answer within {self.limits.request:g} s to {place}.",
                f"{self.where}, {place}",
                "Look for a loop that does not end, a lock that is not let go, or a call without a time limit.",
            )
        gone = await self.lost()
        self.unplayable(
            "session-lost",
            f"A valid action ended the session: {error}" + (f" {gone}" if gone else ""),
            f"{self.where}, {place}",
            "Catch what the step raises and say so in the observation; never end the process.",
        )


def _first_sentence(text: str) -> str:
    return text.partition(" Logs (tail):")[0]
