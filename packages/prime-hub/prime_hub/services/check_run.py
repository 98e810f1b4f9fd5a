"""One check of a published version: three kinds of sandboxes, and the messages between them, which all go through here.

- the *checker's*, with our own wheels and nothing else: it reads the source archive, asks, and makes the report;
- the *code's*, with the version installed: loads and plays the environment in a child, when the checker asks for it;
- *servers'*, of the version's image.

What strangers wrote runs in the second and third only. What comes back from there are answers to the checker's questions;
the report is what the checker's own program sends, in a sandbox where nothing else runs and that no account can enter.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prime_core.checks.report import Report
from prime_core.errors import ProjectError
from prime_core.manifest import Manifest, parse_manifest
from prime_hub.db.models import Account, Environment, Version
from prime_hub.db.types import storable
from prime_hub.errors import BadGateway, HubError, Invalid, NotFound, Unavailable
from prime_hub.runner.runtimes.values import Limits
from prime_hub.services.archives import summarise
from prime_hub.services.blobs import BlobStore
from prime_hub.services.hosted import BuildFailed, Hosted, HostedSandbox, Program, Start, why_not
from prime_hub.services.image_access import ImageAccess
from prime_hub.services.limits import bounded
from prime_hub.services.recipes import Recipes
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerDown
from prime_hub.services.tunnels import Tunnels
from prime_hub.settings import GIB, Settings

BUILD_SECONDS = 20 * 60.0
RUN_SECONDS = 20 * 60.0
MOST_SECONDS = 600.0
MOST_SERVERS = 12
LOG_BYTES = 64 * 1024
REPORT_BYTES = 2 * 1024 * 1024
TEXT = 20_000
"""Characters of one text of a report."""
FOLDER = "/app"
ARCHIVE = "checked.tar.gz"
LIMITS = Limits(cpus=2.0, memory_bytes=4 * GIB, disk_bytes=10 * GIB)
ONLINE: dict[str, Any] = {}
OFFLINE: dict[str, Any] = {"allow": []}

log = logging.getLogger("prime_hub.checks")
Progress = Callable[[str], Awaitable[None]]


class NotChecked(Exception):
    """The check cannot be made; the sentence says why, and `log` what was said then."""

    def __init__(self, sentence: str, log: str = "") -> None:
        super().__init__(sentence)
        self.log = log


@dataclass(frozen=True)
class Subject:
    """What is checked, and for whom: `account` has asked for it, `publisher` has published it."""

    account: Account
    publisher: Account
    environment: Environment
    version: Version


class CheckRuns:
    """Makes checks."""

    def __init__(
        self,
        settings: Settings,
        blobs: BlobStore,
        runner: Runner,
        access: ImageAccess,
        hosted: Hosted,
        recipes: Recipes,
    ) -> None:
        self._settings = settings
        self._blobs = blobs
        self._runner = runner
        self._access = access
        self._hosted = hosted
        self._recipes = recipes

    @property
    def runtime(self) -> str:
        """The runtime that checks are made on."""
        return self._runner.runtime

    async def run(self, subject: Subject, progress: Progress) -> Report:
        """The report; everything that was started for it is gone then. Raises NotChecked, and RunnerDown when the
        runner goes away.
        """
        try:
            await self._runner.client()
            self._access.require_trust(subject.account, subject.publisher)
            async with asyncio.timeout(2 * BUILD_SECONDS + RUN_SECONDS), AsyncExitStack() as stack:
                return await self._made(stack, subject, progress)
        except RunnerDown:
            raise
        except TimeoutError:
            raise NotChecked("It took longer than an hour, and was ended.") from None
        except (FileNotFoundError, HubError) as error:
            raise NotChecked(why_not(error), error.log if isinstance(error, BuildFailed) else "") from error

    async def _made(self, stack: AsyncExitStack, subject: Subject, progress: Progress) -> Report:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prime-check-")))
        archive = await stack.enter_async_context(self._blobs.local(subject.version.blob or ""))
        await progress("installing")
        recipe = await self._recipes.version(subject.account, subject.environment, subject.version, scratch)
        checker = await stack.enter_async_context(
            self._hosted.image(await asyncio.to_thread(self._recipes.checker), BUILD_SECONDS, keep="checker")
        )
        code = await stack.enter_async_context(self._hosted.image(recipe, BUILD_SECONDS))
        content = (await asyncio.to_thread(summarise, archive)).manifest
        manifest, image, no_image = await server_of(self._access, subject.account, subject.environment, content)
        task = {
            "archive": ARCHIVE,
            "owner": subject.environment.owner.slug,
            "content_hash": subject.version.content_hash,
            "image": manifest and {**manifest.as_dict(), "image_digest": image},
            "no_image": no_image,
            "offline": self._cannot_part(),
        }
        await progress("starting")
        limits = vars(within(LIMITS, bounded(Limits(), self._settings)))
        start = Start(RUN_SECONDS, limits=limits, egress=ONLINE if self._cannot_part() else OFFLINE)
        box = await stack.enter_async_context(self._hosted.sandbox(checker, start))
        await box.put(f"{FOLDER}/{ARCHIVE}", _chunks(archive))
        run = _Run(self._hosted, code, image, manifest, limits, progress)
        stack.push_async_callback(run.close)
        return await run.report(box, task)

    def _cannot_part(self) -> str | None:
        """Why this runtime cannot keep a sandbox from the network; None when it can."""
        if "egress" in (self._runner.info.get("enforces") or ()):
            return None
        return f"This Hub's runtime ({self._runner.runtime}) cannot keep a sandbox from the network."


async def server_of(
    access: ImageAccess, account: Account, environment: Environment, content: dict[str, Any] | None
) -> tuple[Manifest | None, str | None, str | None]:
    """(how the server of a version is started for `account`, by which image, why it cannot be)."""
    owner = environment.owner
    if content is None:
        return (
            None,
            None,
            "The published version names no image (proj/.build.json), so its server cannot be started.",
        )
    try:
        manifest = parse_manifest(content, environment.name)
        team = owner if owner.id != account.id else None
        digest = await access.runnable(account, manifest.image, manifest.image_digest, team)
    except ProjectError as error:
        return None, None, str(error.sentence)
    except HubError as error:
        return None, None, f"Its server cannot be started here. {error.detail}"
    return manifest, digest, None


def within(wanted: Limits, most: Limits) -> Limits:
    """What is wanted, as far as a sandbox of this Hub may have it."""
    given = {name: (value, vars(most)[name]) for name, value in vars(wanted).items()}
    return Limits(**{name: min((one for one in both if one), default=None) for name, both in given.items()})


async def _chunks(path: Path) -> AsyncGenerator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, 1 << 20):
            yield chunk


class _Run:
    """The conversation with the checker, and what it has had started."""

    def __init__(
        self,
        hosted: Hosted,
        code: str,
        image: str | None,
        manifest: Manifest | None,
        limits: dict[str, Any],
        progress: Progress,
    ) -> None:
        self._hosted = hosted
        self._code, self._image, self._manifest = code, image, manifest
        self._limits = limits
        self._progress = progress
        self._servers: dict[str, HostedSandbox] = {}
        self._started = 0
        self._stacks: dict[str, AsyncExitStack] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._box: HostedSandbox | None = None
        self._broken: Unavailable | None = None

    async def report(self, box: HostedSandbox, task: dict[str, Any]) -> Report:
        """What the checker reports. Raises NotChecked where it ends without."""
        argv = ["python", "-I", "-m", "verifiers.checking.on_hub"]
        async with box.program(argv, folder=FOLDER) as program:
            tunnels = Tunnels(program, self._reach)
            await program.send(task)
            try:
                async for message in program.messages():
                    if tunnels.take(message):
                        continue
                    if "report" in message:
                        if self._broken is not None:
                            raise self._broken
                        return read_report(message["report"])
                    if "progress" in message:
                        await self._progress(str(message["progress"]["group"]))
                    elif "call" in message:
                        answering = asyncio.create_task(self._answer(program, message))
                        self._answering.add(answering)
                        answering.add_done_callback(self._answering.discard)
            finally:
                await tunnels.close()
            ended = program.end.get("detail") or f"exit code {program.end.get('exit_code')}"
            raise NotChecked(f"The checker ended without a report ({ended}).", program.said)

    async def _reach(self, server: str) -> tuple[str, int]:
        box = self._servers.get(server)
        if box is None or self._manifest is None:
            raise NotFound("That server is gone.")
        return await box.reach(self._manifest.port)

    async def _answer(self, program: Program, message: dict[str, Any]) -> None:
        try:
            answer: dict[str, Any] = {"result": await self._call(message)}
        except Unavailable as error:  # no fault of what is checked, so nothing is found by it
            self._broken = error
            answer = {"refused": error.detail}
        except HubError as error:
            answer = {"refused": error.detail}
        except Exception as error:
            log.exception("a question of the checker could not be answered")
            answer = {"refused": f"The Hub failed on it ({type(error).__name__})."}
        with suppress(HubError):
            await program.send({"id": message["id"], **answer})

    async def _call(self, message: dict[str, Any]) -> Any:
        if message["call"] == "child":
            return await self._child(message)
        if message["call"] == "start":
            return await self._start(bool(message.get("offline")))
        box = self._servers.get(str(message.get("server")))
        if box is None:
            raise NotFound("That server is gone.")
        if message["call"] == "stop":
            await self._stop(box.id)
            return None
        if message["call"] == "ended":
            state = await box.call("GET")
            if state["status"] == "running":
                return None
            code = state.get("exit_code")
            return f"exit code {code}" if code is not None else f"the sandbox is {state['status']}"
        if message["call"] == "logs":
            return str((await box.call("GET", "/logs", tail=LOG_BYTES)).get("logs") or "")
        if message["call"] == "listening":
            found = await box.call("GET", "/listen")
            meant = bool(found.get("host_rewritten"))
            return [[one["host"], one["port"], meant] for one in found.get("addresses", [])]
        if message["call"] == "usage":
            used = await box.call("GET", "/usage")
            return [used.get("memory_bytes"), used.get("processes")]
        raise Invalid(f"The Hub knows no question '{str(message['call'])[:40]}'.")

    async def _start(self, offline: bool) -> str:
        if self._image is None or self._manifest is None:
            raise Invalid("There is no image to start a server of.")
        if self._started >= MOST_SERVERS:
            raise Invalid(f"{MOST_SERVERS} servers were started for this check already.")
        self._started += 1
        start = Start(
            RUN_SECONDS,
            start_command=self._manifest.start_command,
            port=self._manifest.port,
            env={"ENABLE_WEB_INTERFACE": "false"},
            limits=self._limits,
            egress=OFFLINE if offline else ONLINE,
        )
        stack = AsyncExitStack()
        box = await stack.enter_async_context(self._hosted.sandbox(self._image, start))
        self._servers[box.id], self._stacks[box.id] = box, stack
        return box.id

    async def _stop(self, box_id: str) -> None:
        self._servers.pop(box_id, None)
        stack = self._stacks.pop(box_id, None)
        if stack is not None:
            await stack.aclose()

    async def _child(self, message: dict[str, Any]) -> Any:
        """Load and play it, in the sandbox of its code; what that sandbox says of it."""
        if self._box is None:
            stack = AsyncExitStack()
            start = Start(RUN_SECONDS, limits=self._limits)
            self._box = await stack.enter_async_context(self._hosted.sandbox(self._code, start))
            self._stacks[self._box.id] = stack
        seconds = min(float(message["seconds"]), MOST_SECONDS)
        server = message.get("server")
        asked = {"task": message["task"], "seconds": seconds, "server": server}
        argv = ["python", "-I", "-m", "verifiers.checking.inside"]
        try:
            async with asyncio.timeout(seconds + 60), self._box.program(argv, folder=FOLDER) as program:
                tunnels = Tunnels(program, self._reach)
                await program.send(asked)
                try:
                    async for answer in program.messages():
                        if "told" in answer:
                            return answer["told"]
                        if not tunnels.take(answer):
                            raise BadGateway("The program in the environment's sandbox said what nobody asked it.")
                finally:
                    await tunnels.close()
        except TimeoutError:
            raise Invalid(f"Loading and playing it did not end within {seconds + 60:g} seconds.") from None
        raise Invalid(f"The sandbox of its code ended what loads it. It said: {program.said[-800:]}")

    async def close(self) -> None:
        """End all of it."""
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await asyncio.gather(*(stack.aclose() for stack in self._stacks.values()), return_exceptions=True)


def read_report(content: Any) -> Report:
    """The checker's report as this Hub keeps it: known checks only, finite numbers, texts of bounded length. Raises
    NotChecked for what is none.
    """
    try:
        report = Report.from_dict(_plain(content))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotChecked(f"The checker's report cannot be read ({type(error).__name__}: {error}).") from error
    if len(json.dumps(report.as_dict())) > REPORT_BYTES:
        raise NotChecked(f"The checker's report is larger than {REPORT_BYTES >> 20} MiB.")
    if not report.complete or not report.results:
        raise NotChecked("The checker's report is not complete.")
    return report


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > 12:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        return {str(name)[:200]: _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, depth + 1) for one in value[:500]]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return (storable(value[:TEXT]) or "").encode("utf-8", "replace").decode() if isinstance(value, str) else value
