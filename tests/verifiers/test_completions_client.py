"""Plain completions over the real wire."""

import pytest
from model_replies import text_completion

import verifiers as vf

TYPE = "openai_completions"


async def test_text_there_and_back(asks, openai_server):
    openai_server.reply(text_completion(" four", "length"))
    response = await asks(
        TYPE, [vf.TextMessage("2+2 is")], sampling_args={"n": 1, "max_completion_tokens": 9, "stop": "."}
    )
    assert response.message == {"role": "assistant", "content": " four"}
    assert response.is_truncated and response.finish_reason == "length" and response.tokens is None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (3, 2)
    (request,) = openai_server.requests
    assert request["path"] == "/v1/completions" and request["prompt"] == "2+2 is" and request["model"] == "m"
    assert request["max_tokens"] == 9 and request["stop"] == "." and "messages" not in request


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([vf.TextMessage("Once "), vf.AssistantMessage("upon a"), vf.TextMessage(" time")], "Once upon a time"),
        ([vf.SystemMessage("Be kind."), vf.UserMessage("Hello")], "Be kind.\n\nHello"),
        ([vf.UserMessage([{"type": "text", "text": "parts"}])], "parts"),
        ("a string", "a string"),
    ],
)
async def test_messages_become_one_text(asks, openai_server, messages, prompt):
    openai_server.reply(text_completion("ok"))
    await asks(TYPE, messages)
    assert openai_server.requests[0]["prompt"] == prompt


async def test_tokens_where_the_endpoint_gives_them(asks, openai_server):
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-0.5, -0.25], "text_offset": [0, 1], "top_logprobs": None}
    openai_server.reply(text_completion("ab", logprobs=logprobs, prompt_token_ids=[1, 2, 3], token_ids=[4, 5]))
    tokens = (await asks(TYPE)).tokens
    assert tokens == vf.ResponseTokens([1, 2, 3], [0, 0, 0], [4, 5], [1, 1], [-0.5, -0.25])


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("prompt", "tools", "sentence"),
    [
        ([vf.UserMessage([IMAGE])], None, "takes text only, and the prompt has a part of type 'image_url'"),
        ("hi", [vf.Tool("add")], "takes no tools, and the environment has 'add'"),
    ],
)
async def test_what_plain_text_cannot_hold(asks, openai_server, prompt, tools, sentence):
    with pytest.raises(vf.ModelError, match=sentence):
        await asks(TYPE, prompt, tools=tools)
    assert openai_server.requests == []
