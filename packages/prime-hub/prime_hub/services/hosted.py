"""Programs that the Hub itself runs: an image of its own making, sandboxes of it, and commands in them that are spoken to.

Such a sandbox belongs to no account: it is in no list, no key opens it, and nobody but the Hub puts a file or a command
into it. That is what makes an answer from it worth something. It has a lease that only this process renews, and its name is in
no table, so what a Hub that was killed has left is ended by the next one's sweep, or by its lease.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx

from prime_hub import frames
from prime_hub.db.models import Meta
from prime_hub.db.session import Database
from prime_hub.db.types import new_id
from prime_hub.errors import BadGateway, HubError
from prime_hub.services.pruning import free
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient, RunnerDown, parts
from prime_hub.services.starting import RUNNER_STARTING

HOLD_SECONDS = 20.0
LEASE_SECONDS = 90.0
SILENCE_SECONDS = 60.0
END_SECONDS = 30.0
LINE_BYTES = 16 * 1024 * 1024
SAID_BYTES = 32 * 1024

log = logging.getLogger("prime_hub.hosted")


class BuildFailed(HubError):
    """The image of a hosted program was not built; `log` is what the build said."""

    def __init__(self, detail: str, log: str) -> None:
        super().__init__(detail)
        self.log = log


def why_not(error: FileNotFoundError | HubError) -> str:
    """Why something of a version could not be run, in a sentence."""
    if isinstance(error, FileNotFoundError):
        return "The source archive of this version is not there any more."
    if isinstance(error, BuildFailed):
        return f"It could not be installed: {re.sub(r'^Dockerfile line [0-9]+ failed: ', '', error.detail)}"
    return error.detail


@dataclass(frozen=True)
class Recipe:
    """The files of a build context, the Dockerfile among them: path → content, or a file of this machine."""

    files: Mapping[str, bytes | Path]

    def pack(self, target: Path) -> None:
        """Write it as a `.tar.gz`, the same bytes for the same files (blocking)."""
        with tarfile.open(target, "w:gz", compresslevel=1) as archive:
            for name, content in sorted(self.files.items()):
                data = content if isinstance(content, bytes) else content.read_bytes()
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, BytesIO(data))


@dataclass(frozen=True)
class Start:
    """What a sandbox is started with; `seconds` is how long it lives at most."""

    seconds: float
    start_command: str | list[str] | None = None
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    egress: Mapping[str, Any] = field(default_factory=dict)


class Hosted:
    """Images and sandboxes of the Hub's own."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._held: set[str] = set()
        self._images: Counter[str] = Counter()
        self._building = asyncio.Lock()

    def holds(self, sandbox_id: str) -> bool:
        """Whether this process has started that sandbox, and not ended it yet."""
        return sandbox_id in self._held

    @asynccontextmanager
    async def image(self, recipe: Recipe, seconds: float, *, keep: str | None = None) -> AsyncGenerator[str]:
        """Build it; its digest. Afterwards it is removed, unless an account has the same one; `keep` names one that stays
        until another is built by that name.

        Raises BuildFailed, and RunnerDown when the runner goes away.
        """
        digest = await self._build(recipe, seconds)
        self._images[digest] += 1
        try:
            yield digest
        finally:
            self._images[digest] -= 1
            unused = digest if keep is None else await asyncio.shield(self._kept(keep, digest))
            if unused is not None and not self._images[unused]:
                with suppress(Exception):
                    await asyncio.shield(free(self._database, self._runner, unused))

    async def _kept(self, name: str, digest: str) -> str | None:
        """Write down that this is the image of that name now; the one that was, where it is another."""
        async with self._database.write() as session:
            row = await session.get(Meta, f"hosted/{name}")
            before = None if row is None or row.value == digest else row.value
            if row is None:
                session.add(Meta(key=f"hosted/{name}", value=digest))
            else:
                row.value = digest
        return before

    async def _build(self, recipe: Recipe, seconds: float) -> str:
        client = await self._runner.client()
        build = f"hosted-{new_id()}"
        async with self._building:  # one after the other: builds are heavy, and accounts' own go on beside them
            with tempfile.TemporaryDirectory(prefix="prime-hosted-") as scratch:
                context = Path(scratch) / "context.tar.gz"
                await asyncio.to_thread(recipe.pack, context)
                body = {"id": build, "context": str(context), "dockerfile": "Dockerfile", "build_args": {}}
                state = await client.call("POST", "/builds", body, timeout=60)
                deadline = time.monotonic() + seconds
                try:
                    while state["status"] == "running" and time.monotonic() < deadline:
                        state = await client.hold(f"/builds/{build}", HOLD_SECONDS)
                finally:
                    if state["status"] == "running":
                        with suppress(HubError):
                            await asyncio.shield(client.call("DELETE", f"/builds/{build}", timeout=END_SECONDS))
        if state["status"] == "ready":
            return str(state["digest"])
        said = await self._log_of(client, build)
        if state["status"] == "running":
            raise BuildFailed(f"It was not installed within {seconds / 60:g} minutes.", said)
        raise BuildFailed(str(state.get("error") or "The build failed."), said)

    @staticmethod
    async def _log_of(client: RunnerClient, build: str) -> str:
        with suppress(HubError):
            page = await client.call("GET", f"/builds/{build}/log", params={"offset": 0})
            return str(page["text"])[-SAID_BYTES:]
        return ""

    @asynccontextmanager
    async def sandbox(self, digest: str, start: Start) -> AsyncGenerator[HostedSandbox]:
        """A running sandbox; it is gone afterwards. Raises HubError with what kept it from starting."""
        client = await self._runner.client()
        box = HostedSandbox(client, f"hosted-{new_id()}")
        self._held.add(box.id)
        keeping: asyncio.Task[None] | None = None
        try:
            body = {
                "id": box.id,
                "digest": digest,
                "start_command": start.start_command,
                "port": start.port,
                "env": dict(start.env),
                "limits": dict(start.limits),
                "egress": dict(start.egress),
                "expires_at": time.time() + start.seconds,
                "lease_seconds": LEASE_SECONDS,
                "spare": True,  # in no table, which other Hubs of this host have to know
            }
            state = await client.call("POST", "/sandboxes", body, timeout=60)
            keeping = asyncio.create_task(_keep(client, box.id), name=f"lease of {box.id}")
            while state["status"] in RUNNER_STARTING:
                state = await client.hold(f"/sandboxes/{box.id}", HOLD_SECONDS)
            if state["status"] != "running" and state["status"] != "exited":
                raise BadGateway(str(state.get("error") or f"The sandbox is {state['status']}."))
            yield box
        finally:
            if keeping is not None:
                keeping.cancel()
            with suppress(HubError, TimeoutError):
                await asyncio.shield(
                    asyncio.wait_for(client.call("DELETE", f"/sandboxes/{box.id}", timeout=END_SECONDS), END_SECONDS)
                )
            self._held.discard(box.id)


async def _keep(client: RunnerClient, sandbox_id: str) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        with suppress(HubError):
            await client.call("POST", f"/sandboxes/{sandbox_id}/lease", {"lease_seconds": LEASE_SECONDS})


class HostedSandbox:
    """A sandbox that the Hub has started for itself."""

    def __init__(self, client: RunnerClient, sandbox_id: str) -> None:
        self.id = sandbox_id
        self._client = client

    async def call(self, method: str, what: str = "", **params: Any) -> dict[str, Any]:
        """One of the runner's routes beneath it; raises what `RunnerClient.call` does."""
        return await self._client.call(method, f"/sandboxes/{self.id}{what}", params=params or None, timeout=30)

    async def put(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Put a file into it."""
        await self._client.put_file(self.id, path, chunks, 300.0)

    async def reach(self, port: int) -> tuple[str, int]:
        """Host and port at which this machine reaches a port of it now."""
        found = await self._client.call("POST", f"/sandboxes/{self.id}/expose", {"port": port}, timeout=30)
        return str(found["host"]), int(found["port"])

    @asynccontextmanager
    async def program(
        self, argv: list[str], *, folder: str | None = None, env: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Program]:
        """Run a program in it, in a folder of it, whose input and output are messages; it is ended when this is left."""
        key = new_id()
        body = {"key": key, "argv": argv, "env": dict(env or {}), "working_dir": folder, "stdin": True}
        answer = await self._client.open("POST", f"/sandboxes/{self.id}/commands", body=body, silence=SILENCE_SECONDS)
        program = Program(self._client, f"/sandboxes/{self.id}/commands/{key}", answer)
        try:
            yield program
        finally:
            await program.close()


class Program:
    """A program's messages, one JSON object a line: what it sends (`messages`), and what it is sent (`send`)."""

    def __init__(self, client: RunnerClient, path: str, answer: httpx.Response) -> None:
        self._client, self._path, self._answer = client, path, answer
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue(64)
        self._writing = asyncio.create_task(self._write(), name="input of a hosted program")
        self._said = bytearray()
        self.end: dict[str, Any] = {}
        """How it ended: `exit_code`, and `detail` where it did not end by itself."""

    @property
    def said(self) -> str:
        """The end of what it has written to standard error."""
        return self._said.decode("utf-8", "replace").replace("\0", "")

    async def send(self, message: Mapping[str, Any]) -> None:
        """One message, when there is room. Raises RunnerDown once nothing can be sent any more."""
        putting = asyncio.ensure_future(self._outbox.put(json.dumps(message).encode() + b"\n"))
        await asyncio.wait({putting, self._writing}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            raise BadGateway("The program takes no more messages.")

    async def messages(self) -> AsyncGenerator[dict[str, Any]]:
        """Every message until it ends. Raises BadGateway for what is none, RunnerDown when the runner goes away."""
        decoder, line = frames.Decoder(), bytearray()
        async for part in parts(self._answer):
            for kind, payload in decoder.feed(part):
                if kind == frames.ERR:
                    self._said += payload
                    del self._said[:-SAID_BYTES]
                elif kind == frames.END:
                    self.end = json.loads(payload)
                elif kind == frames.OUT:
                    *lines, rest = payload.split(b"\n")
                    for one in lines:
                        yield _message(line + one)
                        line.clear()
                    line += rest
                    if len(line) > LINE_BYTES:
                        raise BadGateway(f"The program sent a message of more than {LINE_BYTES} bytes.")
        if not self.end:
            raise RunnerDown("The Hub's runner went away in the middle of a program.")

    async def _write(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            while (chunk := await self._outbox.get()) is not None:
                yield chunk

        with suppress(HubError, httpx.HTTPError):
            answer = await self._client.open("POST", f"{self._path}/stdin", content=chunks(), silence=None)
            await answer.aclose()

    async def close(self) -> None:
        """End it."""
        self._writing.cancel()
        with suppress(asyncio.CancelledError):
            await self._writing
        await self._answer.aclose()


def _message(line: bytearray) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadGateway("The program sent something that is no message.")
    return found
