"""The Anthropic Messages API over the real wire."""

import anthropic
import pytest
from model_replies import anthropic_error, block, message

import verifiers as vf
from verifiers.clients.anthropic_messages_client import DEFAULT_MAX_TOKENS

TYPE = "anthropic_messages"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
THINKING = {"type": "thinking", "thinking": "hm", "signature": "sig"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}


async def test_text_usage_and_what_is_sent(asks, openai_server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-ant-mine")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "not-this-one")
    openai_server.reply(message(block("hel"), block("lo")))
    sampling = {"n": 1, "stop": "END", "temperature": 0.5, "top_p": None, "extra_body": {"top_k": 3}}
    found = await asks(
        TYPE, sampling_args=sampling, config={"api_key_var": "MY_KEY", "extra_headers": {"X-Extra": "yes"}}
    )
    assert found.message == {"role": "assistant", "content": "hello"}
    assert (found.finish_reason, found.is_truncated, found.id, found.model) == ("stop", False, "msg_1", "test-model")
    # Read from the cache and written to it are parts of the prompt.
    assert found.usage == vf.Usage(13, 5, 3, 18, 4)
    (request,) = openai_server.requests
    assert request["path"] == "/v1/messages"
    assert request["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    assert (
        request["max_tokens"] == DEFAULT_MAX_TOKENS and request["stop_sequences"] == ["END"] and request["top_k"] == 3
    )
    assert not {"n", "stop", "top_p", "system", "tools"} & request.keys()
    headers = request["headers"]
    assert headers["Authorization"] == "Bearer sk-ant-mine" and headers["X-Extra"] == "yes"
    assert headers["Anthropic-Version"] and "not-this-one" not in str(headers)


async def test_a_whole_conversation_becomes_turns(asks, openai_server):
    openai_server.reply(message(block("ok")))
    picture = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
    ]
    images = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ]
    conversation = [
        vf.SystemMessage("s"),
        vf.SystemMessage([{"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}]),
        vf.UserMessage(picture),
        vf.TextMessage("now"),
        vf.AssistantMessage(
            " ",
            tool_calls=[
                {"id": "c0", "name": "add", "arguments": '{"a": 2}'},
                {"id": "c1", "name": "see", "arguments": "[1"},
            ],
        ),
        vf.UserMessage("hurry"),
        vf.ToolMessage("4", tool_call_id="c0"),
        vf.ToolMessage(picture[:2], tool_call_id="c1"),
        vf.SystemMessage("be brief"),
        vf.ToolMessage("", tool_call_id="c2"),
    ]
    await asks(TYPE, conversation, tools=[vf.Tool("add", "adds", SCHEMA), vf.Tool("see", strict=True)])
    (request,) = openai_server.requests
    assert request["system"] == [
        {"type": "text", "text": "s"},
        {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
    ]
    assert request["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "see"}, *images, picture[3], {"type": "text", "text": "now"}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c0", "name": "add", "input": {"a": 2}},
                {"type": "tool_use", "id": "c1", "name": "see", "input": {"arguments": "[1"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c0", "content": "4"},
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "see"}, images[0]]},
                {"type": "tool_result", "tool_use_id": "c2"},
                {"type": "text", "text": "hurry"},
                {"type": "text", "text": "be brief"},
            ],
        },
    ]
    assert request["tools"] == [
        {"name": "add", "description": "adds", "input_schema": SCHEMA},
        {"name": "see", "description": "", "input_schema": {"type": "object", "properties": {}}, "strict": True},
    ]


async def test_one_system_message_is_plain_text(asks, openai_server):
    openai_server.reply(message(block("ok")))
    await asks(TYPE, [vf.SystemMessage("s"), vf.UserMessage("hi")])
    assert openai_server.requests[0]["system"] == "s"


async def test_thinking_is_kept_and_given_back_word_for_word(asks, openai_server):
    redacted = {"type": "redacted_thinking", "data": "xx"}
    openai_server.reply(
        message(THINKING, redacted, block("I add."), USE, stop_reason="tool_use"), message(block("It is 4."))
    )
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    first = await asks(TYPE, "2+2", sampling_args=thinking)
    request = openai_server.requests[0]
    assert request["thinking"] == thinking["thinking"] and request["max_tokens"] == DEFAULT_MAX_TOKENS + 2000
    assert first.message.reasoning_content == "hm" and first.message.content == "I add."
    (call,) = first.message.tool_calls
    assert (call.id, call.name, call.arguments, first.finish_reason) == ("toolu_1", "add", '{"a": 1}', "tool_calls")
    asked = [vf.UserMessage("2+2"), first.message, vf.ToolMessage("4", tool_call_id="toolu_1")]
    await asks(TYPE, asked)
    said = {"type": "text", "text": "I add."}
    assert openai_server.requests[1]["messages"][1]["content"] == [THINKING, redacted, said, USE]
    # What the environment has changed is told as it is now.
    asked[1] = first.message.model_copy(update={"content": "Adding."})
    await asks(TYPE, asked)
    assert openai_server.requests[2]["messages"][1]["content"] == [{"type": "text", "text": "Adding."}, USE]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none", "max_completion_tokens": 5}, {"tool_choice": {"type": "none"}, "max_tokens": 5}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "add"}}, "parallel_tool_calls": False},
            {"tool_choice": {"type": "tool", "name": "add", "disable_parallel_tool_use": True}},
        ),
        ({"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"max_tokens": 60_000}, {"max_tokens": 60_000}),
        (
            {
                "reasoning_effort": "low",
                "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
            },
            {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
    ],
)
async def test_sampling_arguments_of_chat_completions_are_translated(asks, openai_server, given, sent):
    openai_server.reply(message(block("ok")))
    await asks(TYPE, sampling_args=given)
    request = openai_server.requests[0]
    assert {name: request[name] for name in sent} == sent
    translated = {"parallel_tool_calls", "max_completion_tokens", "stop", "reasoning_effort", "response_format"}
    assert not translated & request.keys()


@pytest.mark.parametrize(
    ("reason", "finish", "truncated"),
    [
        ("stop_sequence", "stop", False),
        ("max_tokens", "length", True),
        ("model_context_window_exceeded", "length", True),
        ("refusal", "content_filter", False),
    ],
)
async def test_why_it_stopped(asks, openai_server, reason, finish, truncated):
    openai_server.reply(message(block("h"), stop_reason=reason))
    found = await asks(TYPE)
    assert (found.finish_reason, found.is_truncated) == (finish, truncated)


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        (
            anthropic_error(401, "authentication_error", "invalid x-api-key"),
            vf.ModelAuthError,
            r"refused the key: invalid x-api-key \(HTTP 401\)$",
        ),
        (
            anthropic_error(
                400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."
            ),
            vf.ModelAuthError,
            "refused the account: Your credit balance",
        ),
        (
            anthropic_error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            vf.OverlongPromptError,
            r"^prompt is too long: 210000 tokens > 200000 maximum \(HTTP 400\)$",
        ),
        (
            anthropic_error(
                400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2"
            ),
            vf.OverlongPromptError,
            "exceed context limit",
        ),
        (
            anthropic_error(413, "request_too_large", "Request exceeds the maximum size"),
            vf.OverlongPromptError,
            "maximum size",
        ),
        (
            anthropic_error(400, "invalid_request_error", "max_tokens: too big"),
            vf.ModelError,
            r"failed: max_tokens: too big \(HTTP 400\)$",
        ),
        (anthropic_error(429, "rate_limit_error", "slow down"), vf.RateLimitError, "failed: slow down"),
        (anthropic_error(529, "overloaded_error", "Overloaded"), vf.ModelError, r"failed: Overloaded \(HTTP 529\)$"),
        (message(), vf.EmptyModelResponseError, "no content, reasoning, and did not call any tools"),
    ],
)
async def test_every_failure_is_typed(asks, openai_server, reply, kind, sentence):
    openai_server.reply(reply)
    with pytest.raises(kind, match=sentence) as raised:
        await asks(TYPE)
    assert type(raised.value) is kind and len(openai_server.requests) == 1


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "takes no audio"),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg/>"}}, "data: URL without base64"),
    ],
)
async def test_what_the_api_does_not_take(asks, openai_server, part, sentence):
    with pytest.raises(vf.ModelError, match=sentence):
        await asks(TYPE, [vf.UserMessage([part])])
    assert openai_server.requests == []


async def test_an_anthropic_client_stays_its_owners(openai_server):
    openai_server.reply(
        anthropic_error(529, "overloaded_error", "Overloaded", {"Retry-After": "0"}), message(block("ok"))
    )
    native = anthropic.AsyncAnthropic(base_url=openai_server.url.removesuffix("/v1"), api_key="k", max_retries=1)
    client = vf.as_client(native)
    assert isinstance(client, vf.AnthropicMessagesClient)
    # `temperature` is a word that this package does not know, and some models do.
    assert (await client.get_response("hi", "m", {"temperature": 0.5})).message.content == "ok"
    assert openai_server.requests[1]["temperature"] == 0.5
    assert client.retries == 1 and len(openai_server.requests) == 2
    await client.close()
    assert not native.is_closed()
    await native.close()


def test_the_package_may_be_missing(monkeypatch):
    monkeypatch.setattr("verifiers.clients.anthropic_messages_client.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs the anthropic package, .*: uv pip install 'anthropic>=2,<3'$"):
        vf.as_client(vf.ClientConfig(client_type=TYPE))
