"""Several environments as one: whose row it is, who plays it, who scores it."""

import asyncio

import pytest

import verifiers as vf
from verifiers.data import RowTable
from verifiers.envs.env_group import route_of
from verifiers.evaluation.policies import EchoPolicy, Policy


class Held(vf.SingleTurnEnv):
    """Notes what happens to it."""

    def __init__(self, **kwargs):
        self.happened = []
        super().__init__(**kwargs)

    async def setup_state(self, state):
        self.happened.append(("setup", dict(state["info"]), dict(state["sampling_args"])))

    @vf.cleanup
    async def note(self, state):
        self.happened.append("cleanup")

    @vf.teardown
    async def gone(self):
        self.happened.append("teardown")


def right(completion, answer):
    return float(completion[-1]["content"] == answer)


def sums(question, level=7):
    return float(level)


def compare(states):
    return [float(state["rollout_index"]) for state in states]


def maths(**kwargs):
    rows = [{"question": "2", "answer": "2", "info": {"k": 1}}, {"question": "3", "answer": "x"}]
    return Held(dataset=rows, rubric=vf.Rubric(funcs=[right]), system_prompt="add", **kwargs)


def words(**kwargs):
    rows = [{"question": "w", "answer": "y", "level": 4}]
    return Held(dataset=rows, rubric=vf.Rubric(funcs=[sums], weights=[0.5]), **kwargs)


async def test_rows_say_whose_they_are_and_are_counted_anew():
    group = vf.EnvGroup([maths(), words()], ["maths", "words"])
    rows = group.get_dataset()
    assert isinstance(rows, RowTable) and rows["example_id"] == [0, 1, 2]
    assert rows["info"] == [{"k": 1, "env_id": "maths"}, {"env_id": "maths"}, {"env_id": "words"}]
    assert [message["content"] for message in rows[0]["prompt"]] == ["add", "2"] and "level" not in rows[0]
    assert vf.EnvGroup([maths(), words()]).env_names == ["env_0", "env_1"]


async def test_each_row_is_played_and_scored_by_its_own():
    maths_env, words_env = maths(sampling_args={"temperature": 0.5}), words()
    group = vf.EnvGroup([maths_env, words_env], ["maths", "words"], sampling_args={"top_p": 0.9})
    result = await group.evaluate(EchoPolicy(), "m", {"seed": 1}, state_columns=["stop_condition"])
    assert [row["reward"] for row in result["outputs"]] == [1.0, 0.0, 2.0]
    assert result["outputs"][0]["metrics"] == {"right": 1.0, "num_turns": 1.0, "sums": 0.0}
    assert result["outputs"][2]["metrics"] == {"right": 0.0, "num_turns": 1.0, "sums": 4.0}
    assert [row["info"].get("env_id") for row in result["outputs"]] == ["maths", "maths", "words"]
    kind, info, sampling = maths_env.happened[0]
    assert (kind, info) == ("setup", {"k": 1}), "its own info, without the group's part"
    assert sampling == {"n": 1, "extra_body": {}, "temperature": 0.5, "top_p": 0.9, "seed": 1}
    assert words_env.happened[1:] == ["cleanup"]
    await group._teardown()
    assert maths_env.happened[-1] == words_env.happened[-1] == "teardown"


async def test_evaluation_rows_are_of_those_that_have_some():
    group = vf.EnvGroup([maths(), words(eval_dataset=[{"question": "e", "answer": ""}])], ["maths", "words"])
    assert group.get_eval_dataset()["question"] == ["e"] and group.get_dataset()["example_id"] == [0, 1, 2]
    only = vf.EnvGroup([vf.SingleTurnEnv(eval_dataset=[{"question": "e"}]), maths()])
    assert len(only.get_dataset()) == 2 and len(only.get_eval_dataset()) == 1
    assert len(vf.EnvGroup([maths()]).get_eval_dataset()) == 2


async def test_rows_are_made_when_they_are_needed():
    called = []

    def build():
        called.append(1)
        return [{"question": "a"}]

    group = vf.EnvGroup([vf.SingleTurnEnv(dataset=build), maths()])
    assert not called
    assert len(group.get_dataset()) == 3 and called == [1]


async def test_groups_in_groups():
    group_scored = Held(dataset=[{"question": "g"}], rubric=vf.Rubric(funcs=[compare]))
    inner = vf.EnvGroup([maths(), group_scored], ["maths", "compared"])
    outer = vf.EnvGroup([inner, words()], ["inner", "words"])
    routes = [info["env_id"] for info in outer.get_dataset()["info"]]
    assert routes == [["inner", "maths"], ["inner", "maths"], ["inner", "compared"], "words"]
    result = await outer.evaluate(EchoPolicy(), "m", rollouts_per_example=2, state_columns=["advantage"])
    assert [row["reward"] for row in result["outputs"]] == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0]
    assert [row["advantage"] for row in result["outputs"]][4:6] == [-0.5, 0.5]
    assert set(result["outputs"][6]["metrics"]) == {"right", "compare", "sums", "num_turns"}
    assert result["outputs"][4]["info"]["env_id"] == ["inner", "compared"]
    assert group_scored.happened[0][:2] == ("setup", {})
    assert outer.rubric.has_group_functions() and not vf.EnvGroup([maths()]).rubric.has_group_functions()
    assert outer.rubric.get_reward_func_names() == ["right", "num_turns", "compare", "sums"]
    await outer._teardown()
    assert group_scored.happened[-1] == "teardown"


async def test_an_unknown_route_is_a_row_with_a_sentence():
    group = vf.EnvGroup([maths(), words()], ["maths", "words"])
    rows = [
        {"prompt": "2", "info": {"env_id": "x"}, "example_id": 0},
        {"prompt": "2", "example_id": 1},
        {"prompt": "2", "answer": "2", "task": "maths", "example_id": 2},
        {"prompt": "2", "answer": "2", "info": '{"env_id": "maths"}', "example_id": 3},
    ]
    outputs = (await group.generate(rows, EchoPolicy(), "m"))["outputs"]
    assert [row["reward"] for row in outputs] == [None, None, 1.0, 1.0]
    unknown, silent = (row["error"]["message"] for row in outputs[:2])
    assert "No environment found for info['env_id']='x'; there are 'maths', 'words'." in unknown
    assert "an EnvGroup needs info['env_id'] in every row" in silent
    with pytest.raises(ValueError, match="No environment found"):
        group.get_env_for_name("y")
    assert group.get_env_for_name("words") is group.envs[1] and route_of({"info": {"env_id": ["a", "b"]}}) == ("a", "b")


async def test_settings_reach_all_of_them():
    inner = vf.EnvGroup([maths()])
    group = vf.EnvGroup([inner, words()], score_rollouts=False, max_seq_len=9)
    leaves = [inner.envs[0], group.envs[1]]
    assert [env.score_rollouts for env in leaves] == [False, False] and [env.max_seq_len for env in leaves] == [9, 9]
    outputs = (await group.evaluate(EchoPolicy(), "m"))["outputs"]
    assert [row["reward"] for row in outputs] == [0.0] * 3 and outputs[0]["metrics"] == {}
    group.set_score_rollouts(True)
    group.set_max_seq_len(5)
    group.set_kwargs(timeout_seconds=3.0, mine="x")
    assert all(
        (env.score_rollouts, env.max_seq_len, env.timeout_seconds, env.mine) == (True, 5, 3.0, "x") for env in leaves
    )
    assert [row["reward"] for row in (await group.evaluate(EchoPolicy(), "m"))["outputs"]] == [1.0, 0.0, 2.0]


async def test_one_that_is_not_scored_leaves_the_others_alone():
    group = vf.EnvGroup([maths(score_rollouts=False), words()], ["maths", "words"])
    outputs = (await group.evaluate(EchoPolicy(), "m"))["outputs"]
    assert [row["reward"] for row in outputs] == [0.0, 0.0, 2.0]


async def test_each_has_its_own_time_for_scoring_and_its_own_cleanup():
    import asyncio

    cleaned = []

    async def slow(completion):
        await asyncio.Event().wait()

    rubric = vf.Rubric(funcs=[slow])
    rubric.add_cleanup_handler(lambda state: cleaned.append(dict(state["info"])))
    stuck = vf.SingleTurnEnv(dataset=[{"question": "s"}], rubric=rubric, scoring_timeout_seconds=0.05)
    group = vf.EnvGroup([stuck, words()], ["stuck", "words"])
    outputs = (await group.evaluate(EchoPolicy(), "m"))["outputs"]
    assert [row["reward"] for row in outputs] == [None, 2.0] and cleaned == [{}]
    assert outputs[0]["error"]["error"] == "ScoringTimeoutError"
    assert "Scoring in 'stuck' took longer than 0.05 seconds" in outputs[0]["error"]["message"]


async def test_a_rubric_of_the_groups_own_adds_up():
    group = vf.EnvGroup([maths(), words()], rubric=vf.Rubric(funcs=[lambda completion: 10.0]))
    assert [row["reward"] for row in (await group.evaluate(EchoPolicy(), "m"))["outputs"]] == [11.0, 10.0, 12.0]


async def test_tools_and_turns_are_the_environments_own():
    def double(x: int) -> int:
        """Doubles."""
        return 2 * x

    class Calls(Policy):
        def answer(self, prompt, tools, action_schema, rng):
            if tools and prompt[-1]["role"] == "user":
                return vf.AssistantMessage(tool_calls=[{"id": "c", "name": "double", "arguments": '{"x": 4}'}])
            return vf.AssistantMessage(prompt[-1]["content"])

    tools = vf.ToolEnv(tools=[double], dataset=[{"question": "q", "answer": "8"}], rubric=vf.Rubric(funcs=[right]))
    outputs = (await vf.EnvGroup([tools, maths()]).evaluate(Calls(), "m"))["outputs"]
    assert [row["reward"] for row in outputs] == [1.0, 1.0, 0.0]
    assert outputs[0]["metrics"]["double_calls"] == 1.0 and outputs[1]["metrics"]["double_calls"] == 0.0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: vf.EnvGroup([]), "EnvGroup requires at least one environment"),
        (lambda: vf.EnvGroup([maths()], ["a", "b"]), "Number of env_names must match number of envs"),
        (lambda: vf.EnvGroup([maths(), maths()], ["a", "a"]), "Each of env_names must be another one: a, a"),
    ],
)
def test_mistakes_are_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


async def test_a_cancelled_rollout_is_cleaned_up_by_the_group_too():
    cleaned = []

    class Group(vf.EnvGroup):
        @vf.cleanup
        async def note(self, state):
            cleaned.append((self.env_names[0], state["info"]["env_id"], state["prompt"][-1]["content"]))

    class Stuck(EchoPolicy):
        asked = asyncio.Event()

        async def get_native_response(self, *args, **kwargs):
            self.asked.set()
            await asyncio.Event().wait()

    inner = Group([maths()], env_names=["sums"])
    env = Group([inner], env_names=["all"])
    client = Stuck()
    task = asyncio.create_task(env.rollout(env.get_dataset()[0], client, "m"))
    await client.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.envs[0].happened[-1] == "cleanup"
    assert cleaned == [("sums", "sums", "2"), ("all", ["all", "sums"], "2")]
