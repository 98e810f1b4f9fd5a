"""Whose fault it is, and what leaves this process: prompts that cannot be sent, nulls, half characters, keys."""

import json

import pytest
from openai import AsyncOpenAI
from openai_server import Reply, completion, error, text

import verifiers as vf
from verifiers.evaluation.policies import EchoPolicy

TYPES = ["openai_chat_completions", "openai_completions", "openai_responses", "anthropic_messages"]
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize("client_type", TYPES)
@pytest.mark.parametrize(
    ("prompt", "tools", "words"),
    [
        ([{"content": "x"}], None, "A chat message needs a role"),
        ("hi", [{"description": "x"}], "A tool definition needs a name"),
    ],
)
async def test_what_cannot_be_sent_is_not_the_endpoints_fault(asks, openai_server, client_type, prompt, tools, words):
    with pytest.raises(vf.ModelError, match="The model was not asked, because of the prompt or the tools") as failed:
        await asks(client_type, prompt, tools=tools)
    assert words in str(failed.value) and not openai_server.requests


async def test_what_is_no_json_is_not_the_endpoints_fault(asks, openai_server):
    with pytest.raises(vf.ModelError, match="failed on this side: TypeError: Object of type object is not JSON"):
        await asks(TYPES[0], [{"role": "user", "content": [{"type": "text", "text": object()}]}])
    assert not openai_server.requests


async def test_messages_and_dicts_may_be_mixed(asks, openai_server):
    further = [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]
    await asks(TYPES[0], [vf.UserMessage("2+2"), *further])
    assert openai_server.requests[0]["messages"] == [{"role": "user", "content": "2+2"}, *further]


async def test_nulls_of_a_datasets_rows_are_not_sent(asks, openai_server):
    image = {"url": "data:image/png;base64,AAAA", "detail": None}
    parts = [
        {"type": "text", "text": "What?", "image_url": None},
        {"type": "image_url", "text": None, "image_url": image},
    ]
    await asks(TYPES[0], [{"role": "user", "content": parts}])
    assert openai_server.requests[0]["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": image["url"]}},
    ]
    openai_server.reply(Reply(body=json.dumps({"content": [{"type": "text", "text": "a cat"}]}).encode()))
    await asks("anthropic_messages", [{"role": "user", "content": parts}])
    assert openai_server.requests[1]["messages"][0]["content"][0] == {"type": "text", "text": "What?"}


@pytest.mark.parametrize("raw", [False, True])
async def test_half_a_character_goes_as_the_sign_for_it(openai_server, raw):
    said = [vf.UserMessage("cut \ud83d here, whole \ud83d\ude00 there")]
    if raw:
        async with AsyncOpenAI(base_url=openai_server.url, api_key="k") as given:
            await vf.as_client(given).get_response(said, "m")
    else:
        client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url))
        await client.get_response(said, "m")
        await client.close()
    (request,) = openai_server.requests
    assert request["messages"][0]["content"] == "cut \ufffd here, whole \U0001f600 there"


async def test_arguments_that_are_an_object_are_its_text(asks, openai_server):
    call = {**CALL, "function": {"name": "add", "arguments": {"a": 1}}}
    openai_server.reply(completion({"content": None, "tool_calls": [call]}, "tool_calls"))
    response = await asks(TYPES[0])
    assert response.message.tool_calls[0].arguments == '{"a": 1}'


@pytest.mark.parametrize("raw", [False, True])
async def test_a_key_that_an_endpoint_repeats_gets_into_no_row(openai_server, monkeypatch, raw):
    key = "sk-0123456789"
    monkeypatch.setenv("THE_KEY", key)
    openai_server.reply(error(400, f"the key {key} is for another model"))
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}])
    if raw:
        async with AsyncOpenAI(base_url=openai_server.url, api_key=key) as given:
            output = (await env.evaluate(given, "m"))["outputs"][0]
    else:
        config = vf.ClientConfig(api_base_url=openai_server.url, api_key_var="THE_KEY")
        output = (await env.evaluate(config, "m"))["outputs"][0]
    assert "the key [key] is for another model" in output["error"]["message"]
    assert key not in repr(output) and openai_server.requests[0]["headers"]["Authorization"] == f"Bearer {key}"


@pytest.mark.parametrize("key", ["sk-0123\n456789", "sk-0123456789é"])
async def test_a_key_that_cannot_be_sent_gets_into_no_row(openai_server, monkeypatch, key):
    monkeypatch.setenv("THE_KEY", key)
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}])
    with pytest.raises(vf.ModelAuthError, match="The key in THE_KEY cannot be one: its character") as caught:
        await env.evaluate(vf.ClientConfig(api_base_url=openai_server.url, api_key_var="THE_KEY"), "m")
    assert "0123" not in repr(caught.value) and openai_server.requests == []


async def test_a_line_break_behind_a_key_is_no_part_of_it(openai_server, monkeypatch):
    monkeypatch.setenv("THE_KEY", "sk-0123456789\n")
    openai_server.reply(text("ok"))
    client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url, api_key_var="THE_KEY"))
    await client.get_response([vf.UserMessage("hi")], "m")
    await client.close()
    assert openai_server.requests[0]["headers"]["Authorization"] == "Bearer sk-0123456789"


@pytest.mark.parametrize("value", ["Bearer se\ncret-0123", "Bearer secret-0123é"])
async def test_a_secret_header_that_cannot_be_sent_gets_into_no_row(openai_server, value):
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}])
    config = vf.ClientConfig(api_base_url=openai_server.url, extra_headers={"X-Auth": value}, max_retries=0)
    output = (await env.evaluate(config, "m"))["outputs"][0]
    assert output["error"]["error"] == "ModelError" and "[key]" in output["error"]["error_chain_repr"]
    assert "cret-0123" not in repr(output)


async def test_a_client_of_ones_own_gets_messages(openai_server):
    class Looks(EchoPolicy):
        async def to_native_prompt(self, messages):
            assert all(isinstance(message, vf.types.Message) for message in messages)
            return await super().to_native_prompt(messages)

    openai_server.reply(text("ok"))
    response = await Looks().get_response([vf.UserMessage("hi"), {"role": "user", "content": "there"}], "m")
    assert response.message.content == "there"
