"""From a model's name to an endpoint."""

import re

import pytest

import verifiers as vf
from verifiers.evaluation.models import ModelNotResolved, provider_config, resolve_model
from verifiers.evaluation.policies import EchoPolicy, FirstPolicy, RandomPolicy

KEY = {"OPENAI_API_KEY": "sk"}


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "configs").mkdir()
    file = tmp_path / "configs/endpoints.toml"
    file.write_text(
        """
        [[endpoint]]
        endpoint_id = "mine"
        model = "qwen/qwen3"
        url = "http://localhost:9000/v1"
        key = "MINE_KEY"
        headers = { "X-A" = "1" }

        [[endpoint]]
        endpoint_id = "far"
        model = "big"
        api_base_url = "https://models.example.com/v1"
        api_key_var = "FAR_KEY"

        [[endpoint]]
        endpoint_id = "twice"
        model = "a"
        url = "http://localhost:1/v1"
        key = "K"

        [[endpoint]]
        endpoint_id = "twice"
        model = "b"
        url = "http://localhost:2/v1"
        key = "K"
        """
    )
    return file


@pytest.mark.parametrize("name", ["gpt-4.1-mini", "openai/gpt-4.1-mini"])
def test_the_openai_api_by_its_key_alone(name):
    found = resolve_model(name, environ=KEY)
    assert (found.model, found.base_url) == ("gpt-4.1-mini", "https://api.openai.com/v1")
    assert found.client.api_key_var == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ({"base_url": "http://127.0.0.1:8000/v1"}, {}),
        ({}, {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}),
        ({"base_url": "http://127.0.0.1:8000/v1"}, {"OPENAI_BASE_URL": "https://other.example.com"}),
    ],
)
def test_any_openai_compatible_server_gets_the_name_as_it_is(options, environ):
    found = resolve_model("openai/gpt-oss", environ=environ, **options)
    assert (found.model, found.base_url) == ("openai/gpt-oss", "http://127.0.0.1:8000/v1")
    assert found.client.api_base_url == found.base_url


def test_baselines_need_nothing():
    assert isinstance(resolve_model("baseline/random", environ={}).client, RandomPolicy)
    assert isinstance(resolve_model("baseline/echo", environ={}).client, EchoPolicy)
    assert isinstance(resolve_model("baseline/first", environ={}).client, FirstPolicy)


ALL = "There are baseline/random, baseline/first, baseline/echo and baseline/replay:FILE."


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("baseline/zzz", f"There is no policy 'baseline/zzz'. {ALL}"),
        ("baseline/randm", f"There is no policy 'baseline/randm'. Did you mean baseline/random? {ALL}"),
        ("baseline/reply:x", f"There is no policy 'baseline/reply:x'. Did you mean baseline/replay? {ALL}"),
        (
            "baseline/replay",
            "baseline/replay needs what to replay, the results of a run: -m baseline/replay:FILE.",
        ),
        (
            "baseline/replay:nowhere.jsonl",
            "There is no recording nowhere.jsonl: give results.jsonl of a run, or the run's folder.",
        ),
    ],
)
def test_a_baseline_that_is_none(name, sentence):
    with pytest.raises(ModelNotResolved) as raised:
        resolve_model(name, environ={})
    assert str(raised.value) == sentence


def test_a_replay_is_named_after_its_file_and_content(tmp_path):
    file = tmp_path / "my moves.jsonl"
    file.write_text('{"seed": 1, "actions": []}\n')
    found = resolve_model(f"baseline/replay:{file}", environ={})
    assert re.fullmatch(r"baseline/replay:my-moves-[0-9a-f]{8}", found.model) and found.recording == str(file)
    file.write_text('{"seed": 1, "actions": ["x"]}\n')
    assert resolve_model(f"baseline/replay:{file}", environ={}).model != found.model


def test_nothing_found_says_the_ways_out():
    with pytest.raises(ModelNotResolved) as raised:
        resolve_model("gpt-4.1-mini", environ={})
    sentence = str(raised.value)
    assert sentence.startswith("No endpoint for the model 'gpt-4.1-mini': set OPENAI_API_KEY, ")
    for way in ("-p,", "-b URL", "OPENAI_BASE_URL", "./configs/endpoints.toml", "-m baseline/random"):
        assert way in sentence
    with pytest.raises(ModelNotResolved, match="'anthropic/claude' is not one of OpenAI's: name the provider"):
        resolve_model("anthropic/claude", environ=KEY)


def test_the_registry_comes_first(registry):
    found = resolve_model("mine", environ=KEY, headers={"X-B": "2"})
    assert (found.model, found.base_url) == ("qwen/qwen3", "http://localhost:9000/v1")
    assert found.client.api_key_var == "MINE_KEY" and found.client.extra_headers == {"X-A": "1", "X-B": "2"}
    with pytest.raises(
        ModelNotResolved, match=r"The environment variable FAR_KEY with the key for models.example.com is not set"
    ):
        resolve_model("far", environ=KEY)
    assert resolve_model("far", environ={"FAR_KEY": "k"}).client.api_key_var == "FAR_KEY"
    assert resolve_model("far", base_url="http://localhost:1/v1", api_key_var="K", environ={}).model == "far"
    with pytest.raises(ModelNotResolved, match="'twice' stands 2 times in the registry, with the models a and b"):
        resolve_model("twice", environ=KEY)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[endpoint", "cannot be read"),
        ('[[endpoint]]\nendpoint_id = "x"', "number 1 of .* needs a string `model`"),
        (
            '[[endpoint]]\nendpoint_id="x"\nmodel="m"\nurl="u"\nkey="k"\ntype="renderer"',
            r"number 1 of .*: Unsupported client type: 'renderer': it renders prompts into tokens on this side",
        ),
    ],
)
def test_a_broken_registry_is_named(registry, text, sentence):
    registry.write_text(text)
    with pytest.raises(ModelNotResolved, match=sentence):
        resolve_model("mine", environ=KEY)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('endpoint = ["a"]', r"number 1 of .*endpoints\.toml must be a table, not 'a'\.$"),
        (
            '[[endpoint]]\nendpoint_id="a"\nmodel="m"\nurl="http://h/v1"\nkey="K"\nheaders="x"',
            "`headers` must be a table",
        ),
    ],
)
def test_a_broken_registry_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "endpoints.toml").write_text(text)
    with pytest.raises(ModelNotResolved, match=sentence):
        resolve_model("a", endpoints_path=tmp_path / "endpoints.toml", environ=KEY)


def test_a_misspelt_table_of_the_registry_is_named(tmp_path):
    (tmp_path / "endpoints.toml").write_text('[[endpoints]]\nendpoint_id = "q"\n')
    with pytest.raises(
        ModelNotResolved, match=r"endpoints.toml has \[\[endpoints\]\], meant is perhaps \[\[endpoint\]\]\."
    ):
        resolve_model("q", endpoints_path=tmp_path, environ=KEY)


def test_every_field_of_the_registry(tmp_path):
    (tmp_path / "endpoints.toml").write_text(
        """
        [[endpoint]]
        endpoint_id = "claude"
        model = "claude-x"
        api_base_url = "https://models.example.com"
        api_key_var = "K"
        api_client_type = "anthropic_messages"
        headers = { A = "1", B = "1" }
        extra_headers = { B = "2" }
        headers_from_state = { X = "example_id" }
        extra_headers_from_state = { Y = "trajectory_id" }
        timeout = 20
        connect_timeout = 2.5
        max_retries = 4
        max_connections = 7
        max_keepalive_connections = 6
        input_price = 3
        output_price = 15.0
        cached_input_price = 0.3
        """
    )
    config = resolve_model("claude", endpoints_path=tmp_path, headers={"C": "3"}, environ={"K": "k"}).client
    assert config == vf.ClientConfig(
        client_type="anthropic_messages",
        api_base_url="https://models.example.com",
        api_key_var="K",
        extra_headers={"A": "1", "B": "2", "C": "3"},
        extra_headers_from_state={"X": "example_id", "Y": "trajectory_id"},
        timeout=20,
        connect_timeout=2.5,
        max_retries=4,
        max_connections=7,
        max_keepalive_connections=6,
        prices=vf.Prices(3, 15.0, 0.3),
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("input_prize = 3", r"number 1 of .* has an unknown field `input_prize`, meant is perhaps `input_price`\.$"),
        ("colour = 3", r"has an unknown field `colour`"),
        ('api_key_var = "K2"', r"gives `api_key_var` twice, in two spellings"),
        ("input_price = 3", r"has `input_price` and no `output_price`: a cost needs both \(USD per million tokens\)"),
        ("output_price = 3", r"has `output_price` and no `input_price`"),
        ("input_price = -1\noutput_price = 1", r"`input_price` must be a number, 0 or more, not -1"),
        ("timeout = true", r"`timeout` must be a number, 0 or more, not True"),
        ("max_retries = 1.5", r"`max_retries` must be a whole number, 0 or more, not 1\.5"),
        ("headers_from_state = { X = 1 }", r"`headers_from_state` must be a table of strings"),
        (
            'type = "carrier_pigeon"',
            r"Unsupported client type: 'carrier_pigeon'\. Use one of openai_chat_completions, ",
        ),
    ],
)
def test_a_wrong_field_is_a_sentence(tmp_path, line, sentence):
    (tmp_path / "endpoints.toml").write_text(
        f'[[endpoint]]\nendpoint_id="a"\nmodel="m"\nurl="http://h/v1"\nkey="K"\n{line}\n'
    )
    with pytest.raises(ModelNotResolved, match=sentence):
        resolve_model("a", endpoints_path=tmp_path, environ={"K": "k"})


def test_variants_are_taken_in_turn(tmp_path):
    table = '[[endpoint]]\nendpoint_id = "q"\nmodel = "qwen"\nurl = "http://localhost:{}/v1"\nkey = "K{}"\n'
    (tmp_path / "endpoints.toml").write_text(table.format(1, 1) + 'type = "openai_responses"\n' + table.format(2, 2))
    found = resolve_model("q", endpoints_path=tmp_path, environ={})
    assert (found.model, found.base_url) == ("qwen", "http://localhost:1/v1, http://localhost:2/v1")
    kinds = [type(client) for client in vf.as_client(found.client).clients]
    assert kinds == [vf.OpenAIResponsesClient, vf.OpenAIChatCompletionsClient]
    assert [variant.api_key_var for variant in found.client.variants()] == ["K1", "K2"]
    one = resolve_model("q", base_url="http://localhost:3/v1", endpoints_path=tmp_path, environ={})
    assert one.base_url == "http://localhost:3/v1" and one.client.endpoint_configs == []


@pytest.mark.parametrize(
    ("provider", "url", "key", "client_type"),
    [
        ("prime", "https://api.pinference.ai/api/v1", "PRIME_API_KEY", "openai_chat_completions"),
        ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openai_chat_completions"),
        ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "openai_chat_completions"),
        ("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "anthropic_messages"),
        ("minimax", "https://api.minimax.io/v1", "MINIMAX_API_KEY", "openai_chat_completions"),
        ("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "openai_chat_completions"),
        ("glm", "https://api.z.ai/api/paas/v4", "GLM_API_KEY", "openai_chat_completions"),
        ("local", "http://localhost:8000/v1", "VLLM_API_KEY", "openai_chat_completions"),
        ("vllm", "http://localhost:8000/v1", "VLLM_API_KEY", "openai_chat_completions"),
    ],
)
def test_providers_by_name(monkeypatch, tmp_path, provider, url, key, client_type):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = provider_config(provider)
    assert (config.api_base_url, config.api_key_var, config.client_type) == (url, key, client_type)
    found = resolve_model(f"{provider}/m", provider=provider, environ={key: "k"})
    own = provider not in ("prime", "openrouter", "local", "vllm")
    assert (found.model, found.base_url) == ("m" if own else f"{provider}/m", url)
    if provider not in ("local", "vllm"):
        with pytest.raises(ModelNotResolved, match=f"The environment variable {key} with the key for .* is not set"):
            resolve_model("m", provider=provider, environ={})


def test_prime_takes_the_key_of_a_login(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".prime").mkdir()
    (tmp_path / ".prime/config.json").write_text('{"api_key": "pk", "base_url": "https://api.primeintellect.ai"}')
    assert resolve_model("qwen/qwen3", provider="prime", environ={}).model == "qwen/qwen3"


def test_what_is_given_lies_over_the_registry_in_order(registry):
    environ = {"DEEPSEEK_API_KEY": "k", "MINE": "k"}
    found = resolve_model("mine", provider="deepseek", environ=environ)
    assert (found.model, found.base_url) == ("qwen/qwen3", "https://api.deepseek.com/v1")
    assert found.client.api_key_var == "DEEPSEEK_API_KEY" and found.client.extra_headers == {"X-A": "1"}
    found = resolve_model("mine", provider="deepseek", base_url="https://b.example.com", environ=environ)
    assert found.base_url == "https://b.example.com" and found.client.api_key_var == "DEEPSEEK_API_KEY"
    found = resolve_model(
        "mine", provider="anthropic", api_key_var="MINE", client_type="openai_responses", environ=environ
    )
    assert found.base_url == "https://api.anthropic.com/v1" and found.client.client_type == "openai_responses"
    with pytest.raises(ModelNotResolved, match="There is no provider 'acme'; there are prime, openrouter, openai,"):
        resolve_model("mine", provider="acme", environ={})


def test_another_api_by_its_type(monkeypatch):
    found = resolve_model("anthropic/claude-x", client_type="anthropic_messages", environ={"ANTHROPIC_API_KEY": "k"})
    assert (found.model, found.base_url) == ("claude-x", "https://api.anthropic.com")
    assert found.client.api_key_var == "ANTHROPIC_API_KEY"
    with pytest.raises(ModelNotResolved, match="set ANTHROPIC_API_KEY"):
        resolve_model("claude-x", client_type="anthropic_messages", environ=KEY)
    found = resolve_model("m", base_url="http://localhost:1", client_type="openai_completions", environ={})
    assert found.client.client_type == "openai_completions"
    with pytest.raises(ModelNotResolved, match=r"^--api-client-type: Unsupported client type: 'renderer'"):
        resolve_model("m", base_url="http://localhost:1", client_type="renderer", environ={})
    monkeypatch.setattr("verifiers.evaluation.models.find_spec", lambda name: None)
    with pytest.raises(ModelNotResolved, match=r"needs the anthropic package, .*: uv pip install 'anthropic>=2,<3'$"):
        resolve_model("m", provider="anthropic", environ={"ANTHROPIC_API_KEY": "k"})


def test_headers_from_the_state_have_a_default(registry):
    default = {"X-Session-ID": "example_id"}
    assert resolve_model("mine", environ={}).client.extra_headers_from_state == default
    own = {"X-T": "trajectory_id"}
    assert resolve_model("mine", headers_from_state=own, environ={}).client.extra_headers_from_state == own


def test_what_is_written_down_of_an_address_holds_no_key():
    found = resolve_model("m", base_url="http://me:secret@localhost:9000/v1?key=secret", environ={})
    assert found.base_url == "http://localhost:9000/v1" and "secret" in found.client.api_base_url


@pytest.mark.parametrize(
    "url", ["notaurl", "localhost:8000/v1", "http://", "ftp://h/v1", "http://h:port/v1", "http://["]
)
def test_an_address_that_is_none(url, tmp_path):
    sentence = " must be an address such as http://localhost:8000/v1, not "
    with pytest.raises(ModelNotResolved, match=f"^-b{sentence}"):
        resolve_model("m", base_url=url, environ={})
    with pytest.raises(ModelNotResolved, match=f"^OPENAI_BASE_URL{sentence}"):
        resolve_model("m", environ={"OPENAI_BASE_URL": url})
    with pytest.raises(ModelNotResolved, match=r"not 'h/v1'\.$"):
        resolve_model("m", base_url="me:secret@h/v1?key=secret", environ={})
    (tmp_path / "endpoints.toml").write_text(
        f'[[endpoint]]\nendpoint_id = "a"\nmodel = "a"\nurl = "{url}"\nkey = "K"\n'
    )
    with pytest.raises(ModelNotResolved, match=r"The `url` of \[\[endpoint\]\] number 1 of .* must be an address"):
        resolve_model("a", endpoints_path=tmp_path, environ={})
