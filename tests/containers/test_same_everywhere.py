"""The same environments on every runtime: the same first observations and rewards for the same seeds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HubFactory, RunningHub
from tests.versions.test_layouts import MODULE, PYPROJECT, initialized

SEED = Path(__file__).resolve().parents[1] / "openenv" / "seed"
RUNTIMES = ("process", "bubblewrap", "docker", "podman")
EXAMPLES = 5
# What the seed's server needs; its Dockerfile installs it.
REQUIREMENTS = "fastapi>=0.115,<1\ngymnasium>=1.0,<2\nuvicorn>=0.30,<1\n"


def _options(runtime: str) -> list[str]:
    options = ["--runtime", runtime]
    if runtime in ("docker", "podman"):
        engine = os.environ.get(f"PRIME_TEST_{runtime.upper()}")
        if not engine:
            pytest.skip(f"PRIME_TEST_{runtime.upper()} names no engine; 'script/engines' starts one")
        options += ["--runtime-option", f"engine={engine}"]
    return options


def _write(work: Path, name: str, proj: Path, turns: int) -> None:
    folder = work / "environments" / name
    shutil.copytree(proj, folder / "proj")
    (folder / "pyproject.toml").write_text(PYPROJECT.replace("fresh", name))
    (folder / f"{name}.py").write_text(MODULE.replace("max_turns=3", f"max_turns={turns}"))


def _seed(folder: Path) -> Path:
    """The seed's own project, its Dockerfile and its server as they are."""
    folder.mkdir()
    shutil.copy(SEED / "Dockerfile.txt", folder / "Dockerfile")
    shutil.copy(SEED / "gym_server.txt", folder / "server.py")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    return folder


def _recording(work: Path) -> Path:
    """The actions of the seed's game; its schema says text, and its server takes only "0" and "1"."""
    file = work / "moves.jsonl"
    moves = [{"action": str((number * number // 3) % 2)} for number in range(60)]
    rows = [{"seed": 100 + number, "actions": moves} for number in range(EXAMPLES)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _played(hub: RunningHub, work: Path, name: str, model: str) -> list[tuple[object, float]]:
    def run(program: str, *words: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *words],
            cwd=work,
            env=hub.environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "Healthy after" in run("vf-build", name)
    played = ["-n", str(EXAMPLES), "-r", "1", "-c", "2", "-o", f"out-{name}"]
    run("prime", "eval", "run", name, "-m", f"baseline/{model}", *played)
    (results,) = (work / f"out-{name}").rglob("results.jsonl")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(rows) == EXAMPLES and all(row["error"] is None for row in rows), rows
    return [(row["prompt"], row["reward"]) for row in sorted(rows, key=lambda row: row["example_id"])]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[tuple[object, float]]]:
    """What the first runtime that was played gave; all others have to give the same."""
    return {}


@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("same-everywhere")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_everywhere(start_hub: HubFactory, runtime: str, tmp_path: Path, expected) -> None:
    hub = start_hub(*_options(runtime))
    hub.wait_for_runner()
    (tmp_path / "init").mkdir()
    _write(tmp_path, "seedgame", _seed(tmp_path / "seed"), 60)
    _write(tmp_path, "fresh", initialized("0.3.0", False, tmp_path / "init"), 3)
    found = {
        "seedgame": _played(hub, tmp_path, "seedgame", f"replay:{_recording(tmp_path)}"),
        "fresh": _played(hub, tmp_path, "fresh", "random"),
    }
    for name, rows in found.items():
        assert len({reward for _, reward in rows}) >= 2, rows
        assert expected.setdefault(name, rows) == rows, f"{name} on {runtime}"
