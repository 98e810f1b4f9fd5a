"""Real servers on every OpenEnv version that we speak to, each in a virtual environment of its own.

A lane of its own, `script/test tests/versions`: these tests run only where this folder, or a file of it, is named.
The environments are kept in the tests' cache between runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import verifiers as vf
from prime_core.uv import run_uv, uv_environment
from tests.openenv.conftest import ChildSource, wait_healthy
from tests.support.lanes import ignored_unless_named
from verifiers.envs.integrations.openenv_env import OpenEnvEnv
from verifiers.evaluation.policies import Policy

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / "environments"
SERVERS = HERE / "servers"
GAMES = ("gymnasium>=1.2,<2", "textarena==0.7.4")
VERSIONS = {
    "0.2.1": ("openenv-core==0.2.1", "fastmcp>=2,<5", *GAMES),
    "0.3.0": ("openenv-core==0.3.0", *GAMES),
    "0.10.0": ("openenv==0.10.0", *GAMES),
}
METADATA = {"0.2.1": False, "0.3.0": False, "0.10.0": True}
"""Whether a version sends the metadata of observations."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return ignored_unless_named(HERE, config)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not Path(item.path).is_relative_to(HERE):
            continue
        item.add_marker(pytest.mark.index)
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(600))
        callspec = getattr(item, "callspec", None)
        # One worker for a version, so that its servers are started once.
        group = callspec.params.get("version") if callspec is not None else None
        item.add_marker(pytest.mark.xdist_group(str(group or item.path.stem)))


def python_of(version: str) -> Path:
    """The Python of an environment with this version installed; made when there is none yet."""
    requirements = VERSIONS[version]
    named = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = Path(os.environ["PRIME_CACHE_DIR"]) / "versions" / f"{version}-{named}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            environment = uv_environment()
            made = run_uv(["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], env=environment)
            assert made.returncode == 0, made.stderr
            install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *requirements]
            installed = run_uv(install, env=environment, timeout=500)
            assert installed.returncode == 0, installed.stderr
            ready.touch()
    return python


Sources = Callable[..., ChildSource]


@pytest.fixture(scope="session")
def _sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    made: list[ChildSource] = []

    def make(version: str, app: str, *folders: Path, limit: int | None = None, **env: str) -> ChildSource:
        command = [str(python_of(version)), "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", "{port}"]
        path = os.pathsep.join(str(folder) for folder in (*folders, SERVERS))
        source = ChildSource(tmp_path_factory.mktemp("server"), command, limit, PYTHONPATH=path, **env)
        made.append(source)
        return source

    yield make
    for source in made:
        source.kill()


@pytest.fixture
def sources(_sources: Sources) -> Iterator[Sources]:
    """`sources("0.3.0", "bench:app", CAPACITY="1")` starts such servers; all are gone after the test."""
    made: list[ChildSource] = []

    def make(*args: Any, **options: Any) -> ChildSource:
        made.append(_sources(*args, **options))
        return made[-1]

    yield make
    for source in made:
        source.kill()


@pytest.fixture(scope="session")
def shared(_sources: Sources) -> Callable[..., str]:
    """`shared("0.3.0", "bench:app")`: the address of a running server that all tests share."""
    urls: dict[tuple[Any, ...], str] = {}

    def url(*args: Any) -> str:
        if args not in urls:
            child = _sources(*args).spawn()
            wait_healthy(child.url)
            urls[args] = child.url
        return urls[args]

    return url


@pytest.fixture(params=list(VERSIONS))
def version(request: pytest.FixtureRequest) -> str:
    """Every version in turn."""
    return request.param


class Script(Policy):
    """A model that says what it is told to, turn by turn: text, or (tool, arguments) pairs. `asked` holds the prompts."""

    def __init__(self, *turns: Any) -> None:
        super().__init__()
        self.turns = turns
        self.asked: list[Any] = []

    def answer(self, prompt, tools, action_schema, rng) -> vf.AssistantMessage:
        turn = self.turns[len(self.asked) % len(self.turns)]
        self.asked.append(list(prompt))
        if isinstance(turn, dict):
            return vf.AssistantMessage(json.dumps(turn))
        if isinstance(turn, str):
            return vf.AssistantMessage(turn)
        calls = [vf.ToolCall(f"call_{at}", name, json.dumps(given)) for at, (name, given) in enumerate(turn)]
        return vf.AssistantMessage(None, tool_calls=calls)


async def play(env: vf.Environment, client: Policy, seed: int | None = 1, **row: Any) -> vf.State:
    """One scored rollout of an episode with this seed."""
    info = {} if seed is None else {"seed": seed}
    state = await env.rollout({"info": info, "example_id": 0, "prompt": [], **row}, client, "scripted")
    await env.score([state])
    return state


def as_text(observation, **kwargs):
    return [{"role": "user", "content": json.dumps(observation)}]


@pytest.fixture
async def environment(shared, sources):
    """`environment("0.3.0", "bench:app", …)`: an OpenEnvEnv on the shared server; with `alone` on servers of its own,
    `env.source`."""
    made: list[OpenEnvEnv] = []

    def make(version: str, app: str, *, alone: dict[str, str] | None = None, **options: Any) -> OpenEnvEnv:
        url = shared(version, app) if alone is None else None
        options = {"prompt_renderer": as_text, "server_url": url or "http://127.0.0.1:9", **options}
        env = OpenEnvEnv(**options)
        if alone is not None:
            source = sources(version, app, **alone)
            env.server_source = lambda: source
            env.source = source
        made.append(env)
        return env

    yield make
    for env in made:
        await env._teardown()
