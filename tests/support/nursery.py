"""Hub processes that start at once: forked from one process for each test worker that has imported the Hub already.

Importing takes the better part of a Hub's start, and the tests start hundreds of them. That the program starts from
nothing is shown where it is the subject: by `prime hub`, by `python -m prime_hub`, by the demo.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path


class Forked:
    """A process that was started here, used as a `subprocess.Popen` is."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs, or while nobody has looked."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("prime_hub", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, if it runs."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
    """`python -m prime_hub ARGUMENTS` in this environment, with its output at the end of `log`."""
    # Whatever is left when the worker ends is ended with it.
    process = _context().Process(
        target=_run, args=(list(arguments), dict(environment), str(log), str(Path.cwd())), daemon=True
    )
    process.start()
    return Forked(process)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["prime_hub.server"])
    return context


def _run(arguments: list[str], environment: dict[str, str], log: str, folder: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(file, number)
    os.close(output)
    os.close(nothing)
    sys.argv = ["prime_hub", *arguments]
    from prime_hub.__main__ import main

    sys.exit(main(arguments))
