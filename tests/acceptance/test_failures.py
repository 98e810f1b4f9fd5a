"""What goes wrong ends in one clear sentence with the log's tail; nothing hangs, nothing is half-published."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest


@pytest.fixture
def broken(machine, published):
    """Makes a copy of the CartPole example, changed by `change(folder)`, built in advance; returns its name."""

    def make(name: str, change) -> str:
        module = name.replace("-", "_")
        folder = machine.work / "environments" / module
        shutil.copytree(
            machine.work / "environments" / "openenv_cartpole", folder, ignore=shutil.ignore_patterns(".prime")
        )
        (folder / "openenv_cartpole.py").rename(folder / f"{module}.py")
        pyproject = folder / "pyproject.toml"
        pyproject.write_text(
            pyproject.read_text().replace("openenv-cartpole", name).replace("openenv_cartpole", module)
        )
        change(folder)
        return name

    return make


def manifest(**changes):
    def change(folder: Path) -> None:
        file = folder / "proj" / ".build.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def wrapper(text: str):
    """Replaces the environment's module; the servers stay as they are."""

    def change(folder: Path) -> None:
        (folder / f"{folder.name}.py").write_text(
            "from verifiers.envs.integrations.openenv_env import OpenEnvEnv\n\n\n" + text
        )

    return change


RENDER = "def render(observation, **kwargs):\n    return [{'role': 'user', 'content': str(observation)}]\n\n\n"
LOAD = "def load_environment():\n    return OpenEnvEnv(openenv_project='./proj', prompt_renderer=render, num_train_examples=2, num_eval_examples=2, {})\n"


def evaluate(machine, name: str, *more: str):
    return machine.run(
        "prime", "eval", "run", name, "-m", "baseline/random", "-n", "1", "-r", "1", "-o", "out", *more, code=None
    )


def everything(done) -> str:
    assert "Traceback" not in done.stdout + done.stderr
    # Tables and narrow terminals wrap lines; a sentence is a sentence all the same.
    return re.sub(r"\s+", " ", done.stdout + " " + done.stderr)


def test_a_server_that_never_becomes_healthy(machine, broken):
    both = wrapper(RENDER + LOAD.format("startup_timeout_seconds=3, max_retries=0"))

    def change(folder: Path) -> None:
        both(folder)
        manifest(
            start_command="python -c \"import time; print('thinking about it', flush=True); time.sleep(60)\" --port 8000"
        )(folder)

    done = evaluate(machine, broken("never-healthy", change))
    text = everything(done)
    assert done.returncode == 1 and "not ready" in text and "thinking about it" in text


def test_a_server_that_crashes_on_start(machine, broken):
    change = manifest(start_command="python -c \"raise SystemExit('no such game: chess')\" --port 8000")
    done = evaluate(machine, broken("crash-on-start", change))
    text = everything(done)
    assert done.returncode == 1 and "no such game: chess" in text


def test_the_wrong_contract(machine, broken):
    done = evaluate(machine, broken("wrong-contract", manifest(contract="mcp")))
    text = everything(done)
    assert done.returncode == 1 and "contract mismatch" in text and "vf-build wrong-contract" in text


def test_a_server_that_dies_in_mid_episode(machine, broken):
    def change(folder: Path) -> None:
        server = folder / "proj" / "server.py"
        text = server.read_text()
        dying = re.sub(
            r"(@app\.post\(\"/step\"\)\n(?:async )?def \w+\([^)]*\)[^:]*:\n)",
            r"\1    import os\n\n    print('the table broke', flush=True)\n    os._exit(7)\n",
            text,
        )
        assert dying != text
        server.write_text(dying)

    name = broken("dies-in-episode", change)
    machine.run("vf-build", name)
    done = evaluate(machine, name)
    text = everything(done)
    assert done.returncode == 1 and "0 scored of 1" in text and "the table broke" in text


def test_a_renderer_that_returns_nothing(machine, broken):
    silent = "def render(observation, **kwargs):\n    return None\n\n\n" + LOAD.format("")
    done = evaluate(machine, broken("silent-renderer", wrapper(silent)))
    text = everything(done)
    assert done.returncode == 1 and "prompt_renderer returned" in text and "reset" in text


def test_a_build_whose_server_crashes_writes_no_manifest(machine, broken):
    def change(folder: Path) -> None:
        (folder / "proj" / ".build.json").unlink()
        (folder / "proj" / "server.py").write_text("raise RuntimeError('the board is missing')\n")

    name = broken("build-crash", change)
    done = machine.run("vf-build", name, code=1)
    assert "the board is missing" in done.stderr and "Traceback (most recent call last)" not in done.stdout
    assert not (machine.work / "environments" / "build_crash" / "proj" / ".build.json").exists()


def test_a_build_that_fails_shows_the_log(machine, broken):
    def change(folder: Path) -> None:
        (folder / "proj" / ".build.json").unlink()
        (folder / "proj" / "requirements.txt").write_text("no-such-package-anywhere-at-all==1.0\n")

    done = machine.run("vf-build", broken("build-fails", change), code=1)
    assert "Image build did not complete successfully (status=failed)." in done.stdout + done.stderr
    assert "no-such-package-anywhere-at-all" in done.stderr


def test_a_full_blob_store_publishes_nothing_and_says_so(machine, published, tmp_path):
    folder = tmp_path / "environments" / "heavy"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "heavy"\nversion = "0.1.0"\ndescription = "Carries a large table."\nrequires-python = ">=3.11"\n'
        'dependencies = []\n\n[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
        '[tool.hatch.build]\ninclude = ["heavy.py", "table.bin"]\n'
    )
    (folder / "README.md").write_text("# heavy\n")
    (folder / "heavy.py").write_text("def load_environment():\n    return None\n")
    (folder / "table.bin").write_bytes(os.urandom(4_000_000))
    data = tmp_path / "hub"
    # Two megabytes (blocks of 512 bytes) are the most that any file of this Hub can have.
    hub = machine.start(
        "sh", "-c", f"ulimit -f 4000; exec prime hub serve --port 0 --data-dir {data}", PRIME_HUB_DATA_DIR=str(data)
    )
    try:
        import time

        end = time.monotonic() + 30
        while not (data / "hub.json").exists() and time.monotonic() < end:
            assert hub.poll() is None, hub.communicate()
            time.sleep(0.1)
        url = json.loads((data / "hub.json").read_text())["url"]
        env = {
            "PRIME_HUB_DATA_DIR": str(data),
            "PRIME_API_BASE_URL": url,
            "PRIME_API_KEY": (data / "owner.token").read_text().strip(),
        }
        done = machine.run("prime", "env", "push", "heavy", cwd=tmp_path, code=1, **env)
        assert re.search(r"Error: .*(full|space)", done.stderr), done.stderr
        listed = json.loads(machine.run("prime", "env", "list", "--output", "json", cwd=tmp_path, **env).stdout)
        assert listed["total"] == 0
        left = [path for path in (data / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 100_000]
        assert not left
        # The same Hub takes what fits: it survived.
        (folder / "table.bin").write_bytes(b"small")
        assert (
            "Successfully published heavy v0.1.0"
            in machine.run("prime", "env", "push", "heavy", cwd=tmp_path, **env).stdout
        )
    finally:
        os.kill(hub.pid, signal.SIGTERM)
        _, err = hub.communicate(timeout=30)
    assert "Traceback" not in err, err
