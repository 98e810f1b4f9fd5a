"""The program that plays an evaluation in a sandbox of the Hub: it runs `vf-eval` and tells the Hub of it while it goes on.

`python -I -m verifiers.cli.eval_hosted`, spoken to by `checking.link`. Its task: `{"words", "env", "server", "grace"}`. What it
sends: `{"log"}`, whole lines; `{"rows"}`, rollouts that are recorded, as rows of results.jsonl; `{"about"}`, the run's metadata;
`{"beat"}`; and last `{"ended"}`, the exit code. It asks `stop` once, which is answered when the run is to be ended.

It shares its sandbox with the environment's code, so what it tells is that code's word.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prime_evals.errors import NotARun
from prime_evals.records import FILE_NAME, scan, settled
from verifiers.checking.link import Link, Refused, unreadable

RUN = """
import sys
try:
    from verifiers.cli.eval import main
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(main())
"""
BATCH_BYTES = 2 * 1024 * 1024
ROW_BYTES = 12 * 1024 * 1024
LOOK_SECONDS = 1.0
BEAT_SECONDS = 15.0
LOG_BYTES = 16 * 1024
HEALTH_TRIES = 480
"""A quarter of a second apart, or as long as a server takes to say nothing."""
LAST_SECONDS = 15.0
"""Between SIGTERM and SIGKILL."""


class Rows:
    """What `attempts.jsonl` has that was not told yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._at = 0

    def batches(self, last: bool) -> Iterator[list[dict[str, Any]]]:
        """Rollouts that have become final since, in batches (blocking)."""
        file = next(self._folder.glob(f"evals/*/*/{FILE_NAME}"), None)
        if file is None:
            return
        batch: list[dict[str, Any]] = []
        size = 0
        with contextlib.suppress(NotARun):
            for record in settled(scan(file, self._at), at_end=last):
                self._at = record.end + 1
                row = record.data.get("output")
                if not record.final or not isinstance(row, dict):
                    continue
                index = record.data.get("rollout_index")
                row = {"example_id": record.data.get("example_id"), "rollout_index": index, **row}
                if record.length > ROW_BYTES:
                    kept = ("example_id", "rollout_index", "reward", "metrics", "stop_condition", "is_truncated")
                    row = {name: row[name] for name in kept if name in row}
                    row["error"] = {
                        "error": "TooLarge",
                        "message": f"The rollout is larger than {ROW_BYTES >> 20} MiB.",
                    }
                if batch and size + record.length > BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
                batch.append(row)
                size += min(record.length, ROW_BYTES)
        if batch:
            yield batch

    def about(self) -> dict[str, Any] | None:
        """The run's metadata.json, once there is one."""
        for file in self._folder.glob("evals/*/*/metadata.json"):
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(file.read_text(encoding="utf-8"))
                return found if isinstance(found, dict) else None
        return None


async def main() -> None:
    """Do the task."""
    unreadable()
    link = await Link.over_standard_pipes()
    task = await link.task()
    with tempfile.TemporaryDirectory(prefix="prime-eval-") as scratch:
        words = [*task["words"], "--output-dir", scratch, "--disable-tui"]
        if task.get("server"):
            url, _ = await link.listen(task["server"])
            words += ["--server", url]
            await _until_healthy(link, url)
        code = await _play(link, words, Path(scratch), task)
    await link.send({"ended": code})


async def _play(link: Link, words: list[str], scratch: Path, task: dict[str, Any]) -> int:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", RUN, *words),
        env={**os.environ, **task["env"]},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    reading = asyncio.create_task(_log(link, child))
    stopping = asyncio.create_task(_stop(link, child, float(task["grace"])))
    beating = asyncio.create_task(_beat(link))
    rows = Rows(scratch)
    ended = asyncio.create_task(child.wait())
    try:
        while not ended.done():
            await _tell(link, rows, last=False)
            await asyncio.wait({ended}, timeout=LOOK_SECONDS)
        await _tell(link, rows, last=True)
        if (about := await asyncio.to_thread(rows.about)) is not None:
            await link.send({"about": about})
        # What the environment has left running holds the pipe open, and is not waited for.
        await asyncio.wait({reading}, timeout=1.0)
        return ended.result()
    finally:
        for one in (reading, stopping, beating):
            one.cancel()
        await asyncio.gather(reading, stopping, beating, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


async def _tell(link: Link, rows: Rows, last: bool) -> None:
    batches = rows.batches(last)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        await link.send({"rows": batch})


async def _log(link: Link, child: asyncio.subprocess.Process) -> None:
    assert child.stdout is not None
    rest = b""
    while part := await child.stdout.read(LOG_BYTES):
        whole, _, rest = (rest + part).rpartition(b"\n")
        if len(rest) > LOG_BYTES:
            whole, rest = whole + b"\n" + rest, b""
        if whole:
            await link.send({"log": whole.decode("utf-8", "replace").strip("\n") + "\n"})
    if rest:
        await link.send({"log": rest.decode("utf-8", "replace") + "\n"})


async def _stop(link: Link, child: asyncio.subprocess.Process, grace: float) -> None:
    """End it when the Hub says so, or is gone: Ctrl-C first, so that what is being played is finished and kept."""
    try:
        await link.call("stop")
        steps = ((signal.SIGINT, grace), (signal.SIGTERM, LAST_SECONDS))
    except (ConnectionError, Refused):
        steps = ((signal.SIGTERM, LAST_SECONDS),)
    for number, seconds in steps:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
        with contextlib.suppress(OSError):
            await link.send({"log": f"The run is being ended ({number.name}).\n"})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(child.wait()), seconds)
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


async def _beat(link: Link) -> None:
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        await link.send({"beat": True})


async def _until_healthy(link: Link, url: str) -> None:
    """Wait for the server of the environment's image; what is wrong with one that never answers is told by the run."""
    from verifiers.openenv.probe import health_problem, new_client

    problem: str | None = None
    async with new_client(url) as client:
        for _ in range(HEALTH_TRIES):
            if (problem := await health_problem(client, url, 5.0)) is None:
                return
            await asyncio.sleep(0.25)
    await link.send({"log": f"The server of the environment's image is not healthy: {problem}\n"})


if __name__ == "__main__":
    asyncio.run(main())
