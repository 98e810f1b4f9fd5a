"""The event loop of whole runs."""

import asyncio
import gc
import sys
import threading

import pytest

from verifiers.utils import loop


async def which() -> tuple[str, tuple[int, int, int]]:
    return type(asyncio.get_running_loop()).__module__, gc.get_threshold()


def test_it_is_the_fastest_there_is_and_leaves_no_trace():
    pytest.importorskip("uvloop")
    before = gc.get_threshold()
    module, during = loop.run(which())
    assert module == "uvloop" and during == loop.GC_THRESHOLDS
    assert gc.get_threshold() == before


def test_without_uvloop_it_is_the_usual_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    gc.disable()
    try:
        assert loop.run(which())[0].startswith("asyncio")
    finally:
        gc.enable()


def test_errors_and_thresholds_survive_a_failure(monkeypatch):
    before = gc.get_threshold()

    async def fail():
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        loop.run(fail())
    assert gc.get_threshold() == before
    gc.set_threshold(0)
    try:
        assert loop.run(which())[1][0] == 0, "switched off stays off"
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("threads", [3, 40])
def test_as_many_calls_block_at_once_as_there_are_threads(threads: int):
    together = threading.Barrier(threads)

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(together.wait, 30) for _ in range(threads)))

    loop.run(main(), threads)
