"""Python functions as tools."""

import functools
import json
from enum import Enum
from typing import Annotated, Literal, TypedDict

import pytest
from pydantic import BaseModel

import verifiers as vf
from verifiers.evaluation.policies import Policy
from verifiers.utils.json_schema import first
from verifiers.utils.json_schema_check import accepts
from verifiers.utils.tool_utils import schema_of, tool_from_function


def add(a: int, b: int = 2) -> int:
    """Adds two numbers.

    Args:
        a: the first number,
            a whole one
        b (int): the second

    Returns:
        their sum
    """
    return a + b


async def look(where: Literal["left", "right"]) -> list:
    """Looks."""
    return [{"type": "text", "text": f"a tree on the {where}"}]


def fail(what: str) -> str:
    raise KeyError(what)


class Caller(Policy):
    """Calls these tools turn by turn, then says done."""

    def __init__(self, *turns):
        super().__init__()
        self.turns = list(turns)

    def answer(self, prompt, tools, action_schema, rng):
        if not self.turns:
            return vf.AssistantMessage("done")
        calls = self.turns.pop(0)
        return vf.AssistantMessage(
            None, tool_calls=[{"id": f"c{i}", "name": name, "arguments": text} for i, (name, text) in enumerate(calls)]
        )


async def play(client, **options):
    env = vf.ToolEnv(tools=[add, look, fail], dataset=[{"question": "q"}], **options)
    state = await env.rollout(env.get_dataset()[0], client, "m")
    await env.score([state])
    return state


async def test_tools_are_called_in_order_and_counted():
    client = Caller([("add", '{"a": 1}'), ("look", '{"where": "left"}')], [("add", '{"a": 1, "b": 5}')])
    state = await play(client)
    tools = [message for message in state["completion"] if message["role"] == "tool"]
    assert [message.content for message in tools] == ["3", [{"type": "text", "text": "a tree on the left"}], "6"]
    assert [message.tool_call_id for message in tools] == ["c0", "c1", "c0"]
    assert state["stop_condition"] == "no_tools_called"
    assert state["metrics"] == {
        "num_turns": 3.0,
        "total_tool_calls": 3.0,
        "add_calls": 2.0,
        "look_calls": 1.0,
        "fail_calls": 0.0,
    }


@pytest.mark.parametrize(
    ("call", "content"),
    [
        (("fail", '{"what": "x"}'), "'x'"),
        (("nothing", "{}"), "'nothing'"),
        (("add", "{"), "Expecting property name"),
        (("add", "[1]"), "Expected tool arguments to be a dict, got list: [1]"),
        (("add", '{"c": 1}'), "unexpected keyword argument 'c'"),
    ],
)
async def test_a_failing_call_goes_back_to_the_model(call, content):
    state = await play(Caller([call]))
    assert state["error"] is None and content in state["completion"][1].content
    assert state["completion"][1].tool_call_id == "c0" and state["completion"][2].content == "done"


async def test_stop_errors_end_the_rollout():
    state = await play(Caller([("fail", '{"what": "x"}')]), stop_errors=[KeyError])
    assert isinstance(state["error"], vf.ToolCallError) and isinstance(state["error"].__cause__, KeyError)
    state = await play(Caller([("add", "{")]), stop_errors=[json.JSONDecodeError])
    assert isinstance(state["error"], vf.ToolParseError)


def test_the_schema_comes_from_signature_and_docstring():
    tool = tool_from_function(add)
    assert (tool.name, tool.description) == ("add", "Adds two numbers.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "the first number, a whole one"},
            "b": {"type": "integer", "description": "the second", "default": 2},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


class Colour(Enum):
    RED = "red"


class Point(TypedDict):
    x: float


class Model(BaseModel):
    y: int


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Annotated[bool, "whether"], {"type": "boolean", "description": "whether"}),
        (Colour, {"enum": ["red"]}),
        (
            Point,
            {
                "type": "object",
                "properties": {"x": {"type": "number"}},
                "required": ["x"],
                "additionalProperties": False,
            },
        ),
        (Model, Model.model_json_schema()),
        (object, {}),
    ],
)
def test_schemas_of_annotations(hint, schema):
    assert schema_of(hint) == schema


async def test_tools_come_and_go():
    env = vf.ToolEnv(dataset=[{"question": "q"}])
    env.add_tool(add)
    with pytest.raises(ValueError, match="already a tool called 'add'"):
        env.add_tool(add)
    env.add_tool(look)
    env.remove_tool(add)
    assert [tool.name for tool in env.tool_defs] == ["look"] and list(env.tool_map) == ["look"]
    assert env.rubric.get_reward_func_names() == ["num_turns", "total_tool_calls", "look_calls"]


def test_older_tool_definitions_are_taken():
    shape = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}], oai_tools=[shape])
    assert env.tool_defs == [vf.Tool("f", "d", {"type": "object"})]


class Counter:
    """Counts."""

    def __call__(self, step: int) -> str:
        """Counts on.

        Args:
            step: how far
        """
        return str(step)


def test_partial_functions_and_callable_objects_have_schemas_too():
    half = tool_from_function(functools.partial(add, b=3))
    assert half.name == "add" and half.description == "Adds two numbers."
    assert half.parameters["properties"]["a"]["type"] == half.parameters["properties"]["b"]["type"] == "integer"
    assert half.parameters["properties"]["b"]["default"] == 3 and half.parameters["required"] == ["a"]
    counter = tool_from_function(Counter())
    assert counter.name == "Counter" and counter.description == "Counts on."
    assert counter.parameters["properties"] == {"step": {"type": "integer", "description": "how far"}}


def test_definitions_of_models_stand_where_references_look_for_them():
    def models(kind):
        class Leaf(BaseModel):
            value: kind

        class Branch(BaseModel):
            leaves: list[Leaf]

        return Branch

    numbers, words = models(int), models(str)

    def plant(one: numbers, more: list[numbers], other: words | None = None) -> str:
        """Plants."""

    schema = tool_from_function(plant).parameters
    assert "$defs" not in json.dumps(schema["properties"]).replace("#/$defs/", "")
    value = {"one": {"leaves": [{"value": 1}]}, "more": [{"leaves": [{"value": 2}]}]}
    assert accepts(schema, {**value, "other": {"leaves": [{"value": "a"}]}})
    assert not accepts(schema, {**value, "other": {"leaves": [{"value": 1}]}})
    assert not accepts(schema, {**value, "more": [{"leaves": [{"value": "a"}]}]})
    assert accepts(schema, first(schema)) and set(schema["$defs"]) == {"Leaf", "Leaf2"}
