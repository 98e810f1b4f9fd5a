"""The loop of a rollout: turns, stops, errors, clean-up, time limits."""

import asyncio
import threading

import pytest

import verifiers as vf
from verifiers.evaluation.policies import POLICIES, Policy


class Script(Policy):
    """A model that says these things in turn, raising what is an exception."""

    def __init__(self, *turns):
        super().__init__()
        self.turns = list(turns)
        self.prompts = []

    def answer(self, prompt, tools, action_schema, rng):
        self.prompts.append(list(prompt))
        said = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if isinstance(said, Exception):
            raise said
        return vf.AssistantMessage(said)


class Talk(vf.MultiTurnEnv):
    """Answers every message with its number."""

    def __init__(self, **kwargs):
        kwargs.setdefault("dataset", [{"question": "begin", "answer": "a", "info": {"seed": 5}}])
        self.happened = []
        super().__init__(**kwargs)

    async def env_response(self, messages, state, **kwargs):
        return [{"role": "user", "content": f"turn {len(state['trajectory'])}"}]

    @vf.cleanup
    async def note_cleanup(self, state):
        self.happened.append("cleanup")

    @vf.cleanup(priority=-1)
    def note_late_cleanup(self, state):
        self.happened.append("late")

    @vf.teardown
    async def note_teardown(self):
        self.happened.append("teardown")


async def play(env, client, **overrides):
    row = {**env.get_dataset()[0], **overrides}
    state = await env.rollout(row, client, "m")
    await env.score([state])
    return state


async def test_turns_until_the_limit():
    client = Script("one", "two", "three")
    state = await play(Talk(max_turns=3), client)
    assert [message["content"] for message in state["completion"]] == ["one", "turn 1", "two", "turn 2", "three"]
    assert state["prompt"] == [{"role": "user", "content": "begin"}]
    assert state["stop_condition"] == "max_turns_reached" and state["is_completed"] and state["error"] is None
    assert state["metrics"] == {"num_turns": 3.0} and len(state["trajectory"]) == 3
    assert client.prompts[2] == [*state["prompt"], *state["completion"][:4]]
    assert state["timing"].total >= state["timing"].model.duration >= 0
    assert state["timing"]["total_ms"] == state["timing"].total * 1000


async def test_stops_run_by_priority_then_name_and_see_what_they_ask_for():
    asked = []

    class Stopping(Talk):
        @vf.stop(priority=5)
        async def zz_first(self, state):
            asked.append("zz_first")
            return False

        @vf.stop
        async def aa_second(self, state, env):
            assert env is self
            asked.append("aa_second")
            return len(state["trajectory"]) == 1

        @vf.stop
        def bb_third(self, state):
            asked.append("bb_third")
            return True

    state = await play(Stopping(), Script("x"))
    assert state["stop_condition"] == "bb_third" and asked == ["zz_first", "aa_second", "bb_third"]


async def test_the_last_word_of_the_environment_is_shown_and_costs_no_model_call():
    class Ending(Talk):
        async def env_response(self, messages, state, **kwargs):
            state["final_env_response"] = [{"role": "user", "content": "game over"}]
            return state["final_env_response"]

    client = Script("x")
    state = await play(Ending(), client)
    assert state["stop_condition"] == "has_final_env_response" and len(client.prompts) == 1
    assert [message["content"] for message in state["completion"]] == ["x", "game over"]


async def test_a_row_of_no_dataset_is_asked_like_one_of_the_datasets():
    env = vf.SingleTurnEnv(dataset=[{"question": "begin"}], system_prompt="Be short.", few_shot=[vf.UserMessage("2+2")])
    client = Script("4")
    [output] = (await env.generate([{"question": "3+3", "answer": "6"}], client, "m"))["outputs"]
    assert [message["content"] for message in client.prompts[0]] == ["Be short.", "2+2", "3+3"]
    assert output["prompt"] == client.prompts[0]


async def test_setup_may_replace_the_state_or_fill_it():
    class Older(Talk):
        async def setup_state(self, state):
            state = await super().setup_state(state)
            state["extra"] = 1
            return state

    class Newer(Talk):
        async def setup_state(self, state):
            await super().setup_state(state)
            state["extra"] = 2
            state["prompt"] = "fetched"

    assert (await play(Older(max_turns=1), Script("x")))["extra"] == 1
    state = await play(Newer(max_turns=1), Script("x"))
    assert state["extra"] == 2 and state["prompt"] == [{"role": "user", "content": "fetched"}]
    assert [message["content"] for message in state["completion"]] == ["x"]


@pytest.mark.parametrize(
    ("error", "kind", "reward"),
    [
        (vf.SandboxError("gone"), vf.SandboxError, None),
        (vf.ModelError("500"), vf.ModelError, None),
        (KeyError("oops"), vf.ModelError, None),
        (vf.EmptyModelResponseError("nothing"), vf.EmptyModelResponseError, 0.0),
        (vf.ToolCallError("bad"), vf.ToolCallError, 0.0),
    ],
)
async def test_an_error_ends_the_rollout_and_says_whether_it_counts(error, kind, reward):
    env = Talk(rubric=vf.Rubric(funcs=[lambda completion: 0.0]))
    state = await play(env, Script("x", error))
    assert isinstance(state["error"], kind) and state["reward"] == reward
    assert state["is_completed"] and len(state["completion"]) == 1 and env.happened == ["cleanup", "late"]
    assert (state["is_truncated"], state["prompt_too_long"]) == (False, False)


async def test_a_conversation_that_outgrew_the_model_ends_and_is_no_failure():
    env = Talk(rubric=vf.Rubric(funcs=[lambda completion: 0.5]))
    state = await play(env, Script("x", vf.OverlongPromptError("too long")))
    assert (state["error"], state["stop_condition"], state["reward"]) == (None, "prompt_too_long", 0.5)
    assert state["is_completed"] and state["is_truncated"] and state["prompt_too_long"]
    assert len(state["completion"]) == 1 and env.happened == ["cleanup", "late"]


@pytest.mark.parametrize("where", ["setup_state", "env_response", "stop"])
async def test_an_exception_of_the_authors_code_is_an_error_of_the_rollout(where):
    class Broken(Talk):
        async def setup_state(self, state):
            if where == "setup_state":
                raise KeyError("oops")
            return state

        async def env_response(self, messages, state, **kwargs):
            raise KeyError("oops")

        @vf.stop
        async def broken(self, state):
            if where == "stop":
                raise KeyError("oops")
            return False

    env = Broken()
    state = await play(env, Script("x"))
    assert isinstance(state["error"], vf.RolloutError) and str(state["error"]) == "KeyError: 'oops'"
    assert isinstance(state["error"].__cause__, KeyError)
    assert state["reward"] is None and state["stop_condition"] == "has_error" and env.happened == ["cleanup", "late"]


async def test_a_time_limit_ends_a_rollout_but_not_its_score():
    class Slow(Talk):
        async def env_response(self, messages, state, **kwargs):
            await asyncio.Event().wait()

    env = Slow(timeout_seconds=0.05, rubric=vf.Rubric(funcs=[lambda completion: 1.0]))
    state = await play(env, Script("x"))
    assert state["stop_condition"] == "timeout_reached" and state["timed_out"] and state["error"] is None
    assert state["reward"] == 1.0 and env.happened == ["cleanup", "late"]


@pytest.mark.parametrize(("stuck", "kind", "words"), [
    ("setup_state", vf.InfraError, "The environment was not set up within the rollout's 0.05 seconds (timeout_seconds)."),
    ("get_model_response", vf.ModelError, "The model gave no answer within the rollout's 0.05 seconds (timeout_seconds)."),
])  # fmt: skip
async def test_without_any_answer_in_time_there_is_nothing_to_score(stuck, kind, words):
    async def wait(*_, **__):
        await asyncio.Event().wait()

    env = Talk(timeout_seconds=0.05, rubric=vf.Rubric(funcs=[lambda completion: 1.0]))
    setattr(env, stuck, wait)
    state = await play(env, Script("x"))
    assert state["stop_condition"] == "timeout_reached" and state["timed_out"] and state["is_completed"]
    assert type(state["error"]) is kind and str(state["error"]) == words
    assert state["reward"] is None and env.happened == ["cleanup", "late"]


async def test_a_timeout_of_the_authors_own_is_not_the_limit():
    class Own(Talk):
        async def env_response(self, messages, state, **kwargs):
            raise TimeoutError("their server")

    state = await play(Own(timeout_seconds=60), Script("x"))
    assert str(state["error"]) == "TimeoutError: their server" and not state.get("timed_out")


async def test_cancelling_cleans_up():
    entered = asyncio.Event()

    class Slow(Talk):
        async def env_response(self, messages, state, **kwargs):
            entered.set()
            await asyncio.Event().wait()

    env = Slow()
    task = asyncio.create_task(env.rollout(env.get_dataset()[0], Script("x"), "m"))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert env.happened == ["cleanup", "late"]


async def test_scoring_has_a_time_limit():
    async def never(completion):
        await asyncio.Event().wait()

    env = Talk(max_turns=1, rubric=vf.Rubric(funcs=[never]), scoring_timeout_seconds=0.05)
    state = await play(env, Script("x"))
    assert state["reward"] is None and isinstance(state["error"], vf.ScoringTimeoutError)
    assert "longer than 0.05 seconds" in str(state["error"])


async def test_teardown_takes_the_rubric_first():
    happened = []

    class Held(vf.Rubric):
        @vf.teardown
        async def release(self):
            happened.append("rubric")

    env = Talk(rubric=Held())
    env.happened = happened
    async with env:
        pass
    assert happened == ["rubric", "teardown"]


def test_an_environment_is_built_in_any_thread_and_touches_no_signals():
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    built = []
    thread = threading.Thread(target=lambda: built.append(Talk()))
    thread.start()
    thread.join()
    assert built and [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_token_limits_and_usage():
    class Counting(Script):
        async def from_native_response(self, response):
            return vf.Response(message=response, usage=vf.Usage(prompt_tokens=10, completion_tokens=4))

    state = await play(Talk(max_total_completion_tokens=8), Counting("x"))
    assert state["stop_condition"] == "max_total_completion_tokens_reached" and len(state["trajectory"]) == 2
    assert dict(state["usage"]) == {
        "input_tokens": 20, "output_tokens": 8, "final_input_tokens": 10, "final_output_tokens": 4,
    }  # fmt: skip
    with pytest.raises(TypeError):
        state["usage"]["input_tokens"] = 0


def test_single_turn_and_missing_datasets():
    with pytest.raises(ValueError, match=r"^Either dataset or eval_dataset must be provided$"):
        vf.SingleTurnEnv()
    env = vf.SingleTurnEnv(
        dataset=lambda: [{"question": "q"}], system_prompt="s", few_shot=[{"role": "user", "content": "f"}]
    )
    assert [message["content"] for message in env.get_eval_dataset()[0]["prompt"]] == ["s", "f", "q"]
    assert env.max_turns == 1


async def test_an_episode_that_waits_for_nothing_and_never_ends_is_ended_by_its_time_limit():
    class Endless(vf.MultiTurnEnv):
        async def env_response(self, messages, state, **kwargs):
            return "again"

    class Instant(Script):
        async def get_response(self, *args, **kwargs):
            return vf.Response(message=vf.AssistantMessage("x"))

    env = Endless(dataset=[{"question": "?"}], timeout_seconds=0.3)
    state = await env.rollout(env.get_dataset()[0], Instant(), "m")
    assert state["stop_condition"] == "timeout_reached" and len(state["trajectory"]) > 10


async def test_a_baseline_does_not_play_without_end():
    class Endless(vf.MultiTurnEnv):
        async def env_response(self, messages, state, **kwargs):
            return "again"

    env = Endless(dataset=[{"question": "?"}])
    state = await env.rollout(env.get_dataset()[0], POLICIES["baseline/echo"](), "m")
    assert len(state["trajectory"]) == 2_000
    assert isinstance(state["error"], vf.ModelError) and "give the environment max_turns" in str(state["error"])


async def test_a_row_with_nothing_to_ask_is_said_and_not_scored():
    env = vf.SingleTurnEnv(dataset=[{"text": "q", "answer": "a"}], rubric=vf.Rubric(funcs=[lambda completion: 1.0]))
    output = (await env.evaluate(POLICIES["baseline/echo"](), "m"))["outputs"][0]
    assert output["reward"] is None
    assert "the row has neither prompt nor question (its columns: text, answer" in output["error"]["message"]


def test_a_row_without_the_question_that_others_have_is_named():
    with pytest.raises(ValueError, match="Row 1 of the dataset has no question"):
        vf.SingleTurnEnv(dataset=[{"question": "q"}, {"text": "t"}])
