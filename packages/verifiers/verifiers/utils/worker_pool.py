"""Child processes that answer questions under a time limit which holds, whatever they compute.

A thread cannot be stopped and a signal does not reach C code; a process can be killed. A worker is any program that says
one JSON line when it is ready, and then one for every line `[question, limit in seconds]` that it reads. Nothing here
belongs to an event loop, so one pool serves them all.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


class WorkerTimeout(Exception):
    """The answer took longer than its limit; the worker is dead."""


class WorkerDied(Exception):
    """The worker ended in the middle of a question."""


class WorkerNotStarted(Exception):
    """The worker's program does not start."""


class WorkerPool:
    """At most `max_workers` workers of the Python program `file`, started when they are needed.

    start_seconds: how long one may take to say that it is ready. `close` ends all of them; the pool can be used again.
    """

    def __init__(self, file: Path, max_workers: int, start_seconds: float) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers must be 1 or more, not {max_workers}.")
        self.file = file
        self.max_workers = max_workers
        self.start_seconds = start_seconds
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._idle: list[_Worker] = []
        self._living: set[_Worker] = set()
        weakref.finalize(self, _end, self._living)

    async def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One worker's answer. The limit counts from when a worker has the question, not from the queue.

        Raises WorkerTimeout, WorkerDied, WorkerNotStarted.
        """
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.max_workers, thread_name_prefix="worker-pool")
            threads = self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, self._ask, question, seconds)

    def close(self) -> None:
        """End all workers, also those that compute."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._idle.clear()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
            _end(self._living)
            threads.shutdown(wait=True)
        _end(self._living)  # what was just being started, too
        self._living.clear()

    def _ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is not None and worker.process.poll() is not None:
            self._living.discard(worker)
            worker.end()
            worker = None
        worker = worker or self._start()
        try:
            answer = worker.ask(question, seconds)
        except Exception:
            worker.end()
            self._living.discard(worker)
            raise
        with self._lock:
            self._idle.append(worker)
        return answer

    def _start(self) -> _Worker:
        worker = _Worker(self.file)
        self._living.add(worker)
        try:
            worker.ask(None, self.start_seconds)
        except (WorkerTimeout, WorkerDied) as error:
            worker.end()
            self._living.discard(worker)
            raise WorkerNotStarted(f"{self.file.name} did not start within {self.start_seconds:g} seconds.") from error
        return worker


class _Worker:
    """One child process."""

    def __init__(self, file: Path) -> None:
        # It sees the modules that this process sees; -P: what lies beside its file does not hide them.
        paths = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def ask(self, question: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
        """The next line it says, after this question if there is one."""
        assert self.process.stdin is not None and self.process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            if question is not None:
                self.process.stdin.write(json.dumps([question, seconds]).encode() + b"\n")
                self.process.stdin.flush()
            line = self.process.stdout.readline()
        except (OSError, ValueError):  # a pipe that is closed, at the other end or here
            line = b""
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            if late.is_set():
                raise WorkerTimeout(f"no answer within {seconds:g} seconds")
            raise WorkerDied(f"the worker ended with {self._exit_code()}")
        return json.loads(line)

    def _exit_code(self) -> int | None:
        try:
            return self.process.wait(1)  # its pipe closes a moment before it is gone
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Kill it, and leave neither a zombie nor an open pipe."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was still to be written has nowhere to go
                    pass


def _end(workers: set[_Worker]) -> None:
    for worker in list(workers):
        worker.end()
