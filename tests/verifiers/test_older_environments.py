"""Code written against verifiers 0.1.10 and 0.1.14 that does more than the documentation shows."""

import json

import pytest
from openai import AsyncOpenAI
from openai_server import text

import verifiers as vf
from verifiers.evaluation.policies import EchoPolicy

ROWS = [{"question": "begin", "answer": "a"}, {"question": "again", "answer": "b"}]


class Talk(vf.MultiTurnEnv):
    async def env_response(self, messages, state, **kwargs):
        return "go on"


async def first(env, client=None):
    return (await env.evaluate(client or EchoPolicy(), "m", num_examples=1))["outputs"][0]


async def test_a_setup_that_goes_on_with_the_state_it_gets_back():
    class Base(vf.GymEnv):
        async def setup_state(self, state, **kwargs):
            state = await super().setup_state(state, **kwargs)
            state["mine"] = state["prompt"][-1]["content"]
            return state

    class Game:
        def reset(self, *, seed):
            return f"seed {seed}"

        def step(self, action):
            return "over", 1.0, True, {}

    async with Base(Game) as env:
        output = (await env.evaluate(EchoPolicy(), "m", num_examples=1, state_columns=["mine"]))["outputs"][0]
    assert output["error"] is None and output["mine"].startswith("seed ") and output["reward"] == 1.0


@pytest.mark.parametrize("name", ["SandboxEnv", "PythonEnv", "GymEnv", "MCPEnv", "TextArenaEnv", "OpenEnvEnv"])
def test_every_setup_gives_the_state_back(name):
    assert getattr(vf, name).setup_state.__annotations__["return"] == "State"


async def test_steps_that_a_subclass_has_made_of_dicts():
    class Dicts(Talk):
        async def add_trajectory_step(self, state, trajectory_step):
            plain = {
                side: [json.loads(message.model_dump_json()) for message in trajectory_step[side]]
                for side in ("prompt", "completion")
            }
            state["trajectory"].append({**trajectory_step, **plain})

        async def env_response(self, messages, state, **kwargs):
            return messages[-1].content + messages[0].content

    output = await first(Dicts(dataset=ROWS, max_turns=2))
    assert output["error"] is None
    assert [message.content for message in output["completion"]] == ["begin", "beginbegin", "beginbegin"]


async def test_an_is_completed_of_ones_own_completes_the_rollout():
    class Own(Talk):
        async def is_completed(self, state, **kwargs):
            return len(state["trajectory"]) == 2

    output = await first(Own(dataset=ROWS))
    assert output["is_completed"] and output["stop_condition"] == "is_completed" and output["num_turns"] == 2.0


async def test_datasets_are_set_and_prepared():
    env = vf.SingleTurnEnv(dataset=ROWS, system_prompt="Be short.")
    env.dataset = env.dataset.filter(lambda row: row["answer"] == "b")
    env.eval_dataset = [{"question": "held out", "answer": "c"}]
    assert [row["answer"] for row in env.get_dataset()] == ["b"]
    [row] = env.get_eval_dataset()
    assert [message["content"] for message in row["prompt"]] == ["Be short.", "held out"]


async def test_a_group_of_rubrics_may_be_given_to_several_environments():
    group = vf.RubricGroup([vf.Rubric(funcs=[lambda completion: 1.0])])
    envs = [Talk(dataset=ROWS, max_turns=2, rubric=group) for _ in range(2)]
    assert [(await first(env))["metrics"]["num_turns"] for env in envs] == [2.0, 2.0]
    assert len(group.rubrics) == 1


async def test_the_model_is_asked_with_arguments_in_their_place(openai_server):
    class Asks(Talk):
        async def env_response(self, messages, state, **kwargs):
            said = await self.get_model_response(state, [{"role": "user", "content": "x"}], None, "other")
            return said.message.content

    openai_server.reply(text("one"))
    output = await first(Asks(dataset=ROWS, max_turns=2), vf.ClientConfig(api_base_url=openai_server.url))
    assert output["error"] is None and [one["model"] for one in openai_server.requests] == ["m", "other", "m"]


async def test_an_answer_has_choices():
    class Asks(Talk):
        async def env_response(self, messages, state, **kwargs):
            said = await self.get_model_response(state, [{"role": "user", "content": "x"}], message_type="chat")
            [choice] = said.choices
            return f"{choice.message.content} {choice.finish_reason}"

    output = await first(Asks(dataset=ROWS, max_turns=2))
    assert output["completion"][1].content == "x stop"


async def test_an_argument_that_is_none_is_refused():
    class Asks(Talk):
        async def env_response(self, messages, state, **kwargs):
            await self.get_model_response(state, messages, temperature=0)
            return "x"

    output = await first(Asks(dataset=ROWS, max_turns=2))
    assert output["error"]["message"] == "TypeError: get_model_response() has no argument 'temperature'."


def test_tools_in_a_state_may_be_dicts():
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}
    assert vf.State(tool_defs=[tool])["oai_tools"] == [tool]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("raw", [False, True])
async def test_an_environment_asks_with_the_packages_client(openai_server, raw, wrapped):
    """`state["client"]` was an AsyncOpenAI in 0.1.10, and has one as `client` in 0.1.14."""

    class Asks(Talk):
        async def env_response(self, messages, state, **kwargs):
            client = state["client"].client if wrapped else state["client"]
            asked = [{"role": "user", "content": "And then?"}]
            said = await client.chat.completions.create(model=state["model"], messages=asked)
            return said.choices[0].message.content

    openai_server.reply(text("one"))
    env = Asks(dataset=ROWS, max_turns=2)
    if raw:
        async with AsyncOpenAI(base_url=openai_server.url, api_key="k") as given:
            output = await first(env, given)
    else:
        output = await first(env, vf.ClientConfig(api_base_url=openai_server.url))
    assert output["error"] is None and len(openai_server.requests) == 3


def test_a_client_says_what_it_has_not(openai_server):
    client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url))
    with pytest.raises(AttributeError, match="'OpenAIChatCompletionsClient' object has no attribute 'nonsense'"):
        client.nonsense  # noqa: B018
