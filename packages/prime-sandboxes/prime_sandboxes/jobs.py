"""Background jobs: commands that go on without their caller. The part of AsyncSandboxClient about them.

A job is a command of the sandbox whose key is made from the job's id; its output and its exit code go to files, so they
are there whoever listens. Whoever waits for it listens to that command, and asks for nothing again and again.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prime_sandboxes.exceptions import (
    CommandError,
    CommandTimeoutError,
    SandboxFileNotFoundError,
)
from prime_sandboxes.models import BackgroundJob, BackgroundJobStatus

if TYPE_CHECKING:
    from prime_sandboxes.client import AsyncSandboxClient

LINGER_SECONDS = 24 * 3600.0
JOB_SECONDS = 900.0
STATUS_SECONDS = 60.0
AT_ONCE = 20
TAIL_BYTES = 10 << 20

# $1 the command, $2 what the names of the job's files begin with. The job has a session of its own, so that it outlives
# the command that started it; an exit code appears in one step.
LAUNCH = """
mkdir -p "${2%/*}" && : > "$2.stdout.log" && : > "$2.stderr.log" || exit 126
own=; command -v setsid > /dev/null 2>&1 && own=setsid
shell=/bin/sh; [ -x /bin/bash ] && shell=/bin/bash
$own $shell -c '"$0" -c "$1" > "$2.stdout.log" 2> "$2.stderr.log"; echo $? > "$2.new" && mv "$2.new" "$2.exit"' \
  $shell "$1" "$2" < /dev/null > /dev/null 2>&1 &
echo started
wait $!
"""
UNTIL = 'while [ ! -e "$1" ]; do sleep 0.2; done'


class JobCalls:
    """Starting jobs, looking at them, waiting for them."""

    async def start_background_job(
        self: AsyncSandboxClient,
        sandbox_id: str,
        command: str,
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> BackgroundJob:
        """Start a shell command that goes on by itself, and return at once. Raises CommandError,
        SandboxNotRunningError.
        """
        job_id = uuid.uuid4().hex[:8]
        base = f"/tmp/job_{job_id}"
        process = await self.open_process(
            sandbox_id,
            ["/bin/sh", "-c", LAUNCH, "job", command, base],
            working_dir,
            env,
            user,
            stdin=False,
            linger=LINGER_SECONDS,
            key=_key(job_id),
        )
        try:
            if await anext(process.stdout, None) is None:
                code = await process.wait()
                raise CommandError(f"The sandbox has no /tmp for the job's files (exit code {code}): {command[:200]}")
        finally:
            await process.detach()
        return BackgroundJob(job_id, sandbox_id, f"{base}.stdout.log", f"{base}.stderr.log", f"{base}.exit")

    async def get_background_job(
        self: AsyncSandboxClient, sandbox_id: str, job: BackgroundJob, timeout: float | None = None
    ) -> BackgroundJobStatus:
        """How a job stands; once it has ended, with the last 10 MiB of each of its outputs."""
        status = await self.get_background_job_status(sandbox_id, job, timeout)
        if status.completed:
            seconds = timeout or STATUS_SECONDS
            for name, path in (("stdout", job.stdout_log_file), ("stderr", job.stderr_log_file)):
                window = await self.read_file(sandbox_id, path, seconds, offset=-TAIL_BYTES, length=TAIL_BYTES)
                setattr(status, name, window.content)
        return status

    async def get_background_job_status(
        self: AsyncSandboxClient, sandbox_id: str, job: BackgroundJob, timeout: float | None = None
    ) -> BackgroundJobStatus:
        """Whether a job has ended, and with which exit code, without its output."""
        try:
            written = await self.read_file(sandbox_id, job.exit_file, timeout or STATUS_SECONDS)
        except SandboxFileNotFoundError:
            return BackgroundJobStatus(job.job_id, False)
        return BackgroundJobStatus(job.job_id, True, int(written.content.strip() or 1))

    async def get_background_jobs(
        self: AsyncSandboxClient, jobs: Sequence[BackgroundJob], timeout: float | None = None
    ) -> list[BackgroundJobStatus]:
        """How several jobs stand, of one sandbox or of many, in their order."""
        import asyncio

        turns = asyncio.Semaphore(AT_ONCE)

        async def one(job: BackgroundJob) -> BackgroundJobStatus:
            async with turns:
                return await self.get_background_job(job.sandbox_id, job, timeout)

        return list(await asyncio.gather(*map(one, jobs)))

    async def wait_for_background_job(
        self: AsyncSandboxClient, sandbox_id: str, job: BackgroundJob, timeout: float | None = None
    ) -> BackgroundJobStatus:
        """How a job ended, once it has. Raises CommandTimeoutError when it has not within `timeout` seconds."""
        import asyncio

        try:
            async with asyncio.timeout(timeout):
                await self._job_ended(sandbox_id, job)
        except TimeoutError:
            raise CommandTimeoutError(
                f"The job {job.job_id} did not end within {timeout:g} seconds and goes on.", "job_timeout"
            ) from None
        return await self.get_background_job(sandbox_id, job)

    async def _job_ended(self: AsyncSandboxClient, sandbox_id: str, job: BackgroundJob) -> None:
        while not (await self.get_background_job_status(sandbox_id, job)).completed:
            try:
                process = await self.attach(sandbox_id, _key(job.job_id))
            except CommandError:
                # Not held any more (the Hub's runner is another one by now): then somebody in the sandbox looks.
                process = await self.open_process(sandbox_id, ["/bin/sh", "-c", UNTIL, "job", job.exit_file])
            try:
                await process.wait()
            except CommandError:
                continue
            finally:
                await process.detach()

    async def run_background_job(
        self: AsyncSandboxClient,
        sandbox_id: str,
        command: str,
        timeout: float = JOB_SECONDS,
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        poll_interval: float = 3,
        user: str | None = None,
    ) -> BackgroundJobStatus:
        """Start a job and wait for its end, in `timeout` seconds at most; it outlives connections that break.

        `poll_interval` is for callers of the official client: nothing is polled here. Raises CommandTimeoutError (the
        job is then ended), CommandError, SandboxNotRunningError.
        """
        job = await self.start_background_job(sandbox_id, command, working_dir, env, user)
        try:
            return await self.wait_for_background_job(sandbox_id, job, timeout)
        except CommandTimeoutError:
            await self.stop_background_job(sandbox_id, job)
            raise CommandTimeoutError(
                f"The job did not end within {timeout:g} seconds and was ended: {command[:200]}", "job_timeout"
            ) from None

    async def stop_background_job(self: AsyncSandboxClient, sandbox_id: str, job: BackgroundJob) -> None:
        """End a job and what it started; nothing when it has ended."""
        pattern = shlex.quote(job.exit_file.removesuffix(".exit"))
        await self.execute_command(sandbox_id, STOP.replace("BASE", pattern), timeout=STATUS_SECONDS)


# Its session is that of the shell whose last word is the job's base name. Without /proc or setsid nothing is found.
STOP = """
for entry in /proc/[0-9]*; do
  [ "$(tr '\\0' '\\n' < "$entry/cmdline" 2> /dev/null | tail -n 1)" = BASE ] && kill -9 -- "-${entry#/proc/}" 2> /dev/null
done
[ -e BASE.exit ] || echo 137 > BASE.exit
"""


def _key(job_id: str) -> str:
    return f"job-{job_id}"
