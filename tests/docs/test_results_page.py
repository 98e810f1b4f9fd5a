"""docs/results.md: its commands run, its program runs on what they leave, its numbers and names are those of the code."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import prime_evals
import verifiers as vf
from tests.conftest import ROOT
from tests.support.pages import blocks
from verifiers.cli.eval_arguments import parse
from verifiers.clients import retry

FILE = ROOT / "docs" / "results.md"
PAGE = FILE.read_text(encoding="utf-8")


def test_its_commands_and_its_program(tmp_path: Path):
    (shell,) = (block for block in blocks(FILE) if block.language == "sh")
    (program,) = (block.text for block in blocks(FILE) if block.language == "python")
    (tmp_path / "environments").symlink_to(ROOT / "environments")
    environ = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
    said = []
    for line in shell.commands():
        command = line.replace("prime eval run", "vf-eval")
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "8 scored of 8 total" in said[0] and "12 scored of 12 total" in said[1]
    (folder,) = (tmp_path / "results/evals/reverse-text--baseline--echo").iterdir()
    files = {path.name for path in folder.iterdir()}
    assert files == {
        line.split("`")[1] for line in PAGE.splitlines() if line.startswith(("| `attempts", "| `results", "| `meta"))
    }
    line = json.loads((folder / "attempts.jsonl").read_text().splitlines()[-1])
    assert all(f"`{name}`" in PAGE for name in line if name not in ("kind", "run", "of"))
    exec(
        compile(program.replace("results/evals/reverse-text--baseline--echo/1a2b3c4d", str(folder)), "page", "exec"), {}
    )


def test_its_bounds_and_options():
    assert (retry.LONGEST_TROUBLE_SECONDS, retry.LONGEST_RETRY_AFTER_SECONDS, retry.LONGEST_WAIT_SECONDS) == (
        300,
        120,
        30,
    )
    assert (
        "five minutes or less in all" in PAGE
        and "two minutes at\nmost at a time" in PAGE
        and "1, 2, 4 … 30 seconds" in PAGE
    )
    (arguments,) = parse(["my-env", "--resume", "--retry", "unscored"], "vf-eval").runs
    assert arguments.retry == "unscored" and arguments.stop_after == 8
    assert "the first 8 rollouts of a run all end with the same error" in PAGE
    for name in ("UnreadableResponseError", "EmptyModelResponseError", "RateLimitError", "InfraError", "RepeatedError"):
        assert f"`{name}`" in PAGE and issubclass(getattr(vf, name), vf.Error)
    assert callable(prime_evals.open_run)
