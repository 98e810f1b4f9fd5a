"""A working folder with an environment of words, and the real vf-eval on it as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = """
import verifiers as vf

def right(completion, answer):
    return float(completion[-1]["content"] == answer)

class Words(vf.SingleTurnEnv):
    @vf.teardown
    async def say(self):
        print("torn down", flush=True)

def load_environment(count=8, broken=False):
    if broken:
        raise KeyError("words.txt")
    rows = [{"question": f"word{n}", "answer": f"word{n}", "info": {"seed": n}} for n in range(count)]
    return Words(dataset=rows, rubric=vf.Rubric(funcs=[right]))
"""
PROJECT = """
[project]
name = "my-words"
version = "0.1.0"
[tool.verifiers.eval]
num_examples = 4
rollouts_per_example = 2
"""
ECHO = "baseline/echo"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory with a local environment that is not installed."""
    folder = tmp_path / "environments" / "my_words"
    folder.mkdir(parents=True)
    (folder / "my_words.py").write_text(ENVIRONMENT)
    (folder / "pyproject.toml").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def command(work: Path):
    def run(*args: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "verifiers.cli.eval", *args],
            cwd=work,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def folder_of(work: Path, base: str = "environments/my_words/outputs", model: str = "baseline--echo") -> Path:
    (folder,) = (work / base / "evals" / f"my-words--{model}").iterdir()
    return folder
