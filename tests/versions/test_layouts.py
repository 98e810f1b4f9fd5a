"""Projects fresh from `openenv init`, unmodified: built into an image, started and played, with and without a lock."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from prime_core.uv import uv_command, uv_environment
from tests.versions.conftest import VERSIONS, python_of
from tests.versions.test_commands import command, evaluate

PYPROJECT = """[project]
name = "fresh"
version = "0.1.0"
description = "A project of openenv init."
dependencies = ["verifiers>=0.1.100", "prime-sandboxes>=0.5.100"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build]
include = ["fresh.py", "pyproject.toml", "proj"]
"""
# The servers' episodes have no end of their own.
MODULE = """import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv


def render_prompt(observation, **kwargs):
    return [{"role": "user", "content": str(observation)}]


def load_environment():
    return OpenEnvEnv(openenv_project="./proj", prompt_renderer=render_prompt, num_eval_examples=10, max_turns=3)
"""


def initialized(version: str, locked: bool, work: Path) -> Path:
    """What `openenv init` of a version writes; it locks where it finds uv."""
    programs = python_of(version).parent
    path = [str(programs)]
    if locked:
        (work / "bin").mkdir()
        (work / "bin" / "uv").symlink_to(uv_command()[0])
        path.append(str(work / "bin"))
    env = {**uv_environment(), "PATH": os.pathsep.join(path), "UV_PYTHON": str(python_of(version))}
    made = subprocess.run(
        [str(programs / "openenv"), "init", "my_env"], cwd=work, env=env, capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert (work / "my_env" / "uv.lock").exists() == locked, made.stdout
    return work / "my_env"


@pytest.mark.parametrize(
    ("version", "locked"), [*((version, False) for version in VERSIONS), ("0.3.0", True), ("0.10.0", True)]
)
def test_a_fresh_project_is_built_and_played(module_hub, tmp_path, version, locked):
    work = tmp_path / "init"
    work.mkdir()
    folder = tmp_path / "environments" / "fresh"
    shutil.copytree(initialized(version, locked, work), folder / "proj")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "fresh.py").write_text(MODULE)
    built = command(module_hub, tmp_path, "vf-build", "fresh")
    assert "Healthy after" in built and "contract gym" in built
    rows = evaluate(module_hub, tmp_path, "fresh", "random")
    assert {row["metrics"]["num_turns"] for row in rows} == {3.0}
    assert len({row["reward"] for row in rows}) >= 3
