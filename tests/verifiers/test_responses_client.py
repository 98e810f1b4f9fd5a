"""The OpenAI Responses API over the real wire."""

import pytest
from model_replies import called, response, said, thought
from openai_server import error

import verifiers as vf

TYPE = "openai_responses"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


async def test_text_usage_and_what_is_sent(asks, openai_server):
    openai_server.reply(response(said("hel", "lo")))
    found = await asks(TYPE, sampling_args={"n": 1, "max_tokens": 9, "temperature": 0.5, "extra_body": {"top_k": 3}})
    assert found.message == {"role": "assistant", "content": "hello"}
    assert (found.finish_reason, found.is_truncated, found.id, found.created) == ("stop", False, "resp_1", 1)
    assert found.usage == vf.Usage(10, 6, 5, 16, 4)
    (request,) = openai_server.requests
    assert request["path"] == "/v1/responses" and request["input"] == [{"role": "user", "content": "hi"}]
    assert request["max_output_tokens"] == 9 and request["temperature"] == 0.5 and request["top_k"] == 3
    assert not {"n", "max_tokens", "messages", "tools", "store", "include"} & request.keys()


async def test_a_whole_conversation_becomes_items(asks, openai_server):
    openai_server.reply(response(said("ok")))
    picture = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]
    conversation = [
        vf.SystemMessage("s"),
        vf.UserMessage(picture),
        vf.AssistantMessage("wait", tool_calls=[{"id": "c0", "name": "add", "arguments": "{}"}]),
        vf.ToolMessage("4", tool_call_id="c0"),
        vf.AssistantMessage(None, tool_calls=[{"id": "c1", "name": "see", "arguments": "{}"}]),
        vf.ToolMessage(picture[:2], tool_call_id="c1"),
        vf.TextMessage("go on"),
    ]
    await asks(TYPE, conversation, tools=[vf.Tool("add", "adds", SCHEMA), vf.Tool("see", strict=True)])
    (request,) = openai_server.requests
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    assert request["input"] == [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                image,
                {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
                picture[3],
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            ],
        },
        {"role": "assistant", "content": "wait"},
        {"type": "function_call", "call_id": "c0", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c0", "output": "4"},
        {"type": "function_call", "call_id": "c1", "name": "see", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "see"}, image]},
        {"role": "user", "content": "go on"},
    ]
    assert request["tools"] == [
        {"type": "function", "name": "add", "description": "adds", "parameters": SCHEMA, "strict": False},
        {
            "type": "function",
            "name": "see",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
            "strict": True,
        },
    ]


async def test_reasoning_is_kept_and_given_back_word_for_word(asks, openai_server):
    openai_server.reply(response(thought("I", "add"), called("add", {"a": 1})), response(said("4")))
    first = await asks(TYPE, "2+2")
    assert first.message.reasoning_content == "I\n\nadd" and first.finish_reason == "tool_calls"
    (call,) = first.message.tool_calls
    assert (call.id, call.name, call.arguments) == ("call_1", "add", '{"a": 1}')
    asked = [vf.UserMessage("2+2"), first.message, vf.ToolMessage("4", tool_call_id="call_1")]
    await asks(TYPE, asked)
    summary = [{"type": "summary_text", "text": "I"}, {"type": "summary_text", "text": "add"}]
    assert openai_server.requests[1]["input"][1:3] == [
        {"type": "reasoning", "id": "rs_1", "summary": summary},
        called("add", {"a": 1}),
    ]
    # What the environment has changed is told as it is now.
    asked[1] = first.message.model_copy(update={"content": "I shall add."})
    await asks(TYPE, asked)
    assert openai_server.requests[2]["input"][1:3] == [
        {"role": "assistant", "content": "I shall add."},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
    ]


async def test_a_server_that_keeps_nothing_gets_encrypted_reasoning_back(asks, openai_server):
    openai_server.reply(response(thought(encrypted_content="gAAA"), said("4")))
    stored = {"store": False, "reasoning_effort": "low"}
    first = await asks(TYPE, "2+2", sampling_args=stored)
    request = openai_server.requests[0]
    assert request["store"] is False and request["reasoning"] == {"effort": "low"}
    assert request["include"] == ["reasoning.encrypted_content"]
    bare = vf.AssistantMessage("3", native_content=[thought(), said("3")])
    await asks(TYPE, [vf.UserMessage("2+2"), first.message, vf.UserMessage("1+2"), bare], sampling_args=stored)
    given = openai_server.requests[1]["input"]
    assert [item.get("type", item.get("role")) for item in given] == ["user", "reasoning", "message", "user", "message"]
    assert given[1]["encrypted_content"] == "gAAA"


async def test_open_reasoning_text_is_preferred_to_its_summary(asks, openai_server):
    openai_server.reply(
        response(thought("short", content=[{"type": "reasoning_text", "text": "all of it"}]), said("4"))
    )
    assert (await asks(TYPE)).message.reasoning_content == "all of it"


async def test_sampling_arguments_of_chat_completions_are_translated(asks, openai_server):
    openai_server.reply(response(said("ok")))
    shape = {"name": "s", "schema": SCHEMA, "strict": True}
    await asks(
        TYPE,
        sampling_args={
            "max_completion_tokens": 7,
            "response_format": {"type": "json_schema", "json_schema": shape},
            "tool_choice": {"type": "function", "function": {"name": "add"}},
        },
    )
    (request,) = openai_server.requests
    assert request["max_output_tokens"] == 7 and request["text"] == {"format": {"type": "json_schema", **shape}}
    assert request["tool_choice"] == {"type": "function", "name": "add"}


@pytest.mark.parametrize(
    ("why", "finish", "truncated"),
    [("max_output_tokens", "length", True), ("content_filter", "content_filter", False)],
)
async def test_an_incomplete_answer_says_so(asks, openai_server, why, finish, truncated):
    openai_server.reply(response(said("h"), status="incomplete", incomplete_details={"reason": why}))
    found = await asks(TYPE)
    assert (found.finish_reason, found.is_truncated) == (finish, truncated)


async def test_a_refusal_is_an_answer(asks, openai_server):
    refusal = {"type": "refusal", "refusal": "I will not."}
    openai_server.reply(response({**said(), "content": [refusal]}))
    message = (await asks(TYPE)).message
    assert message.content == message.refusal == "I will not."


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        (
            response(status="failed", error={"code": "server_error", "message": "oops"}),
            vf.ModelError,
            r"failed: oops \(server_error\)",
        ),
        (
            response(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
            vf.RateLimitError,
            "slow",
        ),
        (
            error(400, "Your input exceeds the context window of this model.", code="context_length_exceeded"),
            vf.OverlongPromptError,
            "context window",
        ),
        (response(), vf.EmptyModelResponseError, "no content, reasoning, and did not call"),
        (response(said("")), vf.EmptyModelResponseError, "no content, reasoning, and did not call"),
    ],
)
async def test_what_can_go_wrong(asks, openai_server, reply, kind, sentence):
    openai_server.reply(reply)
    with pytest.raises(kind, match=sentence) as raised:
        await asks(TYPE)
    assert type(raised.value) is kind
