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
from tests.support.libraries import folder_of

LIBRARY = "math-verify[antlr4-13-2]>=0.8,<1"


pytestmark = [pytest.mark.index, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def library():
    """math-verify can be imported."""
    folder = str(folder_of(LIBRARY))
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


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


def test_a_worker_ends_itself_where_nobody_is_left_to_end_it(tmp_path):
    from verifiers.utils import math_worker

    code = Path(math_worker.__file__).read_text().replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.5")
    hanging = code.replace("answer = {", "pow(3, 10**9); answer = {")
    assert hanging != code
    file = tmp_path / "worker.py"
    file.write_text(hanging)
    done = subprocess.run(
        [sys.executable, str(file)],
        env={**os.environ, "PYTHONPATH": str(folder_of(LIBRARY))},
        input=b'[{"gold": "1", "said": "1", "seconds": 1}, 0.5]\n',
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == b'{"ready": true}\n'
