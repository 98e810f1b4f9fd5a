"""Reward functions, weights, groups."""

import logging

import pytest

import verifiers as vf
from verifiers.evaluation.outputs import state_to_output
from verifiers.types import RolloutTiming


def state(completion="x", answer="a", **fields):
    said = [vf.AssistantMessage(completion)]
    row = {"prompt": [vf.UserMessage("q")], "answer": answer, "info": {"k": 1}, "example_id": 0, "level": 3}
    row["rollout_index"] = 1
    step = {"reward": None, "advantage": None}
    return vf.State(input=row, completion=said, trajectory=[step], task={"t": 1}, timing=RolloutTiming(), **fields)


async def test_functions_get_what_they_name():
    seen = {}

    async def all_of_it(prompt, completion, answer, state, info, task, parser, level, judge):
        seen.update(locals())
        return 0.5

    def rest(**kwargs):
        seen["rest"] = set(kwargs)
        return 2

    rubric = vf.Rubric(funcs=[all_of_it], weights=[2.0])
    rubric.add_metric(rest)
    rubric.add_class_object("judge", "J")
    one = state()
    await rubric.score_rollout(one)
    assert one["reward"] == 1.0 and one["metrics"] == {"all_of_it": 0.5, "rest": 2.0}
    assert seen["judge"] == "J" and seen["level"] == 3 and seen["info"] == {"k": 1} and seen["parser"] is rubric.parser
    columns = {"prompt", "completion", "answer", "state", "info", "task", "example_id", "level"}
    assert seen["rest"] == {*columns, "judge", "parser"}


async def test_groups_and_advantages():
    def best(states):
        return [float(one["completion"][0].content == "good") for one in states]

    def length(completion):
        return float(len(completion))

    rubric = vf.Rubric(funcs=[best, length])
    states = [state("good"), state("bad")]
    await rubric.score_group(states)
    assert [one["reward"] for one in states] == [2.0, 1.0]
    assert [one["advantage"] for one in states] == [0.5, -0.5]
    assert states[0]["trajectory"][0] == {"reward": 2.0, "advantage": 0.5}
    assert rubric.has_group_functions() and not vf.Rubric(funcs=[length]).has_group_functions()
    alone = state("good")
    await rubric.score_rollout(alone)
    assert alone["reward"] == 2.0, "independent scoring gives a group function a group of one"


def annotated(completions) -> list[float]:
    return [1.0]


async def test_what_raises_counts_nothing_and_is_logged(caplog):
    def broken(completion):
        raise KeyError("oops")

    def short(states):
        return [1.0]

    def not_a_number(completion):
        return float("nan")

    with caplog.at_level(logging.ERROR, logger="verifiers"):
        states = [state(), state()]
        await vf.Rubric(funcs=[broken, short, not_a_number]).score_group(states)
    assert [one["reward"] for one in states] == [0.0, 0.0]
    assert "Error calling reward function broken: 'oops'" in caplog.text
    assert "Error calling group reward function short: it returned 1 scores for 2 rollouts" in caplog.text
    assert "Error calling reward function not_a_number: it returned nan" in caplog.text


def test_weights_must_match():
    with pytest.raises(ValueError, match=r"^Number of weights \(2\) must match number of functions \(1\)$"):
        vf.Rubric(funcs=[annotated], weights=[1.0, 2.0])


async def test_a_group_of_rubrics_adds_up():
    def same(completion):
        return 1.0

    def other(states):
        return [3.0 for _ in states]

    happened = []
    inner = vf.Rubric(funcs=[other], weights=[0.5])
    inner.add_cleanup_handler(lambda one: happened.append("cleaned"))
    group = vf.RubricGroup([vf.Rubric(funcs=[same]), vf.Rubric(funcs=[same]), inner])
    states = [state(), state()]
    await group.score_group(states)
    assert states[0]["reward"] == 3.5 and states[0]["metrics"] == {"same": 2.0, "other": 3.0}
    assert states[0]["trajectory"][0] == {"reward": 3.5, "advantage": 0.0}
    assert group.get_reward_func_names() == ["same", "same", "other"] and group.get_reward_weights() == [1.0, 1.0, 0.5]
    await group.cleanup(states[0])
    assert happened == ["cleaned"]


async def test_rewards_of_turns_are_those_that_the_environment_gave():
    given, none, lost = state(), state(), state(error=vf.Error("gone"))
    given["trajectory"] = [{"reward": None, "advantage": None}, {"reward": 0.5, "advantage": None}]
    lost["trajectory"] = [{"reward": 0.25, "advantage": None}]
    for rubric in (vf.Rubric(funcs=[lambda: 1.0]), vf.RubricGroup([vf.Rubric(funcs=[lambda: 1.0])] * 2)):
        for _ in range(2):  # also when it is scored again
            await rubric.score_group([given, none])
            assert [step["reward"] for step in given["trajectory"]] != [None, 0.5], "steps inherit the rollout's"
            assert state_to_output(given)["turn_rewards"] == [None, 0.5]
            assert "turn_rewards" not in state_to_output(none)
    assert state_to_output(lost)["turn_rewards"] == [0.25], "also where nothing was scored"


async def test_steps_keep_the_rewards_they_have():
    one = state()
    one["trajectory"][0]["reward"] = 7.0
    await vf.Rubric(funcs=[lambda completion: 1.0]).score_group([one])
    assert one["trajectory"][0]["reward"] == 7.0


@pytest.mark.parametrize("limit", [None, 600.0])
async def test_a_time_limit_of_the_rubrics_own_is_not_called_ours(limit):
    class Judge(vf.Rubric):
        async def score_rollout(self, state):
            raise TimeoutError("the judge did not answer")

    env = vf.SingleTurnEnv(dataset=[{"question": "q"}], rubric=Judge(), scoring_timeout_seconds=limit)
    one = state()
    await env.score([one], as_group=False)
    assert one["reward"] is None and isinstance(one["error"], vf.RolloutError)
    assert str(one["error"]) == "TimeoutError: the judge did not answer"


@pytest.mark.parametrize(
    "wrap", [lambda rubric: rubric, lambda rubric: vf.RubricGroup([vf.Rubric(funcs=[lambda completion: 1.0]), rubric])]
)
async def test_what_says_nothing_about_the_model_leaves_its_rollout_alone_unscored(wrap):
    def in_a_sandbox(completion):
        if completion[0].content == "lost":
            raise vf.SandboxError("gone")
        if completion[0].content == "bad":
            raise vf.ToolCallError("the model's own")
        return 1.0

    states = [state("fine"), state("lost"), state("bad")]
    rubric = wrap(vf.Rubric(funcs=[in_a_sandbox]))
    await rubric.score_group(states)
    extra = 1.0 if isinstance(rubric, vf.RubricGroup) else 0.0
    assert [one["reward"] for one in states] == [1.0 + extra, None, extra]
    assert isinstance(states[1]["error"], vf.SandboxError) and states[1]["metrics"] is None
    assert [one.get("advantage") for one in states] == [0.5, None, -0.5] and states[0].get("error") is None


async def test_a_group_function_that_loses_its_machine_scores_nobody():
    def compare(states):
        raise vf.InfraError("gone")

    states = [state(), state()]
    await vf.Rubric(funcs=[compare]).score_group(states)
    assert [one["reward"] for one in states] == [None, None] and str(states[0]["error"]) == "gone"


async def test_each_cleanup_and_teardown_runs_whatever_the_others_do():
    happened = []

    class Holding(vf.Rubric):
        @vf.cleanup
        async def give_back(self, state):
            happened.append("cleanup")
            raise OSError("a disk")

        @vf.teardown
        async def close(self):
            happened.append("teardown")
            raise OSError("a disk")

    class Last(vf.Rubric):
        @vf.cleanup
        async def give_back(self, state):
            happened.append("last cleanup")

        @vf.teardown
        async def close(self):
            happened.append("last teardown")

    def first(state):
        happened.append("handler")
        raise OSError("a disk")

    holding = Holding()
    holding.add_cleanup_handler(first)
    group = vf.RubricGroup(rubrics=[holding, Last()])
    await group.cleanup(vf.State())
    await group.teardown()
    assert happened == ["handler", "cleanup", "last cleanup", "teardown", "last teardown"]


async def test_a_reward_function_that_exits_leaves_its_rollout_unscored_and_ends_no_run():
    def leaves(completion, state):
        if state["rollout_index"] == 1:
            raise SystemExit(3)
        return 0.5

    env = vf.SingleTurnEnv(
        dataset=[{"question": "1"}, {"question": "2"}], rubric=vf.Rubric(funcs=[leaves, lambda completions: [1.0, 1.0]])
    )
    rows = [row for row in env.get_dataset() for _ in range(2)]
    from verifiers.evaluation.policies import POLICIES

    outputs = (await env.generate(rows, POLICIES["baseline/echo"](), "echo"))["outputs"]
    assert [output["reward"] for output in outputs] == [1.5, None] * 2
    assert outputs[1]["error"]["message"] == "SystemExit: the environment's code called exit(3)."


async def test_why_a_function_counted_nothing_is_in_the_row_and_in_the_summary():
    def misspelt(completion, anser):
        return 1.0

    env = vf.SingleTurnEnv(dataset=[{"question": "1"}, {"question": "2"}], rubric=vf.Rubric(funcs=[misspelt]))
    from verifiers.evaluation.policies import POLICIES
    from verifiers.evaluation.report import render

    results = await env.evaluate(POLICIES["baseline/echo"](), "echo")
    assert "anser" in results["outputs"][0]["reward_errors"]["misspelt"]
    text = render(results["outputs"], results["metadata"], None, 2, "here")
    assert "rewards failed" in text and "misspelt counted 0 in 2: TypeError" in text
