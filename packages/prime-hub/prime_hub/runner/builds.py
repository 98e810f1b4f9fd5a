"""Build jobs: one task each, a few at a time, with a log to read along, a time limit and a way to cancel."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prime_hub.runner.records import write_private
from prime_hub.runner.runtimes.base import BuildError, RunnerError, Runtime
from prime_hub.runner.runtimes.values import BuildRequest, Image

log = logging.getLogger("prime_hub.runner")

AT_ONCE = 2
KEPT_JOBS = 200
LOG_BYTES = 8 << 20
READ_BYTES = 1 << 20
JOB_FILE = "build.json"
LOG_FILE = "build.log"


class UnknownBuild(Exception):
    """No build of that id is known."""


class Job:
    """One build: `status` is running, ready, failed or cancelled; `error` a sentence when it is not ready."""

    def __init__(self, request: BuildRequest, folder: Path) -> None:
        self.request = request
        self.folder = folder
        self.status = "running"
        self.error: str | None = None
        self.image: Image | None = None
        self.created_at = time.time()
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()

    def state(self) -> dict[str, Any]:
        """The job as the Hub sees it."""
        image = self.image.as_dict() if self.image else {"digest": None, "config": None, "size": None}
        return {"id": self.request.id, "status": self.status, "error": self.error, **image}

    def write(self, text: str) -> None:
        """Append to the log, up to its bound; a full disk loses the line."""
        path = self.folder / LOG_FILE
        with contextlib.suppress(OSError), path.open("ab") as file:
            room = LOG_BYTES - file.tell()
            if room > 0:
                data = text.encode("utf-8", "replace")
                file.write(data if len(data) <= room else data[:room] + b"\n[the log is cut here]\n")
        self._wake()

    def read_log(self, offset: int) -> tuple[str, int, bool]:
        """(text from byte `offset`, the offset to go on with, whether the log is complete)."""
        try:
            with (self.folder / LOG_FILE).open("rb") as file:
                file.seek(max(0, offset))
                data = file.read(READ_BYTES)
        except OSError:
            data = b""
        # A character that is only half written yet waits for the next read.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        over = self.status != "running" and len(data) < READ_BYTES
        text = decoder.decode(data, final=over)
        return text, max(0, offset) + len(data) - len(decoder.getstate()[0]), over

    def finish(self, status: str, error: str | None = None) -> None:
        """The end, once."""
        self.status, self.error = status, error
        content = {"id": self.request.id, "status": status, "error": error, "created_at": self.created_at}
        digest = self.image.digest if self.image else None
        with contextlib.suppress(OSError):
            write_private(self.folder / JOB_FILE, json.dumps({**content, "digest": digest}))
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Builds:
    """All build jobs of one runner. `on_change` is called whenever one begins or ends."""

    def __init__(self, folder: Path, runtime: Runtime, limit_seconds: float, on_change: Callable[[], object]) -> None:
        self._folder = folder
        self._runtime = runtime
        self._limit = limit_seconds
        self._on_change = on_change
        self._jobs: dict[str, Job] = {}
        self._closed = False
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def open(self) -> None:
        """Read what an earlier runner left; what it was building has failed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(self._folder.iterdir()):
            try:
                saved = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
                job = Job(BuildRequest(saved["id"], Path()), folder)
                job.status, job.error, job.created_at = saved["status"], saved["error"], saved["created_at"]
                if job.status == "ready":
                    job.image = await self._runtime.image(saved["digest"])
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            if job.status == "running":
                job.finish("failed", "The runner was restarted while it was building; build again.")
            self._jobs[job.request.id] = job

    def create(self, request: BuildRequest) -> Job:
        """Begin a build; the one of the same id when there is one already. Raises OSError,
        RunnerError.
        """
        known = self._jobs.get(request.id)
        if known is not None:
            return known
        if self._closed:
            raise RunnerError("The runner is about to end; ask again.")
        job = Job(request, self._folder / request.id)
        job.folder.mkdir(parents=True, exist_ok=True)
        self._jobs[request.id] = job
        job.finish("running")
        job.task = asyncio.create_task(self._run(job), name=f"build {request.id}")
        self._forget_old()
        self._on_change()
        return job

    async def _run(self, job: Job) -> None:
        started = time.monotonic()
        try:
            async with self._gate, asyncio.timeout(self._limit):
                job.image = await self._runtime.build(job.request, job)
            job.write(f"Image {job.image.digest} is ready after {time.monotonic() - started:.1f} s.\n")
            job.finish("ready")
        except asyncio.CancelledError:
            self._failed(job, "cancelled", "The build was cancelled.")
        except TimeoutError:
            self._failed(job, "failed", f"The build took longer than {_words(self._limit)} and was stopped.")
        except BuildError as error:
            self._failed(job, "failed", str(error))
        except OSError as error:
            full = "The disk of this machine is full, so the image could not be built; free some space and build again."
            self._failed(job, "failed", full if error.errno == errno.ENOSPC else f"The build failed: {error}.")
        except Exception as error:
            log.exception("build %s", job.request.id)
            self._failed(job, "failed", f"The builder failed ({type(error).__name__}: {error}); see the runner's log.")
        finally:
            self._on_change()

    def _failed(self, job: Job, status: str, error: str) -> None:
        job.write(f"{error}\n")
        job.finish(status, error)

    def get(self, build_id: str) -> Job:
        """A job, running or over. Raises UnknownBuild."""
        job = self._jobs.get(build_id)
        if job is None:
            raise UnknownBuild(f"No build {build_id} is known here.")
        return job

    async def wait(self, build_id: str, seconds: float) -> Job:
        """The job as soon as it is over, or as it is after `seconds`. Raises UnknownBuild."""
        job = self.get(build_id)
        if job.task is not None:
            await asyncio.wait({job.task}, timeout=seconds)
        return job

    async def wait_log(self, build_id: str, offset: int, seconds: float) -> Job:
        """The job as soon as its log goes beyond `offset` or it is over. Raises UnknownBuild."""
        job = self.get(build_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while job.status == "running" and not job.read_log(offset)[0]:
                    await job.changed.wait()
        return job

    async def cancel(self, build_id: str) -> Job:
        """Stop a build and return when nothing of it runs any more. Raises UnknownBuild."""
        job = self.get(build_id)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait({job.task})
            if job.status == "running":  # It was cancelled before its first step.
                self._failed(job, "cancelled", "The build was cancelled.")
        return job

    def running_count(self) -> int:
        """How many are not over."""
        return sum(job.status == "running" for job in self._jobs.values())

    def _forget_old(self) -> None:
        over = sorted((job for job in self._jobs.values() if job.status != "running"), key=lambda job: job.created_at)
        for job in over[: max(0, len(over) - KEPT_JOBS)]:
            del self._jobs[job.request.id]
            shutil.rmtree(job.folder, ignore_errors=True)

    async def close(self) -> None:
        """Cancel all builds and take no more."""
        self._closed = True
        for build_id in [job.request.id for job in self._jobs.values() if job.status == "running"]:
            await self.cancel(build_id)


def _words(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
