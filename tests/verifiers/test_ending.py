"""Signals as the orderly end of a task."""

import asyncio
import signal
import threading
from types import SimpleNamespace

import pytest

from verifiers.evaluation.ending import Ending, finish


async def turns(number=5):
    for _ in range(number):
        await asyncio.sleep(0)


async def test_ctrl_c_finishes_first_and_cancels_then():
    finishing = []
    before = signal.getsignal(signal.SIGINT)
    with Ending() as ending:
        task = asyncio.create_task(asyncio.Event().wait())
        ending.ends(task, lambda: finishing.append(True))
        signal.raise_signal(signal.SIGINT)
        await turns()
        assert finishing == [True] and not task.done() and (ending.code, ending.count) == (130, 1)
        signal.raise_signal(signal.SIGINT)
        await turns()
        assert task.cancelled() and finishing == [True] and (ending.code, ending.count) == (130, 2)
        ending.ends(None)
        signal.raise_signal(signal.SIGTERM)
        assert (ending.code, ending.count) == (130, 3), "only counted"
    assert signal.getsignal(signal.SIGINT) is before


async def test_sigterm_cancels_at_once_and_so_does_what_came_before():
    with Ending() as ending:
        task = asyncio.create_task(asyncio.Event().wait())
        ending.ends(task, lambda: pytest.fail("it was to end at once"))
        signal.raise_signal(signal.SIGTERM)
        await turns()
        assert task.cancelled() and ending.code == 143
        late = asyncio.create_task(asyncio.Event().wait())
        ending.ends(late)
        await turns()
        assert late.cancelled()


async def test_code_that_keeps_the_event_loop_to_itself_is_ended_by_the_next():
    with Ending() as ending:
        task = asyncio.create_task(asyncio.Event().wait())
        ending.ends(task, lambda: None)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_elsewhere_than_in_the_main_thread_nothing_is_changed():
    found = []

    def enter():
        with Ending() as ending:
            found.append((signal.getsignal(signal.SIGINT), ending.code))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, None)]


@pytest.mark.parametrize(
    ("running", "words"),
    [((3, 2), "the 5 rollouts in flight"), ((1, 0), "the rollout in flight"), ((0, 0), "any more.\n")],
)
def test_it_is_said_how_many_are_waited_for(capsys, running, words):
    ended = []
    runners = [SimpleNamespace(progress=SimpleNamespace(running=n), finish=lambda: ended.append(True)) for n in running]
    finish(runners)
    assert len(ended) == 2 and words in capsys.readouterr().err
