"""How a run is ended from outside. Ctrl-C once: what is being played is finished and recorded, and nothing else begins.
Ctrl-C again, or SIGTERM: what is finished is recorded, servers and sandboxes are let go of, and that is all.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from verifiers.evaluation.runner import Runner

OFFSET = 128
"""What shells add to the number of a signal, for the exit code of the program that it ended."""


class Ending:
    """Within the block SIGINT and SIGTERM end the task that `ends` has named: SIGTERM, and every Ctrl-C but the first,
    cancel it; the first one calls `finish`, where that is given. Where the event loop does not come to it, since the code
    of an environment keeps it to itself, the next signal ends that code with a KeyboardInterrupt.

    `number` is the signal that came first, `count` how many have come. Outside of the main thread, where signals do not
    arrive, nothing is changed.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.signals = signals or (signal.SIGINT, signal.SIGTERM)
        self.number: signal.Signals | None = None
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._finish: Callable[[], Any] | None = None
        self._asked = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for one in self.signals:
                self._before[one] = signal.signal(one, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before if before is not None else signal.SIG_DFL)

    def ends(self, task: asyncio.Task[Any] | None, finish: Callable[[], Any] | None = None) -> None:
        """From now on signals end this task of the running loop; with None they are only counted."""
        self._task, self._finish, self._asked = task, finish, False
        self._loop = None if task is None else asyncio.get_running_loop()
        if task is not None and self.number is not None:  # it came before
            task.cancel()

    @property
    def code(self) -> int | None:
        """The exit code of a program that the signal has ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return None if self.number is None else OFFSET + self.number

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or signal.Signals(number)
        self.count += 1
        if self._loop is None or self._loop.is_closed():
            return
        ended = self._task is not None and self._task.done()  # and threads are waited for
        if self._asked or ended:  # the loop has not come to it since
            self._asked = False
            raise KeyboardInterrupt
        self._asked = True
        at_once = self.count > 1 or number != signal.SIGINT or self._finish is None
        self._loop.call_soon_threadsafe(self._act, at_once)

    def _act(self, at_once: bool) -> None:
        self._asked = False
        if not at_once and self._finish is not None:
            self._finish()
        elif self._task is not None:
            self._task.cancel()


def finish(runners: Sequence[Runner]) -> None:
    """Begin nothing else in these runs, and say what is still waited for."""
    for runner in runners:
        runner.finish()
    running = sum(runner.progress.running for runner in runners)
    said = "Ending: no rollout begins any more."
    if running:
        what = "the rollout" if running == 1 else f"the {running} rollouts"
        said = f"Ending: no rollout begins any more, and {what} in flight can end. Ctrl-C again stops now, without waiting."
    print(said, file=sys.stderr, flush=True)
