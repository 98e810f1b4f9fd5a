"""Finding and loading environments, and the example that needs no server."""

import sys
from pathlib import Path

import pytest

import verifiers as vf
from verifiers.evaluation.policies import EchoPolicy, Policy
from verifiers.loading import environment_name, environment_version, eval_defaults, make_importable, module_name

EXAMPLES = Path(__file__).resolve().parents[2] / "environments"


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A folder of environments; what a test imports from it is forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith("verifiers."):  # the library is lazy; a second copy of its classes would be others
            del sys.modules[name]


def write(base, name, code, project="", package=False):
    folder = base / name
    (folder / name if package else folder).mkdir(parents=True)
    (folder / name / "__init__.py" if package else folder / f"{name}.py").write_text(code)
    if project:
        (folder / "pyproject.toml").write_text(project)


def test_names():
    assert module_name("owner/my-env@0.1.0") == module_name("my.env") == "my_env"
    assert environment_name("owner/My_env@0.1.0") == "my-env"


@pytest.mark.parametrize("package", [False, True])
def test_a_local_environment_is_found_with_its_version_and_defaults(base, package):
    body = "return vf.SingleTurnEnv(dataset=[{'question': 'q'}] * n)"
    code = f"import verifiers as vf\ndef load_environment(n=1):\n    {body}\n"
    project = '[project]\nname = "local-env"\nversion = "0.3.1"\n[tool.verifiers.eval]\nnum_examples = 7\n'
    write(base, "local_env", code, project, package)
    assert not make_importable("other-env", base) and make_importable("local-env", base)
    env = vf.load_environment("local-env", n=3)
    assert env.env_id == "local-env" and env.env_args == {"n": 3} and len(env.get_dataset()) == 3
    assert environment_version("local-env") == "0.3.1"
    defaults = eval_defaults("local-env")
    assert (defaults.num_examples, defaults.rollouts_per_example) == (7, 3)


def test_a_stray_project_file_is_not_the_environments(base):
    write(
        base,
        "stray_env",
        "",
        '[project]\nname = "something-else"\nversion = "9"\n[tool.verifiers.eval]\nnum_examples = 7\n',
    )
    make_importable("stray-env", base)
    assert environment_version("stray-env") is None and eval_defaults("stray-env").num_examples == 5


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        (
            "import not_there_at_all",
            ValueError,
            r"^Could not import 'bad-env' environment: No module named 'not_there_at_all'\. "
            r"Install what it depends on: prime env install bad-env$",
        ),
        (
            "raise ModuleNotFoundError('No module named datasets', name='datasets')",
            ValueError,
            r"datasets\. It comes with the extra verifiers\[datasets\]: let the environment's pyproject\.toml require "
            r"that, and run 'prime env install bad-env'\.$",
        ),
        (
            "def load_environment(): import not_there_at_all",
            RuntimeError,
            r"No module named 'not_there_at_all'\. Install what it depends on: prime env install bad-env$",
        ),
        ("1 / 0", RuntimeError, r"^Failed to load environment 'bad-env': division by zero$"),
        ("", RuntimeError, r"has no load_environment function\.$"),
        (
            "def load_environment(): pass",
            RuntimeError,
            r"its load_environment returned NoneType, not an environment\.$",
        ),
        ("def load_environment(): raise KeyError('x')", RuntimeError, r"^Failed to load environment 'bad-env': 'x'$"),
    ],
)
def test_what_cannot_be_loaded_says_why(base, code, kind, sentence):
    write(base, "bad_env", code)
    make_importable("bad-env", base)
    with pytest.raises(kind, match=sentence):
        vf.load_environment("bad-env")


def test_what_is_not_installed():
    sentence = "^Could not import 'no-env' environment. Ensure the package for the 'no-env' environment is installed.$"
    with pytest.raises(ValueError, match=sentence):
        vf.load_environment("no-env")


def test_missing_keys_keep_their_type(base, monkeypatch):
    write(
        base,
        "key_env",
        "import verifiers as vf\ndef load_environment():\n    vf.ensure_keys(['AN_UNSET_KEY', 'HOME'])\n",
    )
    make_importable("key-env", base)
    with pytest.raises(vf.MissingKeyError, match=r"^Missing environment variables: AN_UNSET_KEY\. Set them") as raised:
        vf.load_environment("key-env")
    assert raised.value.keys == ["AN_UNSET_KEY"]


class Reverser(Policy):
    """Does what reverse-text asks."""

    def answer(self, prompt, tools, action_schema, rng):
        return vf.AssistantMessage(f"<reversed>{prompt[-1]['content'][::-1]}</reversed>")


def test_reverse_text_rewards_reversing(base):
    assert make_importable("reverse-text", EXAMPLES)
    env = vf.load_environment("reverse-text", num_train_examples=30, num_eval_examples=10)
    assert len(env.get_dataset()) == 30 and len(env.get_eval_dataset()) == 10
    train, held_out = set(env.get_dataset()["question"]), set(env.get_eval_dataset()["question"])
    assert not train & held_out and len(train) == 30
    perfect = env.evaluate_sync(Reverser(), "m")["metadata"]
    assert perfect["avg_reward"] == 1.0 and perfect["avg_metrics"]["exact"] == perfect["avg_metrics"]["has_tags"] == 1.0
    forwards = env.evaluate_sync(EchoPolicy(), "m")["metadata"]
    assert 0 < forwards["avg_reward"] < 0.6 and forwards["avg_metrics"]["exact"] == 0.0


def test_reverse_text_says_what_it_cannot_do(base):
    make_importable("reverse-text", EXAMPLES)
    with pytest.raises(RuntimeError, match="min_words"):
        vf.load_environment("reverse-text", min_words=4, max_words=3)
    with pytest.raises(RuntimeError, match="There are fewer than"):
        vf.load_environment("reverse-text", num_train_examples=500, min_words=1, max_words=1)
