"""The OpenAI-compatible client over the real wire."""

import asyncio
import json

import openai
import pytest
from openai_server import Reply, completion, cut, error, text, tool_call

import verifiers as vf
from verifiers.clients.resolve import as_client


@pytest.fixture
def ask(openai_server):
    """Ask the server once: `await ask(prompt, **options)`."""

    async def ask(prompt="hi", max_retries=0, config=None, **options):
        settings = {"api_base_url": openai_server.url, "max_retries": max_retries, **(config or {})}
        client = as_client(vf.ClientConfig(**settings))
        client.retry_delay_seconds = 0.001
        messages = [vf.UserMessage(prompt)] if isinstance(prompt, str) else prompt
        try:
            return await client.get_response(messages, "m", **options)
        finally:
            await client.close()

    return ask


async def test_text_usage_and_what_is_sent(ask, openai_server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-mine")
    openai_server.reply(text("hello", finish_reason="length", reasoning_content="hm"))
    sampling = {"n": 1, "max_tokens": 9, "temperature": None, "extra_body": {"top_k": 3}}
    response = await ask(sampling_args=sampling, config={"api_key_var": "MY_KEY", "extra_headers": {"X-Extra": "yes"}})
    assert response.message == {"role": "assistant", "content": "hello", "reasoning_content": "hm"}
    assert response.is_truncated and response.finish_reason == "length"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens, response.usage.total_tokens) == (11, 5, 16)
    (request,) = openai_server.requests
    assert request["path"] == "/v1/chat/completions" and request["model"] == "m"
    assert request["max_completion_tokens"] == 9 and request["top_k"] == 3
    assert "temperature" not in request and "max_tokens" not in request and "tools" not in request
    assert request["headers"]["Authorization"] == "Bearer sk-mine" and request["headers"]["X-Extra"] == "yes"


async def test_what_goes_along_with_one_request(ask, openai_server):
    openai_server.reply(text("hello"))
    sampling = {"extra_headers": {"X-Once": "1"}, "extra_query": {"api-version": "7"}, "timeout": 20, "seed": 4}
    await ask(sampling_args=sampling)
    (request,) = openai_server.requests
    assert request["path"] == "/v1/chat/completions?api-version=7"
    assert request["headers"]["X-Once"] == "1" and request["seed"] == 4
    assert not {"extra_headers", "extra_query", "timeout"} & request.keys()


async def test_tools_there_and_back(ask, openai_server):
    openai_server.reply(tool_call("add", {"a": 1}))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    conversation = [
        vf.SystemMessage("s"),
        vf.UserMessage("2+2"),
        vf.AssistantMessage(None, tool_calls=[{"id": "c0", "name": "add", "arguments": "{}"}], reasoning_content="hm"),
        vf.ToolMessage("4", tool_call_id="c0"),
        vf.TextMessage("go on"),
    ]
    response = await ask(conversation, tools=[vf.Tool("add", "adds", schema)])
    (call,) = response.message.tool_calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("call_1", "add", {"a": 1})
    assert response.finish_reason == "tool_calls" and response.message.content is None
    (request,) = openai_server.requests
    assert request["tools"] == [
        {"type": "function", "function": {"name": "add", "description": "adds", "parameters": schema}}
    ]
    assert request["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "c0"},
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        (
            error(401, "Incorrect API key provided"),
            vf.ModelAuthError,
            r"refused the key: Incorrect API key provided \(HTTP 401\)$",
        ),
        (error(403, "no access"), vf.ModelAuthError, "refused the key"),
        (error(400, "This model's maximum context length is 8 tokens"), vf.OverlongPromptError, "maximum context"),
        (error(400, "bad parameter"), vf.ModelError, r"failed: bad parameter \(HTTP 400\)$"),
        (error(404, "no such model"), vf.ModelError, "failed: .*no such model"),
        (error(429, "slow down"), vf.RateLimitError, "failed: .*slow down"),
        (error(500, "on fire"), vf.ModelError, "failed: .*on fire"),
        (cut(), vf.ModelError, "Could not reach the model endpoint http://127.0.0.1:"),
        (Reply(body=b"{garbage"), vf.UnreadableResponseError, "not a chat completion"),
        (Reply(body=b"hello", headers={"Content-Type": "text/plain"}), vf.UnreadableResponseError, ": hello. It came"),
        (Reply(body=b""), vf.UnreadableResponseError, "not a chat completion"),
        (Reply(body=b"", headers={"Content-Type": "text/html"}), vf.UnreadableResponseError, "an empty body. It came"),
        (
            Reply(body=b"<!doctype html><html>Hi", headers={"Content-Type": "text/html"}),
            vf.UnreadableResponseError,
            r"<html>Hi \(a web page: is the base URL right\?\). It came from http://127.0.0.1:",
        ),
        (Reply(body=b"[1]"), vf.UnreadableResponseError, r"not a chat completion: \[1\]"),
        (Reply(body=b"null"), vf.UnreadableResponseError, "Model returned no response"),
        (text(None), vf.EmptyModelResponseError, "^Model returned no content, reasoning, and did not call any tools$"),
        (completion({}, choices=None), vf.UnreadableResponseError, "^Model returned no response choices$"),
        (completion({}, choices=[]), vf.InvalidModelResponseError, "^Model returned 0 choices, expected 1$"),
    ],
)
async def test_every_failure_is_typed(ask, openai_server, reply, kind, sentence):
    openai_server.reply(reply)
    with pytest.raises(kind, match=sentence) as raised:
        await ask()
    assert type(raised.value) is kind
    assert len(openai_server.requests) == 1


async def test_a_server_that_is_not_there(ask):
    with pytest.raises(vf.ModelError, match=r"Could not reach the model endpoint http://127.0.0.1:9/v1"):
        await ask(config={"api_base_url": "http://user:secret@127.0.0.1:9/v1"})


async def test_a_server_that_does_not_answer_in_time(ask, openai_server):
    import threading

    release = threading.Event()
    openai_server.reply(Reply(wait=release, cut=True))
    try:
        with pytest.raises(vf.ModelError, match="did not answer in time"):
            await ask(config={"timeout": 0.1})
    finally:
        release.set()


@pytest.mark.parametrize("trouble", [error(429, "slow down", {"Retry-After": "0"}), error(503, "busy"), cut()])
async def test_passing_trouble_is_retried_within_bounds(ask, openai_server, trouble):
    openai_server.reply(trouble, trouble, text("at last"))
    assert (await ask(max_retries=2)).message.content == "at last"
    assert len(openai_server.requests) == 3
    openai_server.requests.clear()
    openai_server.reply(trouble)
    with pytest.raises(vf.ModelError):
        await ask(max_retries=1)
    assert len(openai_server.requests) == 2


async def test_an_openai_client_stays_its_owners(openai_server):
    native = openai.AsyncOpenAI(base_url=openai_server.url, api_key="k")
    client = as_client(native)
    assert (await client.get_response([vf.UserMessage("hi")], "m")).message.content == "ok"
    await client.close()
    assert not native.is_closed()
    await native.close()


def test_one_config_serves_loop_after_loop(openai_server):
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}], rubric=vf.Rubric())
    client = as_client(vf.ClientConfig(api_base_url=openai_server.url))

    async def once():
        result = await env.evaluate(client, "m")
        await client.close()
        return result["outputs"][0]

    assert [asyncio.run(once())["completion"][0].content for _ in range(2)] == ["ok", "ok"]


@pytest.mark.parametrize("given", ["gpt", None, vf.ClientConfig(client_type="carrier_pigeon")])
def test_what_is_no_client(given):
    with pytest.raises(ValueError, match=r"^Unsupported client type: "):
        as_client(given)
