"""Carrying out builds: the job that has a runner build or fetch an image and records what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from sqlalchemy import select

from prime_hub.db.models import Build, Image
from prime_hub.db.session import Database
from prime_hub.db.types import now, storable
from prime_hub.errors import BadGateway, HubError, NotFound
from prime_hub.services.blobs import BlobStore
from prime_hub.services.images import BUILD, ENDED, Images, point_tag
from prime_hub.services.jobs import Handler, Jobs, Retry
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient, RunnerDown, parts
from prime_hub.services.signals import Signals
from prime_hub.settings import Settings

HOLD_SECONDS = 20.0
FETCH_SECONDS = 20 * 60.0
PUSH_SILENCE_SECONDS = 10 * 60.0

log = logging.getLogger("prime_hub.builds")


class Builder:
    """Does the jobs of kind `build`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: BlobStore,
        jobs: Jobs,
        signals: Signals,
        runner: Runner,
        images: Images,
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._signals = signals
        self._runner = runner
        self._images = images
        self.on_end: list[Callable[[str], Awaitable[None]]] = []
        """Called with the id of each build that is over."""
        jobs.register(BUILD, Handler(self.run, self.give_up))

    async def run(self, build_id: str, attempt: int) -> None:
        """One attempt at a build. Raises Retry when the runner goes away."""
        async with self._database.read() as session:
            build = await session.get(Build, build_id)
        if build is None:
            return
        if build.status in ENDED:
            await self._clean(build_id)  # cancelled before its turn as a job came
            return
        try:
            client = await self._runner.client()
            if build.source is not None:
                await self._fetch(client, build)
            else:
                await self._build(client, build, attempt)
        except RunnerDown as error:
            raise Retry(str(error)) from error
        except HubError as error:
            await self.give_up(build_id, error.detail)

    async def _build(self, client: RunnerClient, build: Build, attempt: int) -> None:
        async with AsyncExitStack() as held:  # the context, which the runner reads when its turn comes
            runner_build = await self._running(client, build, attempt, held)
            while True:
                state = await client.hold(f"/builds/{runner_build}", HOLD_SECONDS)
                if state["status"] != "running":
                    break
        log_text = await self._runner_log(client, runner_build)
        problem = None
        if state["status"] == "ready" and self._settings.registry is not None:
            pushed, problem = await self._push(client, build, state["digest"], self._settings.registry)
            log_text += pushed
        await self._keep_log(build.id, log_text)
        if state["status"] == "ready":
            await self._complete(build.id, state, problem)
        else:
            status = "CANCELLED" if state["status"] == "cancelled" else "FAILED"
            await self._end(build.id, status, str(state.get("error") or "The build failed; its log says why."))

    async def _fetch(self, client: RunnerClient, build: Build) -> None:
        """Fetch an image; a build that is cancelled lets go of it, and the runner then stops."""
        async with self._database.write() as session:
            row = await session.get_one(Build, build.id)
            if row.status in ENDED:
                return
            row.status, row.host = "BUILDING", self._runner.host
            row.started_at = row.started_at or now()
        topic, began = f"build/{build.id}", time.monotonic()
        self._signals.send(topic)
        call = client.call("POST", "/images/fetch", {"reference": build.source}, timeout=FETCH_SECONDS)
        work = asyncio.ensure_future(call)
        work.add_done_callback(lambda _: self._signals.send(topic))

        async def status() -> str:
            async with self._database.read() as session:
                return (await session.get_one(Build, build.id)).status

        try:
            while not work.done():
                found = await self._signals.until(
                    topic, HOLD_SECONDS, status, lambda found: found in ENDED or work.done()
                )
                if found in ENDED:
                    await self._clean(build.id)
                    return
            image = work.result()
        except RunnerDown:
            raise
        except HubError as error:
            sentence = f"The image '{build.source}' could not be fetched: {error.detail}"
            await self._keep_log(build.id, f"{sentence}\n")
            await self._end(build.id, "FAILED", sentence)
            return
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, HubError):
                    await work
        took = time.monotonic() - began
        await self._keep_log(build.id, f"Fetched {build.source} as {image['digest']} in {took:.1f} s.\n")
        await self._complete(build.id, image, None)

    async def _push(self, client: RunnerClient, build: Build, digest: str, registry: str) -> tuple[str, str | None]:
        """(what was said, the sentence when it failed). The image is ready here all the same."""
        reference = f"{registry}/{build.owner.slug}/{build.name}:{build.tag}"
        lines = [f"Pushing it to {reference}.\n"]
        try:
            async for event in _pushing(client, digest, reference):
                if detail := event.get("detail"):
                    raise BadGateway(str(detail))
                lines.append(str(event.get("text") or ""))
        except RunnerDown:
            raise
        except HubError as error:
            sentence = f"The image is ready on this Hub, but it could not be pushed to {reference}: {error.detail}"
            return "".join([*lines, f"{sentence}\n"]), sentence
        return "".join([*lines, f"It is in the registry as {reference}.\n"]), None

    async def _running(self, client: RunnerClient, build: Build, attempt: int, held: AsyncExitStack) -> str:
        """The runner's name for it: an earlier attempt's build if that goes on or went well, else a new one."""
        if build.runner_build is not None:
            with suppress(NotFound):
                state = await client.call("GET", f"/builds/{build.runner_build}")
                if state["status"] in ("running", "ready"):
                    return build.runner_build
        runner_build = f"{build.id}-{attempt}"
        context = await held.enter_async_context(self._blobs.local(build.context_blob or ""))
        body = {
            "id": runner_build,
            "context": str(context),
            "dockerfile": build.dockerfile,
            "build_args": build.build_args,
            "no_cache": build.no_cache,
        }
        await client.call("POST", "/builds", body, timeout=60)
        async with self._database.write() as session:
            row = await session.get_one(Build, build.id)
            cancelled = row.status in ENDED
            if not cancelled:
                row.status, row.runner_build, row.host = "BUILDING", runner_build, self._runner.host
                row.started_at = row.started_at or now()
        if cancelled:
            await client.call("DELETE", f"/builds/{runner_build}")
        self._signals.send(f"build/{build.id}")
        return runner_build

    async def _runner_log(self, client: RunnerClient, runner_build: str) -> str:
        text, offset = [], 0
        while True:
            page = await client.call("GET", f"/builds/{runner_build}/log", params={"offset": offset})
            text.append(str(page["text"]))
            if page["complete"] or not page["text"]:
                return "".join(text)
            offset = int(page["offset"])

    async def _keep_log(self, build_id: str, text: str) -> None:
        """The log outlives the runner's own copy."""
        key = f"logs/builds/{build_id}"
        try:
            await self._blobs.put_bytes(key, text.encode(), "build log")
        except HubError as error:
            log.warning("the log of build %s could not be kept: %s", build_id, error)
            return
        async with self._database.write() as session:
            (await session.get_one(Build, build_id)).log_blob = key

    async def _complete(self, build_id: str, state: dict[str, Any], problem: str | None) -> None:
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if build.status in ENDED:
                return  # cancelled in the moment that it was ready
            query = select(Image).where(
                Image.owner_id == build.owner_id,
                Image.digest == state["digest"],
                Image.kind == self._runner.images_kind,
                Image.host == self._runner.host,
            )
            image = (await session.scalars(query)).first()
            if image is None:
                image = Image(
                    owner_id=build.owner_id,
                    user_id=build.user_id,
                    digest=state["digest"],
                    kind=self._runner.images_kind,
                    host=self._runner.host,
                )
                session.add(image)
            if image.user_id == build.user_id:  # of what somebody else built it says nothing
                image.recipe = build.recipe
            image.size = int(state.get("size") or 0)
            image.config = dict(state.get("config") or {})
            if build.port is not None:
                image.config["port"] = build.port
            await session.flush()
            build.error = storable(problem)
            await point_tag(session, build, image)
        await self._clean(build_id)

    async def _end(self, build_id: str, status: str, error: str) -> None:
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if build.status not in ENDED:
                build.status, build.error, build.completed_at = status, storable(error), now()
        await self._clean(build_id)

    async def _clean(self, build_id: str) -> None:
        self._signals.send(f"build/{build_id}")
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            context, build.context_blob = build.context_blob, None
        if context:
            await self._blobs.delete(context)
        await self._images.turn()
        for callback in self.on_end:
            await callback(build_id)

    async def give_up(self, build_id: str, reason: str) -> None:
        """Record that the build will not be tried again."""
        await self._end(build_id, "FAILED", reason)


async def _pushing(client: RunnerClient, digest: str, reference: str) -> AsyncIterator[dict[str, Any]]:
    answer = await client.open(
        "POST", f"/images/{digest}/publish", body={"reference": reference}, silence=PUSH_SILENCE_SECONDS
    )
    rest = b""
    async for part in parts(answer):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield json.loads(line)
