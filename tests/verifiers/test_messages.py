"""Messages of both generations: dicts, objects with attributes, and what is in between."""

import copy
import json
from types import SimpleNamespace

import pytest

import verifiers as vf
from verifiers.utils.message_utils import content_text, normalize_messages, normalize_tool

OPENAI_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_a_message_reads_as_dict_and_as_object():
    message = vf.UserMessage(content="hello")
    assert message["content"] == message.content == message.get("content") == "hello"
    assert message == {"role": "user", "content": "hello"} and message.role == "user"
    assert "content" in message and "tool_calls" not in message
    assert json.loads(json.dumps(message)) == {"role": "user", "content": "hello"}
    with pytest.raises(AttributeError):
        _ = message.nonsense


def test_what_an_assistant_did_not_say_is_none():
    message = vf.AssistantMessage("hi")
    assert message.tool_calls is None and message["reasoning_content"] is None
    assert "tool_calls" not in message
    with pytest.raises(KeyError):
        _ = message["nonsense"]


@pytest.mark.parametrize(
    "given",
    [
        OPENAI_CALL,
        {"id": "c1", "name": "add", "arguments": '{"a": 1}'},
        json.dumps(OPENAI_CALL),
        SimpleNamespace(id="c1", type="function", function=SimpleNamespace(name="add", arguments='{"a": 1}')),
    ],
)
def test_a_tool_call_reads_in_both_shapes(given):
    (call,) = vf.AssistantMessage(tool_calls=[given])["tool_calls"]
    assert (call.id, call.name, call.arguments) == ("c1", "add", '{"a": 1}')
    assert call["function"]["name"] == call.function.name == call.get("function").get("name") == "add"
    assert "function" in call and call.type == call["type"] == "function"
    assert json.loads(json.dumps(call)) == {"id": "c1", "name": "add", "arguments": '{"a": 1}'}


def test_messages_are_normalised_from_anything_reasonable():
    class Foreign:
        def model_dump(self, exclude_none=False):
            return {"role": "tool", "content": "4", "tool_call_id": "c1"}

    own = vf.SystemMessage("be brief")
    messages = normalize_messages([own, {"role": "user", "content": "2+2"}, Foreign()])
    assert messages[0] is own
    assert [type(message).__name__ for message in messages] == ["SystemMessage", "UserMessage", "ToolMessage"]
    assert normalize_messages("hi") == [{"role": "user", "content": "hi"}] and normalize_messages(None) == []
    with pytest.raises(ValueError, match="needs a role"):
        normalize_messages([{"content": "x"}])
    with pytest.raises(TypeError, match=r"Expected a chat message .* got int: 3"):
        normalize_messages([3])


def test_content_parts_and_copies():
    message = vf.UserMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}])
    assert content_text(message.content) == "a"
    copied = copy.deepcopy(message)
    assert copied == message and type(copied) is vf.UserMessage
    assert type(message.model_dump()) is dict
    assert message.model_copy(update={"content": "b"}).content == "b"


def test_tools_from_every_shape():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    shapes = [
        {"name": "f", "description": "d", "parameters": schema},
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
        {"name": "f", "description": "d", "inputSchema": schema},
    ]
    assert [normalize_tool(shape) for shape in shapes] == [vf.Tool("f", "d", schema)] * 3
    with pytest.raises(ValueError, match="needs a name"):
        normalize_tool({"description": "d"})


def test_state_forwards_the_fields_of_its_input():
    state = vf.State(input={"prompt": [], "answer": "4", "info": {"seed": 3}, "example_id": 7}, reward=None)
    assert state["answer"] == "4" and state.get("info") == {"seed": 3} and "example_id" in state
    state["answer"] = "5"
    assert state["input"]["answer"] == "5"
    assert state.get("nothing", 1) == 1 and "nothing" not in state
    with pytest.raises(KeyError):
        _ = state["nothing"]
