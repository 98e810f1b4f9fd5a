"""`prime eval run` and environments that are not there: installed on demand, into virtual environments of their own where
they do not go together with what is installed.

The index has wheels of the libraries that verifiers needs, which lend those of the tests' own interpreter.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.core.support import make_wheel, serve_index

pytestmark = pytest.mark.timeout(300)
ENVIRONMENT = """\
import asyncio
import sys

import verifiers as vf


class Echo(vf.SingleTurnEnv):
    async def setup_state(self, state, **kwargs):
        print("playing NAME", file=sys.stderr, flush=True)
        await asyncio.sleep(self.pause)
        return state


def load_environment(pause=0.0):
    async def echoes(completion, answer):
        return float(completion[-1]["content"] == answer)

    rows = [{"question": str(number), "answer": str(number)} for number in range(4)]
    print("interpreter of NAME:", sys.executable, file=sys.stderr)
    env = Echo(dataset=rows, rubric=vf.Rubric(funcs=[echoes]))
    env.pause = pause
    return env
"""
PYPROJECT = """\
[project]
name = "NAME"
description = "Say it again."
version = "0.1.0"
dependencies = DEPENDENCIES

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build]
include = ["MODULE.py", "pyproject.toml"]
"""
FEW = ("-m", "baseline/echo", "-n", "2", "-r", "1")


def write(base: Path, name: str, *dependencies: str) -> Path:
    """An environment's folder."""
    module = name.replace("-", "_")
    folder = base / module
    folder.mkdir(parents=True)
    (folder / f"{module}.py").write_text(ENVIRONMENT.replace("NAME", name))
    project = PYPROJECT.replace("NAME", name).replace("MODULE", module)
    (folder / "pyproject.toml").write_text(project.replace("DEPENDENCIES", json.dumps(list(dependencies))))
    (folder / "README.md").write_text(f"# {name}\n\nprime eval run {name}\n")
    return folder


def borrowed() -> str:
    """Lines of a .pth file with the folders that this interpreter has libraries in, ours left out."""
    return "".join(f"{path}\n" for path in sys.path if path.endswith("site-packages"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The only index: what our packages need, by loan, and two versions of `left-pad`."""
    folder = tmp_path / "index"
    for package in ("prime-core", "prime-evals", "verifiers"):
        project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
        for line in project["dependencies"]:
            needed = Requirement(line)
            if not needed.name.startswith(("prime", "verifiers")):
                here = importlib.metadata.version(needed.name)
                make_wheel(folder, needed.name, here, files={f"{needed.name.replace('-', '_')}_loan.pth": borrowed()})
    for version in ("1.0", "2.0"):
        make_wheel(folder, "left-pad", version)
    make_wheel(folder, "pad-user", "1.0", ("left-pad<2",))
    with serve_index(folder) as site:
        monkeypatch.setenv("UV_DEFAULT_INDEX", site.url)
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("PRIME_CACHE_DIR", str(tmp_path / "cache"))
        yield site.url


@pytest.fixture
def venv(index: str, tmp_path: Path) -> Path:
    """The interpreter in use: our packages as they lie here, and something that needs an old left-pad."""
    folder = tmp_path / "venv"
    uv(["venv", "--quiet", "--python", sys.executable, str(folder)])
    uv(["pip", "install", "--quiet", "--python", str(folder / "bin/python"), "pad-user"])
    site = next((folder / "lib").glob("python*/site-packages"))
    ours = [str(ROOT / "packages" / name) for name in ("prime-core", "prime-evals", "verifiers")]
    (site / "ours.pth").write_text(borrowed() + "\n".join(ours) + "\n")
    return folder


def uv(args: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "uv", *args], check=True)


@pytest.fixture
def published(author, venv: Path) -> str:
    """The name under which calm-env and clash-env are published; the second needs a newer left-pad."""
    base = author.cwd / "sources"
    write(base, "calm-env", "verifiers")
    write(base, "clash-env", "verifiers", "left-pad>=2")
    for name in ("calm-env", "clash-env"):
        author.ok("env", "push", name, "-p", base, "--no-check")
    return author.name


def interpreters(stderr: str) -> dict[str, str]:
    return dict(re.findall(r"^interpreter of (\S+): (.*)$", stderr, re.MULTILINE))


def test_missing_ones_are_installed_with_yes(author, published, venv):
    name = f"{published}/calm-env"
    said = author.fails("eval", "run", name, *FEW, VIRTUAL_ENV=str(venv))
    assert (
        f"Error: The environment 'calm-env' is not installed and not in environments/calm_env. Install it with: prime env install {name}"
        in said
    )
    assert "Or add --yes to have it installed." in said
    # All names are looked up before anything is installed.
    assert "nothing-there" in author.fails(
        "eval", "run", name, f"{published}/nothing-there", *FEW, "--yes", VIRTUAL_ENV=str(venv)
    )
    assert "is not installed" in author.fails("eval", "run", name, *FEW, VIRTUAL_ENV=str(venv))
    for options in (["--yes"], []):  # the second time it is there
        done = author("eval", "run", name, *FEW, "--no-save", "--output", "json", *options, VIRTUAL_ENV=str(venv))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["avg_reward"] == 1
        assert ("  + calm-env 0.1.0" in done.stderr) == bool(options)
        assert interpreters(done.stderr) == {"calm-env": str(venv / "bin/python")}


def test_it_is_asked_at_a_terminal(author, published, venv):
    author.env["VIRTUAL_ENV"] = str(venv)
    args = ("eval", "run", f"{published}/calm-env", *FEW, "--no-save")
    done = author.answering("n\n", *args)
    assert f"Not installed: {published}/calm-env. Install into {venv / 'bin/python'}? [y/N]:" in done.stderr
    assert done.returncode == 1 and "Aborted; nothing was done." in done.stderr
    done = author.answering("y\n", *args)
    assert done.returncode == 0, done.stderr
    assert "  + calm-env 0.1.0" in done.stderr and "2 scored of 2 total" in done.stdout


def test_one_that_conflicts_gets_its_own(author, published, venv, tmp_path):
    write(author.cwd / "environments", "near-env")
    names = [f"{published}/clash-env", "near-env", f"{published}/calm-env"]
    args = ("eval", "run", *names, *FEW, "-o", "out")
    done = author(*args, "--output", "json", "--yes", VIRTUAL_ENV=str(venv))
    assert done.returncode == 0, done.stderr
    said = f"For clash-env, left-pad 1.0 in {venv} would be replaced by 2.0, and pad-user needs left-pad<2; nothing was"
    assert said in done.stderr
    own = tmp_path / "cache/evaluations"
    (folder,) = (one for one in own.iterdir() if one.is_dir())
    assert re.fullmatch(rf"{published}--clash-env@0\.1\.0--verifiers-[\d.]+", folder.name)
    used = interpreters(done.stderr)
    assert used["clash-env"] == str(folder / "bin/python")
    assert used["near-env"] == used["calm-env"] == str(venv / "bin/python")
    runs = json.loads(done.stdout)
    assert [(one["env_id"], one["avg_reward"]) for one in runs] == [("clash-env", 1), ("near-env", 1), ("calm-env", 1)]
    assert all((author.cwd / one["results_path"] / "results.jsonl").is_file() for one in runs)
    # Again: nothing is installed, and one table has all of them.
    done = author(*args, "--yes", VIRTUAL_ENV=str(venv))
    assert done.returncode == 0 and "  + " not in done.stderr, done.stderr
    table = done.stdout.split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in table] == ["environment", "clash-env", "near-env", "calm-env"]
    # Alone it takes the place of the command.
    done = author("eval", "run", names[0], *FEW, "--no-save", "--output", "json", "--yes", VIRTUAL_ENV=str(venv))
    assert done.returncode == 0 and json.loads(done.stdout)["avg_reward"] == 1, done.stderr
    # A signal to the command ends the program that plays, with everything recorded, and the others do not begin.
    child = subprocess.Popen(
        [Path(sys.executable).parent / "prime", *args, "--yes", "-a", '{"pause": 100}', "-c", "1"],
        cwd=author.cwd,
        env=author.environment(VIRTUAL_ENV=str(venv)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    while "playing clash-env" not in (line := child.stderr.readline()):
        assert line, child.communicate()
    for _ in range(2):
        os.kill(child.pid, signal.SIGINT)
        while not (line := child.stderr.readline()).startswith(("Ending: ", "Interrupted: ")):
            assert line, child.communicate()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and line.startswith("Interrupted: 0 of 2 rollouts") and "Traceback" not in err, err
    assert "playing" not in err and "calm-env" not in out


def test_what_a_folder_requires_is_installed(author, venv, index):
    write(author.cwd / "environments", "near-env", "left-pad>=2", "verifiers")
    args = ("eval", "run", "near-env", *FEW, "--no-save")
    done = author(*args, VIRTUAL_ENV=str(venv))
    assert done.returncode == 0 and "Installing" not in done.stderr, "nobody is asked: it is played as it lies"
    done = author(*args, "--yes", VIRTUAL_ENV=str(venv))
    assert done.returncode == 0, done.stderr
    assert "Installing near-env (environments/near_env) into" in done.stderr
    assert "It gets a virtual environment of its own" in done.stderr
    assert "/cache/evaluations/local--near-env@" in interpreters(done.stderr)["near-env"]


def test_the_parts_between_the_programs(author, tmp_path):
    """--only and --summary-to, by which the programs of one command know their share and tell what came out."""
    for name in ("one-env", "two-env"):
        write(author.cwd / "environments", name)
    summary = tmp_path / "summary.json"
    args = ("one-env", "two-env", *FEW, "--no-save", "--only", "1", "--summary-to", str(summary), "--output", "json")
    assert author.ok("eval", "run", *args) == ""
    told = json.loads(summary.read_text())
    assert [one["env_id"] for one in told["runs"]] == ["two-env"] and told["spent"] == {"cost": 0.0, "tokens": 0}
    # One of several is continued as such: what is complete is not played again, what has not begun begins.
    both = ("one-env", "two-env", *FEW, "-o", "out")
    author.ok("eval", "run", *both, "--only", "0")
    again = author("eval", "run", *both, "--only", "0", "--resume")
    assert again.returncode == 0 and "Continuing out/" in again.stderr, again.stderr
    begun = author("eval", "run", *both, "--only", "1", "--resume")
    assert begun.returncode == 0 and "Continuing" not in begun.stderr, begun.stderr
