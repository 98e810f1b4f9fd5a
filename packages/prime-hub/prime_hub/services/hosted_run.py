"""One hosted evaluation: the sandbox in which `vf-eval` plays a published version, that of its server, and what comes of it.

Both are sandboxes of the Hub's own (`services/hosted.py`). An environment with an image has its server started from that
beside it, reached over the program's messages (`services/tunnels.py`), so that no sandbox needs a key of this Hub. What the
program tells is the word of the environment's code, which runs beside it, and is bounded here.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prime_hub.db.models import Account, Environment, Version
from prime_hub.errors import BadGateway, HubError, Invalid
from prime_hub.runner.runtimes.values import Limits
from prime_hub.services.archives import summarise
from prime_hub.services.blobs import BlobStore
from prime_hub.services.check_run import BUILD_SECONDS, FOLDER, LIMITS, ONLINE, server_of, within
from prime_hub.services.given import Giving
from prime_hub.services.hosted import BuildFailed, Hosted, HostedSandbox, Program, Start, why_not
from prime_hub.services.hosted_config import KEY, words
from prime_hub.services.image_access import ImageAccess
from prime_hub.services.limits import bounded
from prime_hub.services.model_endpoints import Endpoint, Endpoints
from prime_hub.services.recipes import Recipes
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerDown
from prime_hub.services.tunnels import Tunnels
from prime_hub.settings import Settings

GRACE_SECONDS = 60.0
"""For the rollouts that are being played when a run is to be ended."""
AFTER_SECONDS = 60.0
"""Then it is let go of, whatever it does."""
TUNNEL_BYTES = 64 * 1024**3
SHORTEST_HIDDEN = 6
HIDDEN = "[hidden]"


class NotPlayed(Exception):
    """The run has not come to its end by itself; the sentence says why."""


@dataclass(frozen=True)
class Task:
    """What is played, and for whom: `account` has asked for it, `owner` has the evaluation."""

    account: Account
    owner: Account
    publisher: Account
    environment: Environment
    version: Version
    model: str
    config: Mapping[str, Any]
    seconds: float


class Sink(Protocol):
    """Where a run's results go. Each may raise HubError, which ends the run."""

    async def started(self) -> None:
        """It begins to play."""

    async def rows(self, body: bytes) -> None:
        """Rollouts, the body of a request of samples."""

    async def log(self, text: str) -> None:
        """Lines."""

    async def about(self, metadata: dict[str, Any]) -> None:
        """The run's metadata.json."""


class HostedRuns:
    """Plays hosted evaluations."""

    def __init__(
        self,
        settings: Settings,
        blobs: BlobStore,
        runner: Runner,
        access: ImageAccess,
        giving: Giving,
        hosted: Hosted,
        recipes: Recipes,
        endpoints: Endpoints,
    ) -> None:
        self._settings = settings
        self._blobs = blobs
        self._runner = runner
        self._access = access
        self._giving = giving
        self._hosted = hosted
        self._recipes = recipes
        self._endpoints = endpoints

    async def run(self, task: Task, sink: Sink, stop: asyncio.Event) -> None:
        """Play it until it is done, or `stop` is set: then what is being played is finished. All that was started for it is
        gone afterwards. Raises NotPlayed, TimeoutError after `task.seconds`, and RunnerDown when the runner goes away.
        """
        try:
            await self._runner.client()
            self._access.require_trust(task.account, task.publisher)
            async with AsyncExitStack() as stack:
                await self._played(stack, task, sink, stop)
        except RunnerDown:
            raise
        except (FileNotFoundError, HubError) as error:
            if isinstance(error, BuildFailed):
                await sink.log(error.log)
            raise NotPlayed(why_not(error)) from error

    async def _played(self, stack: AsyncExitStack, task: Task, sink: Sink, stop: asyncio.Event) -> None:
        whose = (task.account, task.owner)
        endpoint = await asyncio.to_thread(self._endpoints.of, task.model, whose)
        key = None if endpoint is None else await asyncio.to_thread(endpoint.key)
        given = await self._giving.to_run(task.account, task.owner, task.environment.id)
        veil = Veil([*given.values(), *([key] if key else [])])
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prime-hosted-eval-")))
        archive = await stack.enter_async_context(self._blobs.local(task.version.blob or ""))
        content = (await asyncio.to_thread(summarise, archive)).manifest
        if content is not None and task.config.get("allow_sandbox_access") is False:
            raise NotPlayed("This environment plays on a server in a sandbox, and this run allows it none.")
        recipe = await self._recipes.version(task.account, task.environment, task.version, scratch)
        await sink.log(f"Installing {task.environment.owner.slug}/{task.environment.name} {task.version.version} ...\n")
        code = await _until(stop, stack.enter_async_context(self._hosted.image(recipe, BUILD_SECONDS)))
        limits = vars(within(LIMITS, bounded(Limits(), self._settings)))
        lives = task.seconds + GRACE_SECONDS + AFTER_SECONDS
        server: HostedSandbox | None = None
        port = 0
        if content is not None:
            manifest, image, why_not = await server_of(self._access, task.account, task.environment, content)
            if manifest is None or image is None:
                raise NotPlayed(str(why_not))
            env = {**given, "ENABLE_WEB_INTERFACE": "false"}
            start = Start(lives, manifest.start_command, manifest.port, env, limits, ONLINE)
            server = await _until(stop, stack.enter_async_context(self._hosted.sandbox(image, start)))
            port = manifest.port
        box = await _until(stop, stack.enter_async_context(self._hosted.sandbox(code, Start(lives, limits=limits))))
        asked = {
            "words": [f"{task.environment.normalized_name}", *words(task.config, task.model), *_reach(endpoint)],
            "env": {**given, **({KEY: key or "none"} if endpoint is not None else {})},
            "server": None if server is None else "server",
            "grace": GRACE_SECONDS,
        }
        await sink.started()

        async def reach(_: str) -> tuple[str, int]:
            if server is None:
                raise Invalid("There is no server beside this run.")
            return await server.reach(port)

        await _Conversation(sink, veil, stop).hold(box, asked, reach, task.seconds)


def _reach(endpoint: Endpoint | None) -> list[str]:
    if endpoint is None:
        return []
    return ["--api-base-url", endpoint.url, "--api-key-var", KEY, "--api-client-type", endpoint.client_type]


async def _until(stop: asyncio.Event, work: Awaitable[Any]) -> Any:
    """What `work` comes to; NotPlayed, and `work` cancelled, when the run is to be ended before it has begun."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise NotPlayed("It was ended before it began to play.")
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await working


class Veil:
    """Takes keys and secrets out of what is kept of a run, where its code has said them as they are."""

    def __init__(self, values: list[str]) -> None:
        plain = sorted({one for one in values if len(one) >= SHORTEST_HIDDEN}, key=len, reverse=True)
        self._words = [one for value in plain for one in {value, json.dumps(value)[1:-1], value.strip()} if one]

    def __call__(self, text: str) -> str:
        """The same without them."""
        for word in self._words:
            text = text.replace(word, HIDDEN)
        return text


class _Conversation:
    """The messages of the program that plays."""

    def __init__(self, sink: Sink, veil: Veil, stop: asyncio.Event) -> None:
        self._sink, self._veil, self._stop = sink, veil, stop
        self._question: int | None = None
        self._asked = asyncio.Event()
        self._late = False

    async def hold(
        self,
        box: HostedSandbox,
        asked: dict[str, Any],
        reach: Callable[[str], Awaitable[tuple[str, int]]],
        seconds: float,
    ) -> None:
        """Until the program ends. Raises NotPlayed, TimeoutError."""
        argv = ["python", "-I", "-m", "verifiers.cli.eval_hosted"]
        code: int | None = None
        async with box.program(argv, folder=FOLDER) as program:
            tunnels = Tunnels(program, reach, TUNNEL_BYTES)
            ending = asyncio.create_task(self._end(program, seconds))
            try:
                await program.send(asked)
                async with asyncio.timeout(seconds + GRACE_SECONDS + AFTER_SECONDS) as limit:
                    stopped = asyncio.create_task(self._shorten(limit))
                    try:
                        async for message in program.messages():
                            if "ended" in message:
                                code = int(message["ended"])
                            elif not tunnels.take(message):
                                await self._take(message)
                    finally:
                        stopped.cancel()
            except TimeoutError:
                if self._stop.is_set():
                    return
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise BadGateway("The program sent something that is no message.") from error
            finally:
                ending.cancel()
                await tunnels.close()
            if self._late:
                raise TimeoutError
            if self._stop.is_set():
                return
            if code is None:
                if program.said:
                    await self._sink.log(self._veil(program.said))
                how = program.end.get("detail") or f"exit code {program.end.get('exit_code')}"
                raise NotPlayed(f"The sandbox of the run ended in the middle of it ({how}).")
            if code != 0:
                raise NotPlayed(f"vf-eval ended with exit code {code}; the log says why.")

    async def _end(self, program: Program, seconds: float) -> None:
        """Have it end when it is to."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            self._late = True
        await self._asked.wait()
        with suppress(HubError):
            await program.send({"id": self._question, "result": None})

    async def _shorten(self, limit: asyncio.Timeout) -> None:
        await self._stop.wait()
        limit.reschedule(asyncio.get_running_loop().time() + GRACE_SECONDS + AFTER_SECONDS)

    async def _take(self, message: dict[str, Any]) -> None:
        if message.get("call") == "stop":
            self._question = int(message["id"])
            self._asked.set()
        elif "rows" in message:
            if not isinstance(message["rows"], list):
                raise ValueError("rows")
            await self._sink.rows(self._veil(json.dumps({"samples": message["rows"]})).encode())
        elif "log" in message:
            await self._sink.log(self._veil(str(message["log"])))
        elif "about" in message:
            told = json.loads(self._veil(json.dumps(_finite(message["about"]))))
            if isinstance(told, dict):
                await self._sink.about(told)


def _finite(value: Any, depth: int = 0) -> Any:
    if depth > 50:
        return None
    if isinstance(value, dict):
        return {name: _finite(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one, depth + 1) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
