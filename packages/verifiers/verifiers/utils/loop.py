"""Running a coroutine from start to end on the fastest event loop there is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
# A run keeps what it has played, so looking through the youngest objects every 700 finds nothing, again and again.
GC_THRESHOLDS = (20_000, 20, 20)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` for a run of many rollouts: on uvloop where it is installed, and with less garbage collection."""
    with _seldom_collecting(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # without the extra `speed`, or on Windows and PyPy
        return None
    return uvloop.new_event_loop


@contextmanager
def _seldom_collecting() -> Generator[None]:
    before = gc.get_threshold()
    if before[0]:  # zero: somebody has switched it off
        gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
