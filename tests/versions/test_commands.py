"""The examples by the project's own commands: built into an image, played in sandboxes, on the version that they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.versions.conftest import ENVIRONMENTS


def command(hub: RunningHub, work: Path, name: str, *arguments: str) -> str:
    program = Path(sys.executable).parent / name
    done = subprocess.run(
        [str(program), *arguments], cwd=work, env=hub.environment(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def evaluate(hub: RunningHub, work: Path, name: str, policy: str, *more: str) -> list[dict]:
    command(
        hub, work, "prime", "eval", "run", name, "-m", f"baseline/{policy}", "-n", "10", "-r", "2", "-o", "out", *more
    )
    (results,) = (work / "out").rglob("results.jsonl")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    shutil.rmtree(work / "out")
    assert len(rows) == 20 and all(row["error"] is None for row in rows)
    return rows


def copied(name: str, work: Path) -> Path:
    folder = work / "environments" / name
    ignored = shutil.ignore_patterns(".build.json", ".prime", "outputs", "__pycache__")
    shutil.copytree(ENVIRONMENTS / name, folder, ignore=ignored)
    return folder


@pytest.mark.parametrize(
    ("name", "contract", "low", "high"),
    [
        ("openenv_textarena", "gym", 0.25, 0.7),
        ("openenv_reservoir", "gym", 0.45, 0.7),
        ("openenv_manor", "mcp", 0.0, 0.4),
    ],
)
def test_built_and_played(module_hub, tmp_path, name, contract, low, high):
    copied(name, tmp_path)
    built = command(module_hub, tmp_path, "vf-build", name.replace("_", "-"))
    assert f"contract {contract}" in built
    rewards = [row["reward"] for row in evaluate(module_hub, tmp_path, name.replace("_", "-"), "random")]
    assert low <= sum(rewards) / 20 <= high and len(set(rewards)) >= 3


def test_an_argument_reaches_a_prebuilt_image(module_hub, tmp_path):
    copied("openenv_textarena", tmp_path)
    command(module_hub, tmp_path, "vf-build", "openenv-textarena")
    (tmp_path / "words.txt").write_text("kite\nlamp\noven\n")
    given = json.dumps({"game": "Wordle-v0", "words": "words.txt"})
    rows = evaluate(module_hub, tmp_path, "openenv-textarena", "random", "-a", given)
    assert all("A secret 4-letter word" in row["prompt"][1]["content"] for row in rows)


@pytest.mark.parametrize("requirement", ["openenv-core==0.3.0", "openenv==0.10.0"])
def test_echo_on_another_version_by_one_line(module_hub, tmp_path, requirement):
    requirements = copied("openenv_echo", tmp_path) / "proj" / "server" / "requirements.txt"
    text, changed = re.subn(r"^openenv-core==.*$", requirement, requirements.read_text(), flags=re.MULTILINE)
    assert changed == 1
    requirements.write_text(text)
    assert "contract mcp" in command(module_hub, tmp_path, "vf-build", "openenv-echo")
    rows = evaluate(module_hub, tmp_path, "openenv-echo", "echo")
    assert all(row["reward"] == pytest.approx(1.0) for row in rows)
