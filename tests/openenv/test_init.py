"""vf-init: what it writes runs and scores as generated."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from prime_core.metadata import check_environment
from prime_core.project import default_start_command, detect_contract, read_project
from verifiers.cli.init import create_environment, main
from verifiers.evaluation.policies import RandomPolicy
from verifiers.loading import load_environment


def imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generated module, as an import from its folder finds it."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, folder.name, raising=False)
    return importlib.import_module(folder.name)


@pytest.mark.parametrize("multi_file", [False, True])
async def test_a_standard_environment_scores(tmp_path, monkeypatch, multi_file):
    name = f"sums-{multi_file}".lower()
    folder = create_environment(name, tmp_path, multi_file=multi_file)
    metadata = check_environment(folder)
    assert metadata.name == name and metadata.version == "0.1.0"
    assert metadata.eval_defaults == {"num_examples": 5, "rollouts_per_example": 3}
    env = imported(folder, monkeypatch).load_environment(num_eval_examples=2)
    row = env.get_eval_dataset()[0]

    class Adder(RandomPolicy):
        def answer(self, prompt, tools, action_schema, rng):
            from verifiers import AssistantMessage

            a, b = (int(part) for part in prompt[-1]["content"].removeprefix("What is ").rstrip("?").split(" + "))
            return AssistantMessage(f"I think {a + b}")

    for policy, reward in ((Adder(), 1.0), (RandomPolicy(), 0.0)):
        state = await env.rollout(row, policy, "scripted")
        await env.score([state])
        assert state["error"] is None and state["reward"] == reward


@pytest.mark.parametrize("multi_file", [False, True])
async def test_an_openenv_environment_plays(tmp_path, monkeypatch, multi_file, serve):
    name = f"guess-{multi_file}".lower()
    folder = create_environment(name, tmp_path, openenv=True, multi_file=multi_file)
    check_environment(folder)
    project = read_project(folder / "proj")
    assert detect_contract(project) == "gym"
    assert default_start_command(project) == "uvicorn server:app --host 0.0.0.0 --port 8000"
    manifest = {"image": f"{name}:latest", "port": 8000, "start_command": "x", "contract": "gym"}
    (folder / "proj" / ".build.json").write_text(json.dumps(manifest))
    source = serve("counter")
    (source.folder / "server.py").write_text((folder / "proj" / "server.py").read_text())
    child = source.spawn()
    module = imported(folder, monkeypatch)
    env = module.load_environment(server_url=child.url)
    assert env.openenv_project == folder / "proj"

    class Halving(RandomPolicy):
        def answer(self, prompt, tools, action_schema, rng):
            from verifiers import AssistantMessage

            low, high = 1, 100
            for message in prompt[2:]:
                guess = (low + high) // 2
                if message["role"] == "user":
                    low, high = (guess + 1, high) if message["content"].startswith("Higher") else (low, guess - 1)
            return AssistantMessage(json.dumps({"guess": (low + high) // 2}))

    for policy, right in ((Halving(), True), (RandomPolicy(), False)):
        rewards = []
        for row in env.get_eval_dataset(3):
            state = await env.rollout(row, policy, "scripted")
            await env.score([state])
            assert state["error"] is None and state["metrics"]["openenv_action_errors"] == 0
            assert state["stop_condition"] == "openenv_done"
            rewards.append(state["reward"])
        if right:
            assert rewards == [1.0, 1.0, 1.0]
        else:  # nobody who tries gets nothing, and those who are nearer get more
            assert all(0 < reward <= 1 for reward in rewards) and len(set(rewards)) > 1
    await env._teardown()
    with pytest.raises(RuntimeError, match=r"load_environment\(\) got an unexpected keyword argument 'nosuch'$"):
        load_environment(folder.name, nosuch=1)


def test_existing_files_are_left_alone(tmp_path, capsys):
    assert main(["my-env", "-p", str(tmp_path)]) == 0
    readme = tmp_path / "my_env" / "README.md"
    readme.write_text("mine")
    capsys.readouterr()
    assert main(["my-env", "-p", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert f"README.md already exists at {readme}, skipping..." in out and len(out) == 4
    assert readme.read_text() == "mine"
    assert main(["my-env", "-p", str(tmp_path), "--rewrite-readme"]) == 0
    assert readme.read_text().startswith("# my-env")


def test_a_name_that_cannot_be_one(tmp_path, capsys):
    assert main(["../evil", "-p", str(tmp_path)]) == 1
    assert "'../evil' cannot be an environment's name." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--openenv"], ["--multi-file"], ["--openenv", "--multi-file"]])
def test_what_is_generated_is_clean(tmp_path, options):
    assert main(["my-env", "-p", str(tmp_path), *options]) == 0
    for command in (
        ["check", "--isolated", "--select", "E,F,I,B,UP", "--line-length", "120"],
        ["format", "--check", "--isolated", "--line-length", "120"],
    ):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ruff"), *command, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "__NAME__" in path.read_text()]
