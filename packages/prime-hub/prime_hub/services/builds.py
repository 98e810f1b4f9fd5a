"""Carrying out builds: the job that has a runner build an image and records what came of it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from sqlalchemy import select

from prime_hub.db.models import Build, Image
from prime_hub.db.session import Database
from prime_hub.db.types import now
from prime_hub.errors import HubError, NotFound
from prime_hub.services.blobs import BlobStore
from prime_hub.services.images import BUILD, ENDED, point_tag
from prime_hub.services.jobs import Handler, Jobs, Retry
from prime_hub.services.runner import Runner
from prime_hub.services.runner_client import RunnerClient, RunnerDown
from prime_hub.services.signals import Signals

HOLD_SECONDS = 20.0

log = logging.getLogger("prime_hub.builds")


class Builder:
    """Does the jobs of kind `build`."""

    def __init__(self, database: Database, blobs: BlobStore, jobs: Jobs, signals: Signals, runner: Runner) -> None:
        self._database = database
        self._blobs = blobs
        self._signals = signals
        self._runner = runner
        jobs.register(BUILD, Handler(self.run, self.give_up))

    async def run(self, build_id: str, attempt: int) -> None:
        """One attempt at a build. Raises Retry when the runner goes away."""
        async with self._database.read() as session:
            build = await session.get(Build, build_id)
        if build is None or build.status in ENDED:
            return
        try:
            client = await self._runner.client()
            runner_build = await self._running(client, build, attempt)
            while True:
                state = await client.hold(f"/builds/{runner_build}", HOLD_SECONDS)
                if state["status"] != "running":
                    break
            await self._keep_log(client, build_id, runner_build)
        except RunnerDown as error:
            raise Retry(str(error)) from error
        except HubError as error:
            await self.give_up(build_id, error.detail)
            return
        if state["status"] == "ready":
            await self._complete(build_id, state)
        else:
            status = "CANCELLED" if state["status"] == "cancelled" else "FAILED"
            await self._end(build_id, status, str(state.get("error") or "The build failed; its log says why."))

    async def _running(self, client: RunnerClient, build: Build, attempt: int) -> str:
        """The runner's name for it: an earlier attempt's build if that goes on or went well, else a new one."""
        if build.runner_build is not None:
            with suppress(NotFound):
                state = await client.call("GET", f"/builds/{build.runner_build}")
                if state["status"] in ("running", "ready"):
                    return build.runner_build
        runner_build = f"{build.id}-{attempt}"
        async with self._blobs.local(build.context_blob or "") as context:
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

    async def _keep_log(self, client: RunnerClient, build_id: str, runner_build: str) -> None:
        """The log outlives the runner's own copy."""
        text, offset = [], 0
        while True:
            page = await client.call("GET", f"/builds/{runner_build}/log", params={"offset": offset})
            text.append(str(page["text"]))
            if page["complete"] or not page["text"]:
                break
            offset = int(page["offset"])
        key = f"logs/builds/{build_id}"
        try:
            await self._blobs.put_bytes(key, "".join(text).encode(), "build log")
        except HubError as error:
            log.warning("the log of build %s could not be kept: %s", build_id, error)
            return
        async with self._database.write() as session:
            (await session.get_one(Build, build_id)).log_blob = key

    async def _complete(self, build_id: str, state: dict[str, Any]) -> None:
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            if build.status in ENDED:
                return  # cancelled in the moment that it was ready
            query = select(Image).where(
                Image.owner_id == build.owner_id,
                Image.digest == state["digest"],
                Image.runtime == self._runner.runtime,
                Image.host == self._runner.host,
            )
            image = (await session.scalars(query)).first()
            if image is None:
                image = Image(
                    owner_id=build.owner_id,
                    digest=state["digest"],
                    runtime=self._runner.runtime,
                    host=self._runner.host,
                )
                session.add(image)
            image.recipe, image.size = build.recipe, int(state.get("size") or 0)
            image.config = dict(state.get("config") or {})
            if build.port is not None:
                image.config["port"] = build.port
            await session.flush()
            await point_tag(session, build, image)
        await self._clean(build_id)

    async def _end(self, build_id: str, status: str, error: str) -> None:
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            build.status, build.error, build.completed_at = status, error, now()
        await self._clean(build_id)

    async def _clean(self, build_id: str) -> None:
        self._signals.send(f"build/{build_id}")
        async with self._database.write() as session:
            build = await session.get_one(Build, build_id)
            context, build.context_blob = build.context_blob, None
        if context:
            await self._blobs.delete(context)

    async def give_up(self, build_id: str, reason: str) -> None:
        """Record that the build will not be tried again."""
        await self._end(build_id, "FAILED", reason)
