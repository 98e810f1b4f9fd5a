"""`prime eval run`: the evaluation of the interpreter in which the environment is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = """\
import sys

import verifiers as vf


def load_environment(word="same"):
    async def echoes(completion, answer):
        return float(completion[-1]["content"] == answer)

    rows = [{"question": f"{word} {number}", "answer": f"{word} {number}"} for number in range(10)]
    print("interpreter", sys.executable, file=sys.stderr)
    return vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[echoes]))
"""

PYPROJECT = """\
[project]
name = "echo-env"
description = "Say it again."
version = "0.1.0"
dependencies = []

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build]
include = ["echo_env.py", "pyproject.toml"]
"""


@pytest.fixture
def folder(prime) -> Path:
    path = prime.cwd / "environments" / "echo_env"
    path.mkdir(parents=True)
    (path / "echo_env.py").write_text(ENVIRONMENT)
    (path / "pyproject.toml").write_text(PYPROJECT)
    (path / "README.md").write_text("# echo-env\n")
    return path


@pytest.fixture
def other_venv(tmp_path) -> Path:
    """Another virtual environment of the same Python, in which our packages can be imported."""
    venv = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, venv], check=True)
    site = next((venv / "lib").glob("python*/site-packages"))
    paths = [path for path in sys.path if path.endswith(("site-packages", "/packages")) or "/packages/" in path]
    (site / "ours.pth").write_text("\n".join([*paths, *packages()]) + "\n")
    return venv


def packages() -> list[str]:
    import prime_core
    import prime_evals
    import verifiers

    return [str(Path(module.__file__).parents[1]) for module in (prime_core, prime_evals, verifiers)]


def test_help_is_the_evaluations_own(prime):
    text = prime.ok("eval", "run", "--help")
    assert text.startswith("usage: prime eval run ")
    assert "--num-examples" in text
    # It needs no interpreter with verifiers in it.
    assert prime.ok("eval", "run", "-h", VIRTUAL_ENV=sys.base_prefix) == text


def test_in_the_own_interpreter(prime, folder):
    done = prime("eval", "run", "echo-env", "-m", "baseline/echo", "-n", "3", "-o", "results", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["avg_reward"] == 1.0
    assert f"interpreter {sys.executable}" in done.stderr
    assert list((prime.cwd / "results").rglob("results.jsonl"))


@pytest.mark.parametrize("named", ["VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "--python", ".venv"])
def test_in_another_interpreter(prime, folder, other_venv, named):
    args, env = [], {}
    if named == "--python":
        args = ["--python", str(other_venv / "bin" / "python")]
    elif named == ".venv":
        (prime.cwd / ".venv").symlink_to(other_venv)
    else:
        env[named] = str(other_venv)
    done = prime("eval", "run", "echo-env", "-m", "baseline/echo", "-n", "2", "--no-save", *args, **env)
    assert done.returncode == 0, done.stderr
    where = prime.cwd / ".venv" if named == ".venv" else other_venv
    assert f"interpreter {where / 'bin' / 'python'}" in done.stderr


def test_arguments_reach_the_evaluation_as_written(prime, folder, other_venv):
    args = ("eval", "run", "echo-env", "-m", "baseline/echo", "-n1", "--env-args", '{"word": "a b"}', "--no-save")
    for env in ({}, {"VIRTUAL_ENV": str(other_venv)}):
        done = prime(*args, "--output=json", **env)
        assert done.returncode == 0, done.stderr
        data = json.loads(done.stdout)
        assert (data["env_args"], data["num_examples"]) == ({"word": "a b"}, 1)


def test_exit_codes_and_errors_are_the_evaluations_own(prime, other_venv):
    for env in ({}, {"VIRTUAL_ENV": str(other_venv)}):
        assert "is not installed" in prime.fails("eval", "run", "nothing-there", "-m", "baseline/echo", **env)
        assert prime.fails("eval", "run", "echo-env", "--nope", code=2, **env).startswith(
            "Error: There is no option --nope"
        )


def test_an_interpreter_without_verifiers_is_a_sentence(prime, tmp_path):
    venv = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    error = prime.fails("eval", "run", "echo-env", VIRTUAL_ENV=str(venv))
    assert error.startswith(f"Error: verifiers is not installed for {venv / 'bin' / 'python'}")
    assert "prime env install" in error
    # A folder of that name in the working directory is not the library.
    trap = prime.cwd / "verifiers"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('taken in')\n")
    assert "verifiers is not installed" in prime.fails("eval", "run", "echo-env", VIRTUAL_ENV=str(venv))


def test_another_verifiers_is_a_sentence(prime, tmp_path):
    venv = tmp_path / "official"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    package = next((venv / "lib").glob("python*/site-packages")) / "verifiers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    error = prime.fails("eval", "run", "echo-env", VIRTUAL_ENV=str(venv))
    assert error.startswith(f"Error: The verifiers that is installed for {venv / 'bin' / 'python'} has no evaluation")


def test_an_interpreter_that_is_not_there_is_a_sentence(prime):
    error = prime.fails("eval", "run", "echo-env", "--python", "nowhere/bin/python")
    assert "nowhere/bin/python" in error


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("prime eval run ec", ["echo-env"]),
        ("prime eval run echo-env --max-t", ["--max-tokens", "--max-tokens-total"]),
        ("prime eval run echo-env -m baseline/e", ["baseline/echo"]),
        ("prime eval run echo-env -p open", ["openai", "openrouter"]),
        ("prime eval run eva", ["evals.toml"]),
    ],
)
def test_a_shell_completes(prime, folder, line, proposed):
    (prime.cwd / "evals.toml").write_text("")
    words = line.split(" ")
    done = prime(_PRIME_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert done.stdout.split() == proposed, done.stderr
