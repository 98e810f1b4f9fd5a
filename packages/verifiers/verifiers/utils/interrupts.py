"""Ctrl-C and SIGTERM as the orderly end of a task."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import Any, Self

OFFSET = 128
"""What shells add to the number of a signal, for the exit code of the program that it ended."""


class Interrupts:
    """Within the block the first of `signals` cancels the task that `ends` has named; so does each later one, which cuts
    short what the task does at its end. Where the event loop does not come to it, since the code of an environment keeps
    it to itself, the next signal ends that code with a KeyboardInterrupt.

    `number` is the signal that came first. Outside of the main thread, where signals do not arrive, nothing is changed.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.signals = signals or (signal.SIGINT, signal.SIGTERM)
        self.number: signal.Signals | None = None
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._asked = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for one in self.signals:
                self._before[one] = signal.signal(one, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before if before is not None else signal.SIG_DFL)

    def ends(self, task: asyncio.Task[Any] | None) -> None:
        """From now on a signal cancels this task of the running loop; with None it is only counted."""
        self._task, self._asked = task, False
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
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._asked = False
        if self._task is not None:
            self._task.cancel()
