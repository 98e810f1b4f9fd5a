"""Chat completions beyond text: images, audio, reasoning that is given back, refusals, tokens, usage."""

import pytest
from openai_server import completion, error, text, tool_call

import verifiers as vf

TYPE = "openai_chat_completions"
TOKENS = "openai_chat_completions_token"


async def test_images_and_audio_go_as_they_are(asks, openai_server):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    await asks(TYPE, [vf.UserMessage(parts)])
    (request,) = openai_server.requests
    assert request["messages"] == [{"role": "user", "content": parts}] and request["modalities"] == ["text"]


async def test_plain_dicts_are_messages_and_tools_too(asks, openai_server):
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    conversation = [
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": [{"type": "text", "text": "4"}], "tool_call_id": "c"},
    ]
    strict = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": True}}
    await asks(TYPE, conversation, tools=[strict])
    (request,) = openai_server.requests
    assert request["messages"] == conversation
    assert request["tools"][0]["function"] == {"description": "", **strict["function"]}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_goes_back_with_open_tool_calls_to_an_endpoint_that_gives_it(openai_server, name):
    openai_server.reply(
        completion({"content": None, name: "hm", "tool_calls": [_call()]}, "tool_calls"), text("4", **{name: "so"})
    )
    client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url))
    asked = [vf.UserMessage("2+2")]
    first = await client.get_response(asked, "m")
    assert first.message.reasoning_content == "hm"
    asked += [first.message, vf.ToolMessage("4", tool_call_id="c")]
    second = await client.get_response(asked, "m")
    assert openai_server.requests[1]["messages"][1][name] == "hm"
    await client.get_response([*asked, second.message, vf.UserMessage("and 3+3?")], "m")
    assert not any(name in message for message in openai_server.requests[2]["messages"])
    await client.close()


async def test_reasoning_details_go_back_as_they_came(openai_server):
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "s1"},
        {"type": "reasoning.encrypted", "data": "x"},
    ]
    openai_server.reply(text("4", reasoning_details=details), text("ok"))
    client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url))
    first = (await client.get_response("2+2", "m")).message
    assert first.reasoning_content == "hm" and first.reasoning_details == details
    await client.get_response([vf.UserMessage("2+2"), first, vf.UserMessage("sure?")], "m")
    assert openai_server.requests[1]["messages"][1] == {
        "role": "assistant",
        "content": "4",
        "reasoning_details": details,
    }
    await client.close()


async def test_a_refusal_is_an_answer(asks, openai_server):
    openai_server.reply(text(None, refusal="I will not."))
    message = (await asks(TYPE)).message
    assert message.content == message.refusal == "I will not."


async def test_a_spoken_answer_is_its_transcript_and_goes_back_by_id(openai_server):
    audio = {"id": "audio_1", "data": "AAAA", "expires_at": 1, "transcript": "hello"}
    openai_server.reply(text(None, audio=audio), text("ok"))
    client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url))
    said = (await client.get_response("hi", "m", {"modalities": ["text", "audio"]})).message
    assert said.content == "hello" and said.audio == audio
    await client.get_response([vf.UserMessage("hi"), said], "m")
    assert openai_server.requests[1]["messages"][1] == {
        "role": "assistant",
        "content": "hello",
        "audio": {"id": "audio_1"},
    }
    await client.close()


@pytest.mark.parametrize(
    "extra",
    [{"prompt_tokens_details": {"cached_tokens": 8}}, {"prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 3}],
)
async def test_cached_and_reasoning_tokens_are_counted(asks, openai_server, extra):
    used = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    openai_server.reply(
        completion({"content": "ok"}, usage={**used, "completion_tokens_details": {"reasoning_tokens": 3}, **extra})
    )
    assert (await asks(TYPE)).usage == vf.Usage(11, 5, 3, 16, 8)


def _with_tokens(ids=(4, 5), logprobs=(-0.5, -0.25), **fields):
    content = [{"token": "x", "logprob": value, "bytes": None, "top_logprobs": []} for value in logprobs]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "ab"},
        "finish_reason": "stop",
        "token_ids": list(ids),
        "logprobs": {"content": content, "refusal": None},
    }
    return completion({}, choices=[choice], prompt_token_ids=[1, 2, 3], **fields)


@pytest.mark.parametrize("client_type", [TYPE, TOKENS])
async def test_tokens_are_read_where_they_are_given(asks, openai_server, client_type):
    openai_server.reply(_with_tokens())
    response = await asks(client_type, sampling_args={"n": 1, "extra_body": {"top_k": 3}})
    assert response.tokens == vf.ResponseTokens([1, 2, 3], [0, 0, 0], [4, 5], [1, 1], [-0.5, -0.25])
    (request,) = openai_server.requests
    assert request["path"] == "/v1/chat/completions" and request["top_k"] == 3
    assert (request.get("logprobs"), request.get("return_token_ids")) == (
        (True, True) if client_type == TOKENS else (None, None)
    )


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (text("ab"), "gives no token ids and logprobs, which client type openai_chat_completions_token needs: serve"),
        (_with_tokens(ids=[4, 5, 6]), "gave 3 token ids and 2 logprobs for one answer"),
    ],
)
async def test_no_training_on_tokens_that_are_not_there(asks, openai_server, reply, sentence):
    openai_server.reply(reply)
    with pytest.raises(vf.ModelError, match=sentence):
        await asks(TOKENS)


async def test_streaming_is_refused_before_anything_is_sent(asks, openai_server):
    with pytest.raises(vf.ModelError, match="leave `stream` out of the sampling arguments"):
        await asks(TYPE, sampling_args={"stream": True})
    assert openai_server.requests == []


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        ({"code": 429, "message": "Provider is busy"}, vf.RateLimitError, r"failed: Provider is busy \(429\)$"),
        ({"code": 502, "message": "Provider fell over"}, vf.ModelError, r"Provider fell over \(502\)$"),
        ({"code": 401, "message": "No such key"}, vf.ModelAuthError, r"refused the key: No such key \(401\)$"),
        ({"code": 400, "message": "maximum context length is 8"}, vf.OverlongPromptError, "maximum context length"),
    ],
)
async def test_an_error_that_comes_with_200_is_one(asks, openai_server, said, kind, sentence):
    openai_server.reply(completion({}, choices=None, error=said))
    with pytest.raises(kind, match=sentence) as raised:
        await asks(TYPE)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    "reply",
    [
        error(402, "Insufficient Balance"),
        error(429, "You exceeded your current quota", code="insufficient_quota"),
    ],
)
async def test_an_account_without_money_ends_the_run_and_is_not_asked_again(asks, openai_server, reply):
    openai_server.reply(reply)
    with pytest.raises(vf.ModelAuthError, match="refused the account: "):
        await asks(TYPE, max_retries=3)
    assert len(openai_server.requests) == 1


def _call():
    return {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}


async def test_arguments_that_are_no_text_are_an_empty_object(asks, openai_server):
    openai_server.reply(tool_call("now", ""))
    assert (await asks(TYPE)).message.tool_calls[0].arguments == "{}"
