"""Image builds by a container engine: any Dockerfile, a log as it goes, and an end that leaves nothing half made.

Docker is asked for BuildKit, which takes a context without a session of its own protocol; Podman has one builder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from prime_hub.runner.runtimes.base import BuildError, BuildLog, RunnerError
from prime_hub.runner.runtimes.oci_cgroups import end_all, group_name
from prime_hub.runner.runtimes.oci_config import IMAGE_LABEL
from prime_hub.runner.runtimes.oci_context import write_context
from prime_hub.runner.runtimes.oci_engine import Engine, EngineError
from prime_hub.runner.runtimes.oci_images import Images, prune_dangling
from prime_hub.runner.runtimes.oci_trace import KEPT_LINES, Trace
from prime_hub.runner.runtimes.values import BuildRequest, Image

CHUNK_BYTES = 1 << 20
END_SECONDS = 60.0

log_of_runner = logging.getLogger("prime_hub.runner")


class Builder:
    """Builds for one runner; `folder` holds the contexts meanwhile, `owner` is the runner's id."""

    def __init__(self, engine: Engine, images: Images, folder: Path, owner: str) -> None:
        self._engine = engine
        self._images = images
        self._folder = folder
        self._label = (IMAGE_LABEL, owner)
        self._owner = owner
        self._running = 0

    def _group(self, build: str) -> str:
        return group_name(self._engine, f"prime{self._owner}build", build)

    async def clean(self) -> None:
        """End and remove what builds of an earlier runner left. Raises EngineGone."""
        if self._engine.podman:
            await end_all(self._group(""))
        found = await self._images.listed(self._images.building)
        for tag in (tag for item in found for tag in item.get("RepoTags") or []):
            if tag.startswith(f"{self._images.building}:"):
                await self._images.remove(tag)
        for left in self._folder.glob("*.tar") if self._folder.is_dir() else ():
            left.unlink(missing_ok=True)

    async def build(self, request: BuildRequest, log: BuildLog) -> Image:
        """Build an image. Raises BuildError, OSError; when cancelled, the engine has stopped when this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        context = self._folder / f"{request.id}.tar"
        tag = f"{self._images.building}:{request.id.lower()[:120]}"
        self._running += 1
        try:
            await asyncio.to_thread(write_context, request.context, request.dockerfile, context)
            await self._run(request, context, tag, log)
            return await self._images.keep(tag)
        except EngineError as error:
            raise BuildError(f"The {self._engine.name} engine refused the build: {error}") from None
        finally:
            self._running -= 1
            context.unlink(missing_ok=True)
            await asyncio.shield(self._tidy(tag))

    async def _tidy(self, tag: str) -> None:
        """The build's own name goes; with it the image, unless it was kept."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._images.remove(tag)
                if not self._running:
                    await prune_dangling(self._engine, "=".join(self._label))
        except (RunnerError, TimeoutError) as error:
            log_of_runner.warning("after a build: %s", error)

    def _params(self, request: BuildRequest, tag: str) -> dict[str, str]:
        name, value = self._label
        params = {
            "t": tag,
            "dockerfile": request.dockerfile,
            "buildargs": json.dumps(request.build_args),
            "labels": json.dumps({name: value}),
            "nocache": str(request.no_cache).lower(),
            "rm": "true",
            "forcerm": "true",
        }
        if self._engine.podman:
            # It ends no step by itself when its client goes; by this its processes are found.
            return {**params, "cgroupparent": self._group(request.id)}
        return {**params, "version": "2", "buildid": tag}

    async def _run(self, request: BuildRequest, context: Path, tag: str, log: BuildLog) -> None:
        try:
            async with self._engine.stream(
                "POST", "build", params=self._params(request, tag), content=_content(context), seconds=None
            ) as reply:
                await _Answer(self._engine, log).read(reply)
        except asyncio.CancelledError:
            await asyncio.shield(self._stop(request, tag))
            raise
        finally:
            if self._engine.podman:
                await asyncio.shield(end_all(self._group(request.id)))

    async def _stop(self, request: BuildRequest, tag: str) -> None:
        """The closed connection has told the engine; this tells it by name, or ends the step that it would let run."""
        with contextlib.suppress(RunnerError):
            if self._engine.podman:
                await end_all(self._group(request.id))
            else:
                await self._engine.json("POST", "build/cancel", params={"id": tag}, seconds=END_SECONDS)


class _Answer:
    """The engine's answer to one build."""

    def __init__(self, engine: Engine, log: BuildLog) -> None:
        self._engine = engine
        self._log = log
        self._trace = Trace(log)
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)

    async def read(self, reply: Any) -> None:
        """Read it to its end, into the log. Raises BuildError."""
        done = False
        async for line in self._engine.lines(reply):
            if line.get("id") == "moby.buildkit.trace":
                self._trace.read(str(line.get("aux")))
            elif "error" in line or "errorDetail" in line:
                detail = line.get("errorDetail") or {}
                raise BuildError(self._sentence(str(detail.get("message") or line.get("error"))))
            elif "stream" in line:
                self._write(str(line["stream"]))
            elif line.get("status"):
                self._write(f"{line.get('id', '')} {line['status']}\n".lstrip())
            elif isinstance(line.get("aux"), dict) and line["aux"].get("ID"):
                done = True
        if not done:
            raise BuildError("The engine stopped building without saying why; see its log, and build again.")

    def _write(self, text: str) -> None:
        self._log.write(text)
        self._tail.extend(line for line in text.splitlines() if line.strip())

    def _sentence(self, reason: str) -> str:
        reason = reason.strip().removeprefix("failed to solve with frontend dockerfile.v0: ")
        reason = reason.removeprefix("failed to solve with frontend gateway.v0: ").removeprefix("failed to solve: ")
        said = [line for line in (self._trace.tail() or list(self._tail)) if line.strip() and line.strip() != reason]
        sentence = f"The image could not be built: {reason.rstrip('.')}."
        return "\n".join([sentence, "The last lines of that step:", *said]) if said else sentence


async def _content(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
