"""Running a coroutine from start to end on the fastest event loop there is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
THREADS = 512
# A run keeps what it has played, so looking through the youngest objects every 700 finds nothing, again and again.
GC_THRESHOLDS = (20_000, 20, 20)


def run(main: Coroutine[Any, Any, T], threads: int = THREADS) -> T:
    """`asyncio.run` for a run of many rollouts: on uvloop where it is installed, and with less garbage collection.

    threads: as many calls of `asyncio.to_thread`, in which environments wait for what blocks, go on at once. asyncio's own
    number is made for work, a few more than there are processors.
    """
    with _seldom_collecting(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.get_loop().set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="rollouts"))
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
