"""What may be given as a client, and what a ClientConfig says."""

import asyncio

import openai
import pytest
from model_replies import block, message
from openai_server import OpenAIServer, text

import verifiers as vf
from verifiers.clients.config import headers_from_state

CLASSES = {
    "openai_chat_completions": "OpenAIChatCompletionsClient",
    "openai_chat_completions_token": "OpenAIChatCompletionsTokenClient",
    "openai_completions": "OpenAICompletionsClient",
    "openai_responses": "OpenAIResponsesClient",
    "anthropic_messages": "AnthropicMessagesClient",
}


@pytest.mark.parametrize(("client_type", "name"), CLASSES.items())
def test_a_config_becomes_the_client_of_its_type(client_type, name):
    module = __import__(f"verifiers.clients.{client_type}_client", fromlist=[name])
    assert type(vf.as_client(vf.ClientConfig(client_type=client_type))) is getattr(module, name) is getattr(vf, name)
    assert getattr(vf.clients, name) is getattr(vf, name)
    assert issubclass(getattr(vf, name), vf.clients.Client)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("gpt", r"^Unsupported client type: str\. Give a vf\.Client, a vf\.ClientConfig, an openai"),
        (
            vf.ClientConfig(client_type="smoke"),
            r"^Unsupported client type: 'smoke'\. Use one of openai_chat_completions,",
        ),
        (vf.ClientConfig(client_type="renderer"), r"'renderer': it renders prompts .* 'openai_chat_completions_token'"),
        (vf.ClientConfig(client_type="nemorl_chat_completions"), "it is a dialect that only the server of a NeMo RL"),
        (vf.ClientConfig(renderer="qwen3"), r"ClientConfig\(renderer='qwen3'\) asks for prompts .* leave renderer out"),
        (
            vf.ClientConfig(endpoint_configs=["http://a"]),
            "endpoint_configs takes ClientConfigs, or mappings .* not str",
        ),
        (
            vf.ClientConfig(endpoint_configs=[{"url": "x"}]),
            "endpoint_configs has an entry that is no endpoint: .*'url'",
        ),
    ],
)
def test_what_is_no_client(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        vf.as_client(given)


def test_a_client_that_blocks_is_refused():
    with (
        openai.OpenAI(api_key="k") as blocking,
        pytest.raises(ValueError, match=r"OpenAI answers only one request at a time\. Give AsyncOpenAI"),
    ):
        vf.as_client(blocking)


def test_several_endpoints_are_not_one_client():
    with pytest.raises(ValueError, match=r"for vf\.as_client, not for one client"):
        vf.OpenAIChatCompletionsClient(vf.ClientConfig(endpoint_configs=[{}]))


def test_address_and_key_follow_the_type():
    anthropic = vf.ClientConfig(client_type="anthropic_messages")
    assert (anthropic.api_base_url, anthropic.api_key_var) == ("https://api.anthropic.com", "ANTHROPIC_API_KEY")
    plain = vf.ClientConfig()
    assert (plain.api_base_url, plain.api_key_var) == ("https://api.openai.com/v1", "OPENAI_API_KEY")
    assert vf.AnthropicMessagesClient(plain).address == "https://api.anthropic.com"
    own = vf.ClientConfig(api_base_url="http://h/v1", api_key_var="K").of_type("anthropic_messages")
    assert (own.api_base_url, own.api_key_var) == ("http://h/v1", "K")


def test_a_key_is_never_in_a_config(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    config = vf.ClientConfig(api_key_var="MY_KEY")
    assert config.api_key() == "sk-secret" and "sk-secret" not in repr(config)
    monkeypatch.delenv("MY_KEY")
    assert config.api_key() == "EMPTY"


def test_a_login_with_prime_serves_its_inference_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PRIME_API_KEY", raising=False)
    monkeypatch.delenv("PRIME_TEAM_ID", raising=False)
    file = tmp_path / ".prime/config.json"
    file.parent.mkdir()
    prime = vf.ClientConfig(api_key_var="PRIME_API_KEY", api_base_url="https://api.pinference.ai/api/v1")
    file.write_text('{"api_key": "pk", "team_id": "t", "base_url": "https://api.primeintellect.ai"}')
    assert prime.api_key() == "pk" and prime.headers() == {"X-Prime-Team-ID": "t"}
    elsewhere = vf.ClientConfig(api_key_var="PRIME_API_KEY", api_base_url="https://models.example.com/v1")
    assert elsewhere.api_key() == "EMPTY" and elsewhere.headers() == {}
    # The key of somebody's own Hub is not sent to Prime.
    file.write_text('{"api_key": "pk", "base_url": "https://hub.example.com"}')
    assert prime.api_key() == "EMPTY" and prime.headers() == {}


async def test_headers_tell_of_the_rollout(openai_server):
    wanted = {"X-Session-ID": "example_id", "X-Id": "trajectory_id", "X-Info": "info", "X-None": "reward"}
    config = vf.ClientConfig(api_base_url=openai_server.url, extra_headers_from_state=wanted)
    env = vf.SingleTurnEnv(dataset=[{"question": "q", "info": {"level": "né\n"}}], rubric=vf.Rubric())
    async with env:
        await env.evaluate(config, "m")
    headers = openai_server.requests[0]["headers"]
    assert headers["X-Session-Id"] == "0" and len(headers["X-Id"]) == 32
    assert headers["X-Info"] == '{"level": "n\\u00e9\\n"}' and "X-None" not in headers
    assert headers_from_state({"X-A": "a"}, {"a": "né\r\n100%"}) == {"X-A": "n%C3%A9%0D%0A100%25"}


@pytest.fixture
def second_server():
    server = OpenAIServer()
    yield server
    server.close()


class Thrice(vf.MultiTurnEnv):
    """Three turns."""

    async def env_response(self, messages, state, **kwargs):
        return "more"


async def test_groups_take_endpoints_in_turn_and_keep_them(openai_server, second_server):
    second_server.reply(message(block("ok")))
    first = {"api_base_url": openai_server.url}
    second = vf.ClientConfig(client_type="anthropic_messages", api_base_url=second_server.url)
    config = vf.ClientConfig(endpoint_configs=[first, second], client_idx=1, extra_headers={"X-All": "1"})
    env = Thrice(dataset=[{"question": f"q{n}"} for n in range(4)], rubric=vf.Rubric(), max_turns=3)
    await env.evaluate(config, "m", rollouts_per_example=2, max_concurrent=1)

    def questions(server):
        return [str(request["messages"][0]["content"]) for request in server.requests]

    assert [sum(f"q{n}" in text for text in questions(second_server)) for n in range(4)] == [6, 0, 6, 0]
    assert [sum(f"q{n}" in text for text in questions(openai_server)) for n in range(4)] == [0, 6, 0, 6]
    assert openai_server.requests[0]["headers"]["X-All"] == "1"


async def test_calls_outside_a_rollout_take_turns(openai_server, second_server):
    from openai_server import error

    second_server.reply(error(503, "busy", {"Retry-After": "0"}), text("two"))
    openai_server.reply(text("one"))
    both = [{"api_base_url": server.url} for server in (openai_server, second_server)]
    client = vf.as_client(vf.ClientConfig(endpoint_configs=both))
    said = [(await client.get_response("hi", "m")).message.content for _ in range(3)]
    assert said == ["one", "two", "one"] and client.retries == 1
    await client.close()


def test_every_event_loop_keeps_connections_of_its_own():
    client = vf.as_client(vf.ClientConfig(api_base_url="http://127.0.0.1:1/v1"))

    async def native():
        return client.native()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        first, second = one.run(native()), other.run(native())
        assert first is not second and one.run(native()) is first and other.run(native()) is second
        one.run(client.close())
        assert other.run(native()) is second and one.run(native()) is not first
        one.run(client.close())
        other.run(client.close())
