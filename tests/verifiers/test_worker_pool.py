"""Child processes under a time limit that holds."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from verifiers.utils.worker_pool import WorkerDied, WorkerNotStarted, WorkerPool, WorkerTimeout

WORKER = """
import json, os, sys
print("{}", flush=True)
for line in sys.stdin:
    question, limit = json.loads(line)
    if question.get("hang"):
        pow(3, 10**9)
    if question.get("die"):
        os._exit(3)
    print(json.dumps({**question, "limit": limit, "pid": os.getpid()}), flush=True)
"""


@pytest.fixture
def pool(tmp_path):
    file = tmp_path / "worker.py"
    file.write_text(WORKER)
    made = WorkerPool(file, max_workers=2, start_seconds=60)
    yield made
    made.close()


async def test_workers_are_kept_and_there_are_no_more_than_asked_for(pool):
    answers = await asyncio.gather(*(pool.ask({"n": n}, 30) for n in range(20)))
    assert [answer["n"] for answer in answers] == list(range(20)) and answers[0]["limit"] == 30
    assert len({answer["pid"] for answer in answers}) <= 2


async def test_what_runs_in_c_is_ended_too_and_the_next_question_has_its_answer(pool):
    with pytest.raises(WorkerTimeout, match=r"^no answer within 0.5 seconds$"):
        await pool.ask({"hang": True}, 0.5)
    with pytest.raises(WorkerDied, match="ended with 3"):
        await pool.ask({"die": True}, 30)
    assert (await pool.ask({"n": 1}, 30))["n"] == 1


async def test_a_worker_that_died_unasked_is_replaced(pool):
    pid = (await pool.ask({}, 30))["pid"]
    os.kill(pid, signal.SIGKILL)
    (dead,) = pool._living
    dead.process.wait()
    assert (await pool.ask({}, 30))["pid"] != pid and dead not in pool._living


async def test_closing_ends_those_that_compute_and_the_pool_serves_again(pool):
    stuck = asyncio.create_task(pool.ask({"hang": True}, 60))
    await pool.ask({}, 30)  # the other one: by then the first has begun
    await asyncio.to_thread(pool.close)
    with pytest.raises((WorkerDied, WorkerNotStarted)):
        await stuck
    assert not pool._living and (await pool.ask({"n": 2}, 30))["n"] == 2


def test_nothing_outlives_the_program(tmp_path):
    file = tmp_path / "worker.py"
    file.write_text(WORKER)
    code = f"""
import asyncio, pathlib
from verifiers.utils.worker_pool import WorkerPool
pool = WorkerPool(pathlib.Path({str(file)!r}), 1, 60)
print(asyncio.run(pool.ask({{}}, 30))["pid"])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "" and not Path(f"/proc/{done.stdout.strip()}").exists()
