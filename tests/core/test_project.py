"""Both project layouts, their start commands and contracts, and a sentence for everything that can be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from prime_core.errors import ProjectError
from prime_core.project import contract_place, default_start_command, detect_contract, has_project, read_project
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


MODELS = """\
from openenv.core.env_server.types import Action, CallToolAction, Observation
class Move(Action):
    where: str
class Seen(Observation):
    board: str
class Say(CallToolAction):
    pass
class Louder(Say):
    pass
class Own(Action):
    tool_name: str
    arguments: dict
"""
MAKE = "from openenv.core.env_server.http_server import create_app as make\n"


@pytest.mark.parametrize(
    ("imports", "contract"),
    [
        ("from models import Louder as A", "mcp"),
        ("from models import Own as A", "mcp"),
        ("from models import Move as A", "gym"),
        ("from ..models import Louder as A", "mcp"),
        ("from my_env.models import Louder as A", "mcp"),
        ("from my_env.models import Move as A", "gym"),
        ("from openenv_core import CallToolAction as A", "mcp"),
        ("import models\nA = models.Louder", "mcp"),
        ("import my_env.models as m\nA = m.Own", "mcp"),
        ("from models import *\nA = Louder", "mcp"),
        ("from shared import A", "mcp"),
        ("try:\n    from ..models import Louder as A\nexcept ImportError:\n    from models import Louder as A", "mcp"),
        ("from nowhere import A", "gym"),
    ],
)
@pytest.mark.parametrize("call", ["make(Env, A, Seen)", "make(env=Env, observation_cls=Seen, action_cls=A)"])
def test_action_classes_are_followed_through_the_project(tmp_path: Path, imports: str, contract: str, call: str):
    server_layout(tmp_path, f"{MAKE}{imports}\ndef build():\n    return {call}\napp = build()\n")
    write_files(tmp_path, {"models.py": MODELS, "shared/__init__.py": "from .inner import A\n"})
    write_files(tmp_path, {"shared/inner.py": "from models import Louder as A\nfrom . import A as again\n"})
    assert detect_contract(read_project(tmp_path)) == contract


@pytest.mark.parametrize(
    "made",
    [
        "from openenv_core.env_server import create_fastapi_app\napp = create_fastapi_app(Env(), CallToolAction, Seen)",
        "from openenv.core.env_server import create_web_interface_app as web\napp = web(Env(), CallToolAction, Seen)",
        "import openenv.core.env_server.http_server as h\napp = h.create_app(Env, h.CallToolAction, h.Seen)",
        "server = HTTPEnvServer(env=Env, action_cls=CallToolAction, observation_cls=Seen)\nserver.register_routes(app)",
    ],
)
def test_every_factory_is_known(tmp_path: Path, made: str):
    assert detect_contract(read_project(server_layout(tmp_path, made))) == "mcp"
    plain = made.replace("CallToolAction", "Move")
    assert detect_contract(read_project(server_layout(tmp_path, plain))) == "gym"


CALL_MODELS = """\
from pydantic import BaseModel
class Call(BaseModel):
    tool_name: str
    arguments: dict = {}
class Request(BaseModel):
    action: "Call"
class Plain(BaseModel):
    move: str
"""


@pytest.mark.parametrize(
    ("source", "contract"),
    [
        ('from models import Call\n@app.post("/step")\ndef step(body: Call): return play(body)', "mcp"),
        ('from models import Request\n@app.post("/step")\ndef step(body: Request): return play(body)', "mcp"),
        ('from models import Call, Plain\n@app.post("/step")\ndef step(body: Plain | Call): return play(body)', "mcp"),
        ('from models import Plain\n@app.post("/step")\ndef step(body: Plain): return play(body)', "gym"),
        ('from models import Plain\ndef create_app(): ...\napp = create_app()\n@app.post("/step")\ndef step(b: Plain): ...', "gym"),
        ('from handlers import step\napp.add_api_route("/step", step, methods=["POST"])', "mcp"),
        ('from routes import router\napp.include_router(router)', "mcp"),
        ('from routes import app', "mcp"),
        ('from fastmcp import tools\napp.mount("/mcp", tools)', "mcp"),
        ('routes = [Route("/step", step, methods=["POST"]), Route("/mcp", mcp, methods=["POST"])]', "mcp"),
        ('routes = [Route("/step", step, methods=["POST"]), Route("/mcp", page, methods=["GET"])]', "gym"),
    ],
)  # fmt: skip
def test_plain_servers_are_followed_through_the_project(tmp_path: Path, source: str, contract: str):
    flat(tmp_path, source)
    handlers = "from models import Call\ndef step(call: Call): return play(call)\n"
    routes = 'from models import Call\n@router.post("/step/")\nasync def step(call: Call): return play(call)\n'
    write_files(tmp_path, {"models.py": CALL_MODELS, "handlers.py": handlers, "routes.py": routes})
    assert detect_contract(read_project(tmp_path)) == contract


def test_an_app_in_another_module_than_usual(tmp_path: Path):
    server_layout(tmp_path, "", YAML.replace("server.app:app", "game.main:api"))
    write_files(tmp_path, {"game/main.py": "from game.build import api\n"})
    write_files(
        tmp_path, {"game/build.py": "from openenv.core import create_app\napi = create_app(Env, CallToolAction, Seen)"}
    )
    project = read_project(tmp_path)
    assert detect_contract(project) == "mcp" and contract_place(project) == "game/main.py"


def test_files_that_cannot_be_read_are_somebody_elses(tmp_path: Path):
    flat(tmp_path, "from broken import Action\nfrom nowhere.at_all import *\napp = create_app(Env, Action, Seen)\n")
    write_files(tmp_path, {"broken.py": "def (:\n"})
    assert detect_contract(read_project(tmp_path)) == "gym"
    flat(tmp_path, "import a\nfrom a import X\napp = create_app(Env, X, Seen)\n")
    write_files(tmp_path, {"a.py": "from b import X\n", "b.py": "from a import X\nclass Y(Y): ...\n"})
    assert detect_contract(read_project(tmp_path)) == "gym", "round in a circle"


def test_where_a_contract_was_read(tmp_path: Path):
    assert contract_place(read_project(flat(tmp_path))) == "server.py"
    write_files(tmp_path, {"openenv.yaml": "spec_version: 1\n# contract: gym\ncontract: mcp\n"})
    assert contract_place(read_project(tmp_path)) == "openenv.yaml, line 3"


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
