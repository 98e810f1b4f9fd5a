"""docs/evaluating.md does what it says: its commands, its file, its options, its fields, its exit codes."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.eval_world import ENVIRONMENT
from tests.support.pages import blocks
from verifiers.cli import eval_file
from verifiers.cli.eval import LIMIT_REACHED
from verifiers.cli.eval_arguments import parser
from verifiers.cli.eval_options import EPILOG, FULL_COMMAND, OFFICIAL_ONLY, REFUSED

FILE = ROOT / "docs" / "evaluating.md"
PAGE = FILE.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the two environments of the page, and its file."""
    for name in ("my_env", "other_env"):
        place = tmp_path / "environments" / name
        place.mkdir(parents=True)
        (place / f"{name}.py").write_text(ENVIRONMENT)
        (place / "pyproject.toml").write_text(f'[project]\nname = "{name.replace("_", "-")}"\nversion = "0.1.0"\n')
    (file,) = (block.text for block in blocks(FILE) if block.language == "toml")
    (tmp_path / "evals.toml").write_text(file)
    return tmp_path


def test_its_commands_run(folder: Path, home: Path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    commands = [command for block in blocks(FILE) if block.language == "sh" for command in block.commands()]
    assert len(commands) == 5
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env={**os.environ, "HOME": str(home), "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "evals.toml" in command:
            assert done.stderr.startswith("6 evaluations, ") and "word=b temperature=1.0" in done.stderr


def test_all_options_are_on_it():
    table = PAGE.partition("\n## Options\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", table))
    shown = [action for action in parser(FULL_COMMAND)._actions if action.help != argparse.SUPPRESS]
    for action in shown:
        assert not action.option_strings or told & set(action.option_strings) or action.dest == "help", action
    known = {name for action in parser(FULL_COMMAND)._actions for name in action.option_strings}
    assert told <= known | set(REFUSED) | {"--install-completion"}
    assert len(OFFICIAL_ONLY) == 3 and {"-N", "--disable-env-server", "-w", "-H", "-D", "-f"} <= told


def test_all_fields_are_on_it():
    told = PAGE.partition("\nFields of a run: ")[2].partition("\n\n")[0]
    run, whole = told.split("At the top also")
    fields = set(re.findall(r"`(\w+)`", run))
    assert fields == set(eval_file._RUN) - {"id", "args"}
    assert set(re.findall(r"`(\w+)`", whole)) == set(eval_file._WHOLE)


def test_the_exit_codes():
    table = PAGE.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    codes = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert codes == ["0", "1", "2", str(LIMIT_REACHED), "130", "143"]
    assert re.findall(r"(?:^|   ?)(\d+) ", EPILOG.partition("exit codes:\n")[2]) == codes
