"""vf-build through the command: what it refuses at once, and builds on a Hub of the tests' own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from prime_core.uv import run_uv, uv_environment
from verifiers.cli.build import main
from verifiers.cli.init import create_environment

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


def refused(capsys, *argv: str) -> str:
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def test_what_cannot_be_built_is_said_at_once(tmp_path, capsys):
    base = ["-p", str(tmp_path)]
    assert "Environment id must use hyphens (e.g. openenv-echo), not underscores." in refused(capsys, "my_env", *base)
    assert f"Environment 'my-env' not found at {tmp_path}/my_env." in refused(capsys, "my-env", *base)
    assert f"Environment path not found: {tmp_path}/nowhere" in refused(capsys, "-p", str(tmp_path / "nowhere"))
    folder = create_environment("my-env", tmp_path)
    assert f"No OpenEnv project at {folder}/proj." in refused(capsys, "my-env", *base)
    (folder / "proj").mkdir()
    assert f"The OpenEnv project {folder}/proj has no Dockerfile." in refused(capsys, "my-env", *base)
    (folder / "proj" / "Dockerfile").write_text("FROM python:3.11-slim\n")
    assert f"The OpenEnv project {folder}/proj has no server.py" in refused(capsys, "-p", str(folder))
    (folder / "proj" / "server.py").write_text("def hello(:\n")
    assert "server.py, line 1: " in refused(capsys, "my-env", *base)


def test_without_a_login(tmp_path, capsys, monkeypatch):
    create_environment("my-env", tmp_path, openenv=True)
    for name in [name for name in os.environ if name.startswith("PRIME_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert main(["my-env", "-p", str(tmp_path)]) == 1
    assert "Error: Not authenticated. Run 'prime login' first." in capsys.readouterr().err


@dataclass
class Machine:
    """A home with a Hub, logged in; `run` runs a command in its `work` folder."""

    base: Path
    env: dict[str, str]

    @property
    def environments(self) -> Path:
        return self.base / "work" / "environments"

    def run(self, *command: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.base / "work",
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, f"{command}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        return done

    def manifest(self, module: str) -> Path:
        return self.environments / module / "proj" / ".build.json"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base = tmp_path_factory.mktemp("b")
    for name in ("home", "tmp", "work/environments"):
        (base / name).mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
    made = Machine(
        base,
        {
            **kept,
            "HOME": str(base / "home"),
            "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "TMPDIR": str(base / "tmp"),
            "PRIME_HUB_DATA_DIR": str(base / "hub"),
            "PRIME_CACHE_DIR": str(ROOT / ".cache" / "prime"),
            "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv"),
            "PRIME_LEASE_SECONDS": "5",
        },
    )
    try:
        made.run("prime", "hub", "start", "--port", "0")
        made.run("prime", "login")
        yield made
    finally:
        made.run("prime", "hub", "stop")


@pytest.fixture
def game(machine: Machine):
    """`game("my-game", server=("old", "new"))`: a generated environment with its files changed."""

    def make(name: str, **changes: tuple[str, str]) -> Path:
        folder = create_environment(name, machine.environments, openenv=True, announce=lambda line: None)
        for file, (old, new) in changes.items():
            path = folder / "proj" / {"server": "server.py", "requirements": "requirements.txt"}.get(file, file)
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))
        return folder

    return make


RUN_IN_CODE = "import server, uvicorn; uvicorn.run(server.app, host='0.0.0.0', port=9123)"
# The port is named, so that it can be replaced where another program of this machine has it; the code does not read it.
PORT_IN_CODE = f"""CMD ["python", "-c", "{RUN_IN_CODE}", "--port", "8000"]"""

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("openenv-build")]


@pytest.mark.index
def test_a_generated_environment_builds_and_scores(machine, game):
    game("first-game")
    done = machine.run("vf-build", "first-game")
    assert done.stdout.splitlines() == [
        "Building image for 'first-game' with context='./environments/first_game/proj' "
        "dockerfile='Dockerfile' image='first-game:latest'",
        "Image build completed with status=ready",
        "Wrote ./environments/first_game/proj/.build.json",
    ]
    assert re.search(r"Healthy after \d+\.\d s; contract gym", done.stderr)
    manifest = json.loads(machine.manifest("first_game").read_text())
    assert list(manifest) == sorted(manifest)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", manifest.pop("image_digest")) and manifest.pop("context_digest")
    assert re.fullmatch(r"prime/[\w-]+/first-game:latest", manifest.pop("image"))
    assert manifest == {
        "schema_version": 1,
        "environment_id": "first-game",
        "port": 8000,
        "app": "server:app",
        "contract": "gym",
        "start_command": "uvicorn server:app --host 0.0.0.0 --port 8000",
        "image_status": "ready",
    }
    played = machine.run("vf-eval", "first-game", "-m", "baseline/random", "-n", "3", "-r", "2", "-c", "2", "-o", "out")
    assert "vf-build" not in played.stderr
    (results,) = (machine.base / "work" / "out").rglob("results.jsonl")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(rows) == 6 and all(row["error"] is None and 0 < row["reward"] <= 1 for row in rows)
    server = machine.environments / "first_game" / "proj" / "server.py"
    server.write_text(server.read_text() + "\n# edited\n")
    played = machine.run("vf-eval", "first-game", "-m", "baseline/random", "-n", "1", "-r", "1", "-o", "out-edited")
    (said,) = [line for line in played.stderr.splitlines() if "vf-build" in line]
    assert said.startswith("verifiers.openenv: The image of ") and said.endswith("play them: vf-build first-game")
    assert "was built before its last changes (server.py) and is played as it was" in said
    # By the folder itself; and what one Hub builds, another can build from the same files when it lacks the image.
    again = machine.run("vf-build", "-p", "environments/first_game", "--verbose")
    assert "Building image for 'first-game' with context='./environments/first_game/proj'" in again.stdout
    assert "Uvicorn running on" in again.stderr
    elsewhere = json.loads(machine.manifest("first_game").read_text())
    server.write_text(server.read_text() + "# edited again\n")
    elsewhere |= {"image": "prime/nobody/first-game:latest", "image_digest": "sha256:" + "0" * 64}
    machine.manifest("first_game").write_text(json.dumps(elsewhere))
    done = machine.run("vf-eval", "first-game", "-m", "baseline/random", "-n", "1", "-r", "1", "-o", "out-elsewhere")
    assert "The Hub has no image prime/nobody/first-game:latest; building it from" in done.stderr
    assert "before its last changes" not in done.stderr


@pytest.mark.index
@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        (
            "loopback-game",
            {"Dockerfile": ("0.0.0.0", "127.0.0.1")},
            "The server binds to 127.0.0.1 only, so nothing outside its container can reach it.",
        ),
        (
            "port-game",
            {"Dockerfile": ('CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]', PORT_IN_CODE)},
            "The server listens on port 9123, not on port 8000, where it is looked for.",
        ),
        ("healthless-game", {"server": ("/health", "/healthz")}, "HTTP 404 from /health"),
        ("crash-game", {"server": ("GUESSES = 7", "raise SystemExit('no dice')")}, "exited on start"),
        ("schema-game", {"server": ("Action.model_json_schema()", '{"type": "text"}')}, "action.type is 'text'"),
    ],
)
def test_a_server_that_is_not_as_it_must_be(machine, game, name, changes, sentence):
    folder = game(name, **changes)
    done = machine.run("vf-build", name, "--startup-timeout", "4", code=1)
    assert f"Error: {sentence}" in done.stderr or sentence in done.stderr
    assert "Image build completed with status=ready" in done.stdout and "Wrote" not in done.stdout
    assert not (folder / "proj" / ".build.json").exists() and "Traceback" not in done.stdout
    if name == "crash-game":
        assert "no dice" in done.stderr


@pytest.mark.index
def test_the_running_server_tells_what_its_source_does_not(machine, game):
    folder = game("quiet-game", server=('@app.post("/step")', '@getattr(app, "post")("/step")'))
    assert "contract gym" in machine.run("vf-build", "quiet-game").stderr
    assert json.loads((folder / "proj" / ".build.json").read_text())["contract"] == "gym"


@pytest.mark.index
def test_the_running_server_has_the_last_word_on_the_contract(machine, game):
    folder = game(
        "contract-game",
        server=("Action.model_json_schema()", '{"properties": {"tool_name": {}, "arguments": {}}}'),
    )
    manifest = folder / "proj" / ".build.json"
    done = machine.run("vf-build", "contract-game")
    assert "contract mcp\nWarning: OpenEnv contract mismatch: server.py reads as 'gym', but the running " in done.stderr
    assert json.loads(manifest.read_text())["contract"] == "mcp" and "Warning" not in done.stdout
    (folder / "proj" / "openenv.yaml").write_text("spec_version: 1\ncontract: gym\n")
    done = machine.run("vf-build", "contract-game")
    assert "Warning: OpenEnv contract mismatch: openenv.yaml, line 2 reads as 'gym', but" in done.stderr
    assert "Correct that line." in done.stderr
    assert json.loads(manifest.read_text())["contract"] == "mcp"
    (folder / "proj" / "openenv.yaml").write_text("contract: mcp\n")
    assert "Warning" not in machine.run("vf-build", "contract-game").stderr


@pytest.mark.index
def test_a_build_that_fails(machine, game):
    folder = game("failing-game", requirements=("uvicorn", "no-such-distribution-at-all"))
    done = machine.run("vf-build", "failing-game", code=1)
    assert done.stderr.splitlines()[-1] == "Image build did not complete successfully (status=failed)."
    assert "no-such-distribution-at-all" in done.stderr and done.stdout.count("\n") == 1
    assert not (folder / "proj" / ".build.json").exists()


@pytest.mark.index
def test_a_build_that_takes_too_long(machine, game, monkeypatch, capsys):
    folder = game("slow-game")
    for name, value in machine.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("verifiers.openenv.building.BUILD_SECONDS", 0.06)
    assert main(["slow-game", "-p", str(machine.environments), "--no-cache"]) == 1
    captured = capsys.readouterr()
    assert (
        "Image build did not complete within 0.001 minutes (status=timeout) and was cancelled. Run vf-build again"
        in captured.err
    )
    assert "Wrote" not in captured.out and not (folder / "proj" / ".build.json").exists()


@pytest.mark.index
def test_vf_install_from_the_folder(machine, game):
    game("installed-game")
    machine.run("vf-build", "installed-game")
    venv = machine.base / "venv"
    run_uv(["venv", "--quiet", "--python", sys.executable, str(venv)], env=uv_environment(machine.env))
    done = machine.run("vf-install", "installed-game", VIRTUAL_ENV=str(venv))
    assert done.stdout == f"Installed installed-game 0.1.0 for {venv}/bin/python\n"
    code = "import installed_game; env = installed_game.load_environment(); print(env.contract, env.openenv_project)"
    found = subprocess.run(
        [str(venv / "bin" / "python"), "-c", code], cwd=machine.base, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"gym {machine.environments}/installed_game/proj\n"
    refused = machine.run("vf-install", "no-such-env", code=1, VIRTUAL_ENV=str(venv))
    assert "Error: Environment 'no-such-env' not found at ./environments/no_such_env." in refused.stderr


@pytest.mark.index
def test_an_interrupted_build_is_cancelled(machine, game):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        wheel = f"slow @ http://127.0.0.1:{silent.getsockname()[1]}/slow-1.0-py3-none-any.whl"
        folder = game("interrupted-game")
        (folder / "proj" / "requirements.txt").write_text(wheel + "\n")
        child = subprocess.Popen(
            [str(BIN / "vf-build"), "interrupted-game"],
            cwd=machine.base / "work",
            env=machine.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(60)
        asking, _ = silent.accept()  # the installer waits for a wheel that never comes
        with asking:
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
            assert child.returncode == 130 and "Traceback" not in out + err, out + err
            assert err.splitlines()[-1] == "Interrupted; nothing was written."
            asking.settimeout(30)
            while asking.recv(4096):
                pass  # until the installer is gone too
    assert not (folder / "proj" / ".build.json").exists()
    rows = json.loads(machine.run("prime", "images", "list", "--output", "json").stdout)
    assert "COMPLETED" not in [row["status"] for row in rows if row["imageName"] == "interrupted-game"]
