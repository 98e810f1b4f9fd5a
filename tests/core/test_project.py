"""Both project layouts, their start commands and contracts, and a sentence for everything that can be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from prime_core.errors import ProjectError
from prime_core.project import default_start_command, detect_contract, has_project, read_project
from tests.core.support import write_files

SEED_DOCKERFILE = """\
FROM python:3.11-slim

WORKDIR /app

COPY requirements.txt .
RUN pip install -r requirements.txt

COPY server.py .

CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
"""
GYM_SERVER = """\
from fastapi import FastAPI
app = FastAPI()

@app.post("/step")
def step(action: dict):
    return {"reward": int(action["action"])}
"""
MCP_SERVER = """\
from fastapi import FastAPI
app = FastAPI()

@app.post("/step")
def step(action: dict):
    tool_name = action["tool_name"]

@app.post("/mcp")
def mcp(request: dict):
    return {}
"""
CORE_APP = """\
from openenv.core.env_server import create_app
from models import EchoAction, EchoObservation
from server.echo import EchoEnvironment

app = create_app(EchoEnvironment, EchoAction, EchoObservation, env_name="echo")
"""
YAML = "spec_version: 1\nname: my_env\ntype: space\nruntime: fastapi\napp: server.app:app\nport: 8000\n"


def flat(folder: Path, server: str = GYM_SERVER, dockerfile: str = SEED_DOCKERFILE) -> Path:
    return write_files(folder, {"Dockerfile": dockerfile, "server.py": server, "requirements.txt": "fastapi\n"})


def server_layout(folder: Path, app: str = CORE_APP, yaml: str = YAML) -> Path:
    files = {
        "openenv.yaml": yaml,
        "pyproject.toml": "",
        "server/Dockerfile": "FROM openenv-base\n",
        "server/app.py": app,
    }
    return write_files(folder, files)


def test_the_seeds_flat_layout(tmp_path: Path):
    project = read_project(flat(tmp_path / "proj"))
    assert (project.layout, project.dockerfile, project.app, project.port) == ("flat", "Dockerfile", "server:app", 8000)
    assert project.app_file == tmp_path / "proj" / "server.py"
    # `python server.py`, as one of the seed's manifests has it, would end at once: there is no main.
    assert default_start_command(project) == "uvicorn server:app --host 0.0.0.0 --port 8000"
    assert has_project(tmp_path)
    assert not has_project(tmp_path / "proj")


def test_the_seeds_server_layout(tmp_path: Path):
    project = read_project(server_layout(tmp_path))
    assert (project.layout, project.dockerfile, project.app) == ("server", "server/Dockerfile", "server.app:app")
    assert default_start_command(project) == (
        'sh -lc "cd /app/env && /app/.venv/bin/uvicorn server.app:app --host 0.0.0.0 --port 8000"'
    )


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ("CMD uvicorn server:app --port 8000 --host $HOST", "uvicorn server:app --port 8000 --host $HOST"),
        ('CMD ["sh", "-c", "uvicorn server:app"]', "sh -c 'uvicorn server:app'"),
        ('ENTRYPOINT ["uvicorn"]\nCMD ["server:app"]', "uvicorn server:app"),
        ("CMD one\nCMD two", "two"),
        ("", "uvicorn server:app --host 0.0.0.0 --port 8000"),
    ],
)
def test_the_start_command_is_the_dockerfiles(tmp_path: Path, command: str, start: str):
    assert default_start_command(read_project(flat(tmp_path, dockerfile=f"FROM python:3.11\n{command}\n"))) == start


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        ("EXPOSE 9000", 9000),
        ("EXPOSE 53/udp 9001/tcp", 9001),
        ('EXPOSE 9000\nCMD ["uvicorn", "server:app", "--port", "7000"]', 7000),
        ("CMD uvicorn server:app --port=7001", 7001),
        ("", 8000),
    ],
)
def test_the_port_is_what_the_command_says_then_expose(tmp_path: Path, lines: str, port: int):
    assert read_project(flat(tmp_path, dockerfile=f"FROM python:3.11\n{lines}\n")).port == port


def test_the_app_of_the_command_is_found(tmp_path: Path):
    flat(tmp_path, dockerfile='FROM python:3.11\nCMD ["uvicorn", "game.main:api"]\n')
    write_files(tmp_path, {"game/main.py": MCP_SERVER})
    project = read_project(tmp_path)
    assert project.app == "game.main:api"
    assert detect_contract(project) == "mcp"


@pytest.mark.parametrize(
    ("source", "contract"),
    [
        (CORE_APP, "gym"),
        (CORE_APP.replace("EchoAction, EchoObservation", "CallToolAction, CallToolObservation"), "mcp"),
        ("app = create_app(Env, action_cls=CallToolAction, observation_cls=CallToolObservation)", "mcp"),
        ("import core\napp = core.create_fastapi_app(Env(), core.CallToolAction, core.CallToolObservation)", "mcp"),
        ("from core import CallToolAction as Action\napp = create_fastapi_app(Env(), Action, Observation)", "mcp"),
        ("class Mine(CallToolAction): ...\napp = create_app(Env, Mine, Seen)", "mcp"),
        ("from core import create_app as make\napp = make(Env, Move, Board)", "gym"),
        (GYM_SERVER, "gym"),
        (MCP_SERVER, "mcp"),
        (MCP_SERVER.replace('@app.post("/mcp")', '@app.get("/other")'), "mcp"),
        ('@app.api_route("/step", methods=["POST"])\nasync def step(action: Action): ...', "gym"),
        ('@app.post("/step")\ndef step(tool_name: str): ...', "mcp"),
    ],
)
def test_the_contract_is_read_from_the_source(tmp_path: Path, source: str, contract: str):
    assert detect_contract(read_project(server_layout(tmp_path, source))) == contract


def test_a_contract_that_is_declared_counts(tmp_path: Path):
    assert detect_contract(read_project(server_layout(tmp_path, "app = 1", YAML + "contract: mcp\n"))) == "mcp"


def test_an_app_that_shows_no_contract(tmp_path: Path):
    source = '@app.get("/health")\ndef health(): ...'
    with pytest.raises(ProjectError, match="Could not detect OpenEnv contract") as caught:
        detect_contract(read_project(server_layout(tmp_path, source)))
    assert "contract: gym" in (caught.value.hint or "")


def test_an_app_that_is_not_python(tmp_path: Path):
    with pytest.raises(ProjectError, match=r"app\.py, line 2: "):
        detect_contract(read_project(server_layout(tmp_path, "x = 1\ndef (:\n")))


@pytest.mark.parametrize("missing", ["openenv.yaml", "pyproject.toml", "server/app.py", "server/Dockerfile"])
def test_what_the_server_layout_lacks_is_named(tmp_path: Path, missing: str):
    server_layout(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ProjectError, match=missing):
        read_project(tmp_path)


@pytest.mark.parametrize("missing", ["Dockerfile", "server.py"])
def test_what_the_flat_layout_lacks_is_named(tmp_path: Path, missing: str):
    flat(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ProjectError, match=rf"has no {missing}"):
        read_project(tmp_path)


def test_no_project_at_all(tmp_path: Path):
    with pytest.raises(ProjectError, match="No OpenEnv project at") as caught:
        read_project(tmp_path / "proj")
    assert "--openenv" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("yaml", "wrong"),
    [
        ("app: [", "is not valid YAML, line"),
        ("- 1", "does not hold a mapping"),
        ("app: server/app.py", "`app` must look like server.app:app"),
        ("port: high", "`port` must be a number"),
        ("port: 99999", "`port` must be a number"),
        ("contract: chess", "`contract` must be 'gym' or 'mcp'"),
    ],
)
def test_a_wrong_openenv_yaml(tmp_path: Path, yaml: str, wrong: str):
    with pytest.raises(ProjectError, match=wrong):
        read_project(server_layout(tmp_path, yaml=yaml))


@pytest.mark.parametrize(
    "command",
    [
        'CMD ["uvicorn", "--host", "0.0.0.0", "--port", "8000", "game.main:app"]',
        "CMD uvicorn --port 8000 game.main:app --reload",
        "CMD python -m gunicorn --bind localhost:8000 game.main:app",
        'CMD ["uvicorn", "game.main:app", "--port", "8000"]',
    ],
)
def test_the_app_is_found_wherever_it_stands_in_the_command(tmp_path: Path, command: str):
    folder = write_files(tmp_path, {"Dockerfile": f"FROM python:3.11-slim\n{command}\n", "game/main.py": GYM_SERVER})
    assert read_project(folder).app == "game.main:app"
