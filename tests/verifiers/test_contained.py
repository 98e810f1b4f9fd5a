"""What an author's code does badly stays within its rollout, and whatever was held for a rollout is given back."""

import asyncio
import sys

import pytest

import verifiers as vf
from verifiers.evaluation.policies import EchoPolicy

ROWS = [{"question": "begin", "answer": str(number)} for number in range(3)]


async def wait_for_what_was_cancelled():
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


async def leave():
    sys.exit(3)


CODE = [
    (wait_for_what_was_cancelled, "CancelledError: a task that the environment's code waited for was cancelled."),
    (leave, "SystemExit: the environment's code called exit(3)."),
]


class Bad(vf.MultiTurnEnv):
    """Does something bad in the second row, at `place`."""

    def __init__(self, place, code, **kwargs):
        self.place, self.code, self.happened = place, code, []
        super().__init__(dataset=ROWS, max_turns=2, **kwargs)

    async def at(self, place, state):
        if place == self.place and state["example_id"] == 1:
            await self.code()

    async def setup_state(self, state):
        await self.at("setup_state", state)

    async def env_response(self, messages, state, **kwargs):
        await self.at("env_response", state)
        return "go on"

    @vf.stop
    async def asked(self, state):
        await self.at("stop", state)
        return False

    @vf.cleanup
    async def first(self, state):
        await self.at("cleanup", state)

    @vf.cleanup(priority=-1)
    async def second(self, state):
        self.happened.append(state["example_id"])


@pytest.mark.parametrize(("code", "message"), CODE)
@pytest.mark.parametrize("place", ["setup_state", "env_response", "stop", "cleanup"])
async def test_the_other_rollouts_go_on(place, code, message):
    env = Bad(place, code, rubric=vf.Rubric(funcs=[lambda completion: 1.0]))
    outputs = (await env.evaluate(EchoPolicy(), "m"))["outputs"]
    wrong = outputs[1]
    if place == "cleanup":
        assert wrong["error"] is None and wrong["reward"] == 1.0
    else:
        assert wrong["error"]["message"] == message and wrong["reward"] is None
    assert [outputs[0]["reward"], outputs[2]["reward"]] == [1.0, 1.0]
    assert sorted(env.happened) == [0, 1, 2]


@pytest.mark.parametrize(("code", "message"), CODE)
async def test_scoring_the_others_goes_on(code, message):
    async def score(state):
        if state["example_id"] == 1:
            await code()
        return 1.0

    env = vf.SingleTurnEnv(dataset=ROWS, rubric=vf.Rubric(funcs=[score]))
    outputs = (await env.evaluate(EchoPolicy(), "m"))["outputs"]
    assert [output["reward"] for output in outputs] == [1.0, None, 1.0]
    assert outputs[1]["error"]["message"] == message


async def test_a_tool_that_exits_is_an_error_of_the_tool():
    def leave() -> str:
        """Run something."""
        sys.exit("bad input")

    env = vf.ToolEnv(tools=[leave], dataset=ROWS[:1])
    output = (await env.evaluate(EchoPolicy(), "m"))["outputs"][0]
    assert output["error"] is None
    assert output["completion"][1]["content"] == "The tool called exit('bad input')."


class Held(vf.Rubric):
    """Notes what it lets go of."""

    def __init__(self, funcs=()):
        super().__init__(funcs=list(funcs))
        self.released = []

    @vf.cleanup
    async def release(self, state):
        self.released.append((state["example_id"], state["rollout_index"]))


async def test_every_attempt_is_given_back_to_the_rubric():
    class Weak(vf.SingleTurnEnv):
        attempts = 0

        async def setup_state(self, state):
            self.attempts += 1
            if self.attempts < 3:
                raise vf.InfraError("no machine")

    env = Weak(dataset=ROWS[:1], rubric=Held())
    await env.evaluate(EchoPolicy(), "m", max_retries=2, retry_delay_seconds=0.001)
    assert env.attempts == 3 and env.rubric.rubrics[0].released == [(0, 0)] * 3


async def test_a_run_cancelled_while_it_scores_gives_back_everything():
    begun = asyncio.Event()

    async def together(states):
        begun.set()
        await asyncio.Event().wait()

    rubric = Held([together])
    env = vf.SingleTurnEnv(dataset=ROWS[:1], rubric=rubric)
    run = asyncio.create_task(env.evaluate(EchoPolicy(), "m", rollouts_per_example=2))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert sorted(rubric.released) == [(0, 0), (0, 1)]


async def test_what_waited_for_its_group_is_given_back_when_the_run_is_cancelled():
    played = asyncio.Event()

    class Half(vf.SingleTurnEnv):
        async def setup_state(self, state):
            if state["rollout_index"] == 1:
                await asyncio.Event().wait()

        @vf.cleanup
        async def note(self, state):
            played.set()

    rubric = Held([lambda states: [0.0 for _ in states]])
    env = Half(dataset=ROWS[:1], rubric=rubric)
    run = asyncio.create_task(env.evaluate(EchoPolicy(), "m", rollouts_per_example=2))
    await played.wait()
    await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert rubric.released == [(0, 0)]


async def test_a_rubric_that_does_not_let_go_says_so(caplog):
    class Broken(vf.Rubric):
        @vf.cleanup
        async def release(self, state):
            raise OSError("stuck")

    env = vf.SingleTurnEnv(dataset=ROWS[:1], rubric=Broken())
    output = (await env.evaluate(EchoPolicy(), "m"))["outputs"][0]
    assert output["error"] is None and "Cleanup release failed: OSError: stuck" in caplog.text


async def test_a_cancelled_teardown_leaves_out_nothing():
    waiting = asyncio.Event()

    class Two(vf.SingleTurnEnv):
        given_back = False

        @vf.teardown(priority=1)
        async def first(self):
            waiting.set()
            await asyncio.Event().wait()

        @vf.teardown
        async def second(self):
            self.given_back = True

    env = Two(dataset=ROWS)
    task = asyncio.create_task(env._teardown())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert env.given_back
