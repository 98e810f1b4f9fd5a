"""What vf-build says of a built image's server; every failure has a sentence of its own and what to change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from verifiers.openenv.check import CheckFailed, check_server, loopback_host
from verifiers.openenv.schema import contract_of, schema_problem

BROKEN = """
import os
from fastapi import FastAPI

app = FastAPI()
action = {"type": "object", "properties": {"move": {"type": os.environ.get("KIND", "string")}}}
health = os.environ.get("HEALTH", "/health")
schema = {"action": action, "observation": {"type": "object"}} if os.environ.get("SCHEMA") != "none" else []

app.get(health)(lambda: {"status": "healthy"})
app.get("/schema")(lambda: schema)
"""


def everywhere(port: str = "{port}", host: str = "0.0.0.0") -> list[str]:
    return [sys.executable, "-m", "uvicorn", "server:app", "--host", host, "--port", port]


@pytest.fixture
def broken(serve, monkeypatch):
    """A source of servers that can be wrong in several ways."""

    def make(command: list[str] | None = None, **env: str):
        source = serve("counter", command=command or everywhere(), **env)
        (source.folder / "server.py").write_text(BROKEN)
        return source

    return make


async def looked_at(
    source, contract: str | None = "gym", port: int | None = None, startup_timeout: float = 20.0, place="server.py"
):
    """Check it on the port that it was started on, which only the running child knows."""
    child = await source.start()

    class Started:
        limit = 1

        async def start(self):
            return child

        async def aclose(self):
            return None

    number = port or int(child.url.rpartition(":")[2])
    return await check_server(Started(), contract=contract, port=number, startup_timeout=startup_timeout, place=place)


@pytest.mark.parametrize(("server", "contract"), [("seed_gym", "gym"), ("seed_mcp", "mcp"), ("counter", "gym")])
async def test_good_servers_pass_and_are_stopped(serve, server, contract):
    source = serve(server, command=everywhere())
    checked = await looked_at(source, contract)
    assert checked.seconds > 0 and "Uvicorn running" in checked.log and not source.alive


async def failure(source, **options) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        await looked_at(source, **options)
    assert not source.alive and caught.value.hint
    return caught.value


async def test_bound_to_loopback_only(broken):
    error = await failure(broken(everywhere(host="127.0.0.1")))
    assert str(error) == "The server binds to 127.0.0.1 only, so nothing outside its container can reach it."
    assert "--host 0.0.0.0" in str(error.hint)


@pytest.mark.parametrize(
    ("command", "host"),
    [
        ("uvicorn server:app --host 0.0.0.0 --port 8000", None),
        ("uvicorn server:app --port 8000", "127.0.0.1"),
        ("uvicorn server:app --host=127.0.0.1", "127.0.0.1"),
        ('sh -lc "cd /app/env && /app/.venv/bin/uvicorn server.app:app --host localhost --port 8000"', "localhost"),
        ("python -m server", None),
    ],
)
def test_what_a_start_command_binds_to(command, host):
    assert loopback_host(command) == host


async def test_another_port(broken):
    error = await failure(broken(), port=8000)
    assert "The server listens on port " in str(error) and "not on port 8000" in str(error)
    assert "openenv.yaml" in str(error.hint)


async def test_no_health_route(broken):
    error = await failure(broken(HEALTH="/healthz"), startup_timeout=6.0)
    assert "The server answers, but with HTTP 404 from /health" in str(error) and "GET /health" in str(error.hint)


async def test_a_crash_on_start_shows_the_log(serve):
    error = await failure(serve("counter", command=[sys.executable, "-c", "raise SystemExit('no board')"]))
    assert "exited on start (exit code 1)" in str(error) and "Logs" not in str(error)
    assert "no board" in error.log and "vf-build" in str(error.hint)


async def test_never_listening(serve):
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    error = await failure(serve("counter", command=sleeper), startup_timeout=0.5)
    assert "not ready. Health check timeout=0.5s" in str(error) and "--startup-timeout" in str(error.hint)


async def test_no_schema_and_a_schema_that_is_none(broken):
    assert "OpenEnv /schema response must be a JSON object." in str(await failure(broken(SCHEMA="none")))
    error = await failure(broken(KIND="text"))
    assert "GET /schema holds no valid JSON Schema: action.properties.move.type is 'text'" in str(error)


@pytest.mark.parametrize(("server", "contract"), [("seed_gym", "mcp"), ("seed_mcp", "gym")])
async def test_the_running_server_has_the_last_word_on_the_contract(serve, server, contract):
    other = "gym" if contract == "mcp" else "mcp"
    checked = await looked_at(serve(server, command=everywhere()), contract)
    has = "has no" if contract == "mcp" else "has"
    assert checked.contract == other and checked.mismatch == (
        f"OpenEnv contract mismatch: server.py reads as '{contract}', but the running server's action schema {has} "
        f"tool_name and arguments, which is '{other}'. The running server counts: .build.json says '{other}'. "
        f"Correct it, or write 'contract: {other}' into proj/openenv.yaml."
    )
    line = await looked_at(serve(server, command=everywhere()), contract, place="openenv.yaml, line 7")
    assert f"openenv.yaml, line 7 reads as '{contract}'" in str(line.mismatch)
    assert str(line.mismatch).endswith(f".build.json says '{other}'. Correct that line.")
    for agreed in (None, other):
        assert (await looked_at(serve(server, command=everywhere()), agreed)).mismatch is None


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ([], "a is not a JSON object but []."),
        ({"type": "str"}, "a.type is 'str', which is no JSON Schema type (array, boolean,"),
        ({"properties": ["x"]}, "a.properties must be an object of schemas, not ['x']."),
        ({"properties": {"x": "string"}}, "a.properties.x is not a JSON object but 'string'."),
        ({"required": True}, "a.required must be a list of names, not True."),
        ({"enum": "yes"}, "a.enum must be a list of values, not 'yes'."),
        ({"anyOf": [{"type": "string"}, {"type": 3}]}, "a.anyOf[1].type is 3, which is no JSON Schema type"),
        ({"items": {"minimum": "0"}}, "a.items.minimum must be a number, not '0'."),
        ({"minLength": 1.5}, "a.minLength must be a whole number, not 1.5."),
        ({"$defs": {"B": {"oneOf": []}}}, "a.$defs.B.oneOf must be a list of schemas, not []."),
    ],
)
def test_what_is_no_json_schema(schema, problem):
    assert (schema_problem(schema, "a") or "").startswith(problem)


def test_what_is_json_schema():
    from pydantic import BaseModel, Field

    class Part(BaseModel):
        size: float = Field(gt=0)
        name: str | None = None

    class Whole(BaseModel):
        parts: list[Part] = Field(min_length=1)
        extra: dict[str, int | bool] = {}

    for schema in (Whole.model_json_schema(), {}, True, {"type": ["string", "null"]}, {"enum": [1, "a", None]}):
        assert schema_problem(schema, "a") is None
    assert contract_of(Whole.model_json_schema()) == "gym"


def test_the_examples_servers_read_as_what_they_are():
    from prime_core.project import detect_contract, read_project

    environments = Path(__file__).parents[2] / "environments"
    assert detect_contract(read_project(environments / "openenv_cartpole" / "proj")) == "gym"
    assert detect_contract(read_project(environments / "openenv_echo" / "proj")) == "mcp"
