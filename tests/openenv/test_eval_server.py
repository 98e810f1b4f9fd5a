"""`vf-eval ENV --server URL` as its user meets it, and a run replayed: on servers that run already, with no Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.openenv.conftest import wait_healthy

MODULE = """
import json
import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv

def render(observation, context, **kwargs):
    if context == "step" and {mcp}:
        return []
    return [{{"role": "user", "content": json.dumps(observation)}}]

def load_environment({arguments}):
    return OpenEnvEnv(prompt_renderer=render, max_turns=30, {passed})
"""


@pytest.fixture
def command(tmp_path: Path):
    """`command("my-game", …)` runs vf-eval in a working directory, with a home of its own in which nothing may be."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PRIME_", "OPENAI_"))}

    def run(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "verifiers.cli.eval", *args],
            cwd=tmp_path,
            env={**kept, "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr and not list(home.iterdir()), "no Hub, no settings, nothing"
        return done

    return run


@pytest.fixture
def game(tmp_path: Path):
    """`game("gym")`: an environment in ./environments, whose project was never built unless there is a contract."""

    def make(mcp: bool = False, arguments: str = "**kwargs", passed: str = "**kwargs", contract: str = "") -> None:
        folder = tmp_path / "environments" / "my_game"
        (folder / "proj").mkdir(parents=True)
        (folder / "my_game.py").write_text(MODULE.format(mcp=mcp, arguments=arguments, passed=passed))
        if contract:
            manifest = {"image": "prime/me/my-game:latest", "port": 8000, "start_command": "x", "contract": contract}
            (folder / "proj" / ".build.json").write_text(json.dumps(manifest))

    return make


def rows(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.rglob("results.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("server", ["seed_gym", "seed_mcp"])
def test_play_save_and_replay(command, game, running, tmp_path, server):
    mcp = server == "seed_mcp"
    game(mcp)
    url = running(server)
    done = command("my-game", "--server", f"{url}/", "-m", "baseline/random", "-n", "2", "-r", "2", "-o", "played")
    assert f"my_game) on {url} · baseline/random · 2 examples" in done.stdout
    played = rows(tmp_path / "played")
    assert len(played) == 4 and all(row["error"] is None for row in played)
    if mcp:
        assert any(message.get("tool_calls") for row in played for message in row["completion"])
    (run,) = (tmp_path / "played").rglob("metadata.json")
    metadata = json.loads(run.read_text())
    assert metadata["server_url"] == url and metadata["env_args"] == {}
    for number, file in enumerate((run.parent, run.parent / "results.jsonl", run.parent / "attempts.jsonl")):
        model = f"baseline/replay:{file.relative_to(tmp_path)}"
        command("my-game", "--server", url, "-m", model, "-n", "2", "-r", "2", "-o", f"again{number}")
        again = rows(tmp_path / f"again{number}")
        for part in ("reward", "completion", "prompt", "metrics", "stop_condition"):
            assert [row[part] for row in again] == [row[part] for row in played], part
    (described,) = (tmp_path / "again1").rglob("metadata.json")
    assert json.loads(described.read_text())["replayed"].endswith("/results.jsonl")


def test_moves_written_by_hand(command, game, running, tmp_path):
    game()
    lines = [{"seed": 100, "actions": [{"move": "up"}] * 3}, {"seed": 101, "actions": [{"move": "up"}]}]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = command(
        "my-game",
        "--server",
        running("counter"),
        "-m",
        "baseline/replay:mine.jsonl",
        "-n",
        "60",
        "-r",
        "1",
        "-o",
        "out",
    )
    assert "Note: 'my-game' has 50 rows to evaluate, so -n 60 plays all of them and no more." in done.stderr
    found = {row["info"]["seed"]: row for row in rows(tmp_path / "out")}
    assert found[100]["reward"] == 3.0 and found[101]["reward"] is None
    assert found[101]["error"]["message"].startswith(
        "The recording of example 1, rollout 0 (seed 101) ends after turn 1"
    )
    assert found[102]["error"]["message"] == "Nothing is recorded for example 2, rollout 0 (seed 102) in mine.jsonl."


def test_what_speaks_against_a_recording_is_said_before_it_is_played(command, game, running, tmp_path):
    game()
    url = running("counter")
    command("my-game", "--server", url, "-m", "baseline/first", "-n", "2", "-r", "1", "-o", "played")
    (run,) = (tmp_path / "played" / "evals").glob("*/*")
    again = ("-m", f"baseline/replay:{run.relative_to(tmp_path)}", "-r", "1", "-o", "again")
    assert "Note:" not in command("my-game", "--server", url, *again, "-n", "2").stderr
    more = command("my-game", "--server", url, *again, "-n", "5").stderr
    attempts = run.relative_to(tmp_path) / "attempts.jsonl"
    assert more.startswith(f"Note: {attempts} has nothing for 3 of 5 rollouts, which will be unscored.\n")
    (tmp_path / "environments" / "my_game").rename(tmp_path / "environments" / "other_game")
    (tmp_path / "environments" / "other_game" / "my_game.py").rename(
        tmp_path / "environments" / "other_game" / "other_game.py"
    )
    for name in ("attempts.jsonl", "results.jsonl"):
        given = f"baseline/replay:{run.relative_to(tmp_path) / name}"
        other = command("other-game", "--server", url, "-m", given, "-n", "2", "-r", "1", "-o", "other")
        assert f"{name} is a run of 'my-game', and this is 'other-game'.\n" in other.stderr


FEW = ("-m", "baseline/first", "-n", "1", "-r", "1")


def refused(command, *args: str) -> str:
    done = command("my-game", *FEW, *args, code=1)
    assert not done.stdout
    return done.stderr.removeprefix("Error: ")


def test_no_address_no_answer_no_server(command, game, running, tmp_path):
    game()
    assert refused(command, "--server", "localhost:1") == (
        "--server must be an address such as http://127.0.0.1:8000, not 'localhost:1'.\n"
    )
    said = refused(command, "--server", "http://me:secret@127.0.0.1:1")
    assert said.startswith("No OpenEnv server answers at http://127.0.0.1:1: ConnectError") and "secret" not in said
    assert "Start it, as in 'uvicorn server:app --port 8000'" in said
    url = running("counter")
    assert refused(command, "--server", f"{url}/?token=abc").endswith(f"leave out what follows {url}/\n")
    assert "leave one of them out" in refused(command, "--server", url, "-a", '{"server_url": "http://x"}')
    (tmp_path / "environments" / "my_game" / "my_game.py").write_text(
        "import verifiers as vf\n"
        "def load_environment(**kwargs):\n    return vf.SingleTurnEnv(dataset=[{'question': 'a'}], **kwargs)\n"
    )
    assert refused(command, "--server", url) == (
        "The environment 'my-game' is no OpenEnv environment (SingleTurnEnv), so it plays on no server; "
        "leave --server out.\n"
    )


GUARD = """
import base64

@app.middleware("http")
async def guard(request, call_next):
    wanted = "Basic " + base64.b64encode(b"me:p@ss word").decode()
    if request.headers.get("authorization") != wanted:
        from fastapi import Response
        return Response(status_code=401)
    return await call_next(request)
"""


def test_a_server_that_wants_a_password(command, game, serve, tmp_path):
    game()
    source = serve("counter")
    server = source.folder / "server.py"
    server.write_text(server.read_text() + GUARD)
    url = source.spawn().url
    known = url.replace("://", "://me:p%40ss%20word@")
    wait_healthy(known)
    assert refused(command, "--server", url) == (
        f"The server at {url} asks for a user and a password (HTTP 401 from /health), or for other ones: "
        "--server http://USER:PASSWORD@…\n"
    )
    command("my-game", "--server", known, *FEW, "-o", "out")
    assert rows(tmp_path / "out")[0]["reward"] == 3.0


def test_another_contract(command, game, running):
    game(contract="mcp")
    url = running("counter")
    assert refused(command, "--server", url) == (
        f"OpenEnv contract mismatch: the server at {url} speaks 'gym', and the manifest proj/.build.json says 'mcp'. "
        "Correct --server, or build the project as it is now: vf-build my-game\n"
    )


def test_an_environment_that_takes_no_address(command, game, running, tmp_path):
    game(arguments="", passed="num_eval_examples=2", contract="gym")
    url = running("counter")
    command("my-game", "--server", url, *FEW, "-o", "out")
    assert rows(tmp_path / "out")[0]["reward"] == 3.0
    (tmp_path / "environments" / "my_game" / "proj" / ".build.json").unlink()
    assert "Or let its load_environment take **kwargs and hand them" in refused(command, "--server", url)


def test_a_password_in_the_address_is_not_written_down(command, game, running, tmp_path):
    game()
    url = running("counter").replace("http://", "http://me:secret@")
    done = command("my-game", "--server", url, *FEW, "-o", "out")
    assert "secret" not in done.stdout + done.stderr
    assert all("secret" not in file.read_text() for file in (tmp_path / "out").rglob("*.json*"))
