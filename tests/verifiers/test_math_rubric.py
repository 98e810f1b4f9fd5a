"""Equal mathematics, and processes that keep to their time."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import verifiers as vf
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


@pytest.fixture(scope="module")
def rubric():
    made = vf.MathRubric(max_workers=1)
    yield made
    asyncio.run(made.teardown())


@pytest.mark.parametrize(
    ("answer", "said", "worth"),
    [
        ("1/2", r"<think>\boxed{3}</think> so \boxed{\frac12}", 1.0),
        ("x+1", r"\boxed{1+x}", 1.0),
        (r"\{1,2\}", r"\boxed{\{2,1\}}", 1.0),
        ("1,000", r"\boxed{1000}", 1.0),
        (4, r"\boxed{x=4}", 1.0),
        ("4", r"\boxed{5} or 4", 0.0),
        ("4", "the answer is 4", 0.0),
        ("", r"\boxed{}", 0.0),
        ("4", r"\boxed{\frac{{}", 0.0),
    ],
)
async def test_boxed_answers_are_compared_as_mathematics(rubric, answer, said, worth):
    assert await rubric.correct_answer(rubric.parser, [vf.AssistantMessage(said)], answer) == worth


async def test_it_comes_after_the_functions_that_are_given():
    rubric = vf.MathRubric(funcs=[lambda completion: 1.0], weights=[0.2], parser=vf.XMLParser(["answer"]))
    assert rubric.get_reward_func_names() == ["<lambda>", "correct_answer"] and rubric.weights == [0.2, 1.0]
    env = vf.SingleTurnEnv(dataset=[{"question": "2+2?", "answer": "4"}], rubric=rubric)

    class Says(vf.MultiTurnEnv):
        pass

    state = vf.State(
        input={"prompt": [], "answer": "4", "info": {}, "example_id": 0},
        completion=[vf.AssistantMessage("<answer>2*2</answer>")],
        trajectory=[],
    )
    await rubric.score_rollout(state)
    assert state["reward"] == pytest.approx(1.2) and state["metrics"]["correct_answer"] == 1.0
    await env._teardown()


async def test_long_answers_are_not_read(rubric, caplog):
    short = vf.MathRubric(max_verify_chars=5)
    with caplog.at_level(logging.WARNING, logger="verifiers"):
        assert await short.correct_answer(short.parser, r"\boxed{1+1+1+1}", "4") == 0.0
        assert await short.correct_answer(short.parser, r"\boxed{4}", "1+1+1+1") == 0.0
    assert "max_verify_chars is 5" in caplog.text and not short._pool._living


async def test_an_endless_expression_counts_nothing_and_costs_no_process(rubric):
    slow = vf.MathRubric(timeout_seconds=0.5, max_workers=1)
    assert await slow.correct_answer(slow.parser, r"\boxed{4}", "4") == 1.0
    (before,) = slow._pool._living
    assert await slow.correct_answer(slow.parser, r"\boxed{10^{10^{10}}}", "10") == 0.0
    assert await slow.correct_answer(slow.parser, r"\boxed{4}", "4") == 1.0
    assert slow._pool._living == {before}
    await slow.teardown()
    assert before.process.poll() is not None


async def test_a_process_that_answers_nobody_is_killed_and_replaced(caplog):
    rubric = vf.MathRubric(timeout_seconds=0.5, max_workers=1)
    assert await rubric.correct_answer(rubric.parser, r"\boxed{4}", "4") == 1.0
    (stuck,) = rubric._pool._living
    os.kill(stuck.process.pid, signal.SIGSTOP)
    with caplog.at_level(logging.WARNING, logger="verifiers"):
        assert await rubric.correct_answer(rubric.parser, r"\boxed{4}", "4") == 0.0
    assert "no answer within 2.5 seconds" in caplog.text and stuck.process.poll() == -signal.SIGKILL
    assert await rubric.correct_answer(rubric.parser, r"\boxed{4}", "4") == 1.0
    await rubric.teardown()


async def test_a_rollout_is_unscored_where_no_process_starts(tmp_path):
    rubric = vf.MathRubric()
    rubric._pool.file = tmp_path / "missing.py"
    state = vf.State(input={"prompt": [], "answer": "4", "info": {}}, completion=r"\boxed{4}", trajectory=[])
    await rubric.score_rollout(state)
    assert state["reward"] is None and isinstance(state["error"], vf.InfraError)
    assert str(state["error"]).startswith("No process for comparing mathematics: missing.py did not start")


def test_without_the_extra_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"^MathRubric needs the package math-verify: pip install 'verifiers\[math\]'$"
    ):
        vf.MathRubric()


@pytest.mark.parametrize(("options", "sentence"), [({"max_workers": 0}, "max_workers must be 1"), ({"timeout_seconds": 0}, "must be more than 0")])  # fmt: skip
def test_mistakes_are_sentences(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        vf.MathRubric(**options)


# The pool


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


def test_a_worker_ends_itself_where_nobody_is_left_to_end_it(tmp_path):
    from verifiers.utils import math_worker

    code = Path(math_worker.__file__).read_text().replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.5")
    hanging = code.replace("answer = {", "pow(3, 10**9); answer = {")
    assert hanging != code
    file = tmp_path / "worker.py"
    file.write_text(hanging)
    done = subprocess.run(
        [sys.executable, str(file)],
        input=b'[{"gold": "1", "said": "1", "seconds": 1}, 0.5]\n',
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == b'{"ready": true}\n'
