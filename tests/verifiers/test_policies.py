"""The offline baselines."""

import json

import pytest

import verifiers as vf
from verifiers.evaluation.policies import FIRST_CALLS, EchoPolicy, FirstPolicy, RandomPolicy

SCHEMA = {"type": "object", "properties": {"action": {"enum": ["0", "1"]}}, "required": ["action"]}
TOOL = vf.Tool("say", "says", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})


async def ask(policy, seed=3, rollout=0, turn=0, schema=None, tools=None, prompt=None):
    state = vf.State(input={"info": {"seed": seed}, "example_id": 0}, rollout_index=rollout, trajectory=[None] * turn)
    if schema is not None:
        state["openenv_action_schema"] = schema
    messages = prompt or [vf.UserMessage("red green blue")]
    return (await policy.get_response(messages, "baseline", tools=tools, state=state)).message


async def test_random_samples_a_valid_action_from_seed_rollout_and_turn():
    policy = RandomPolicy()

    async def actions(**where):
        return [(await ask(policy, turn=turn, schema=SCHEMA, **where)).content for turn in range(20)]

    first = await actions()
    assert {json.loads(action)["action"] for action in first} == {"0", "1"}
    assert first == await actions()
    assert first != await actions(rollout=1) and first != await actions(seed=4)


async def test_without_a_seed_the_example_decides():
    state = vf.State(input={"info": {}, "example_id": 1}, trajectory=[], rollout_index=0)
    other = vf.State(input={"info": {}, "example_id": 2}, trajectory=[], rollout_index=0)
    prompt = [vf.UserMessage("red green blue")]
    said = [
        (await RandomPolicy().get_response(prompt, "b", state=each)).message.content for each in (state, other, state)
    ]
    assert said[0] == said[2] != said[1]
    assert set(said[0].split()) <= {"red", "green", "blue"}


async def test_random_calls_tools_and_gives_up_in_the_end():
    policy = RandomPolicy()
    message = await ask(policy, tools=[TOOL])
    (call,) = message.tool_calls
    assert call.name == "say" and set(json.loads(call.arguments)) == {"text"}
    answered = [vf.UserMessage("q"), message, vf.ToolMessage("ok", tool_call_id=call.id)]
    later = [await ask(policy, turn=turn, tools=[TOOL], prompt=answered) for turn in range(1, 60)]
    assert 0 < sum(not one.tool_calls for one in later) < 40


async def test_echo_says_the_last_user_message():
    policy = EchoPolicy()
    assert (await ask(policy)).content == "red green blue"
    free = {"type": "object", "properties": {"n": {"const": 1}, "text": {"type": "string"}}, "required": ["n", "text"]}
    assert json.loads((await ask(policy, schema=free)).content) == {"n": 1, "text": "red green blue"}
    call = (await ask(policy, tools=[TOOL])).tool_calls[0]
    assert json.loads(call.arguments) == {"text": "red green blue"}
    answered = [
        vf.UserMessage("q"),
        vf.AssistantMessage(None, tool_calls=[call]),
        vf.ToolMessage("4", tool_call_id="c"),
    ]
    assert (await ask(policy, tools=[TOOL], prompt=answered)).content == "4"


async def test_first_makes_the_same_move_every_time():
    policy = FirstPolicy()
    said = {(await ask(policy, seed=seed, turn=seed, schema=SCHEMA)).content for seed in range(5)}
    assert said == {'{"action": "0"}'}
    assert (await ask(policy)).content == "red"


@pytest.mark.parametrize("parameters", [{}, {"title": "look"}, {"type": "object", "properties": {}}, {"$defs": {}}])
async def test_a_tool_without_parameters_is_called_with_an_object(parameters):
    for policy in (RandomPolicy(), FirstPolicy(), EchoPolicy()):
        (call,) = (await ask(policy, tools=[vf.Tool("look", "looks", parameters)])).tool_calls
        assert json.loads(call.arguments) == {}


async def test_first_stops_calling_its_tool():
    prompt, policy = [vf.UserMessage("q")], FirstPolicy()
    for turn in range(FIRST_CALLS):
        message = await ask(policy, tools=[TOOL, vf.Tool("other")], turn=turn, prompt=prompt)
        (call,) = message.tool_calls
        assert (call.name, call.arguments) == ("say", '{"text": ""}')
        prompt += [message, vf.ToolMessage("ok", tool_call_id=call.id)]
    last = await ask(policy, tools=[TOOL], turn=FIRST_CALLS, prompt=prompt)
    assert not last.tool_calls and last.content


async def test_a_schema_that_accepts_nothing_is_the_models_error():
    with pytest.raises(vf.ModelError, match="from 3 to 2 is empty"):
        await ask(RandomPolicy(), schema={"properties": {"n": {"minimum": 3, "maximum": 2}}, "required": ["n"]})
