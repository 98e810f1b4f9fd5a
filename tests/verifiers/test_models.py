"""From a model's name to an endpoint."""

import re

import pytest

from verifiers.evaluation.models import ModelNotResolved, resolve_model
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
