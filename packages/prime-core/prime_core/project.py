"""An OpenEnv project: the `proj/` folder of an environment, in the two layouts of the seeds.

flat      Dockerfile, server.py, requirements.txt
server    server/Dockerfile, server/app.py, pyproject.toml, openenv.yaml
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prime_core.contract import detect
from prime_core.dockerfile import Stage, command_line, exposed_port, parse_dockerfile
from prime_core.errors import ProjectError
from prime_core.manifest import CONTRACTS

FOLDER = "proj"
DEFAULT_PORT = 8000


@dataclass(frozen=True)
class OpenEnvProject:
    """A project on disk. `dockerfile` is relative to `root`, `app` of the form `module:attribute`, `port` the
    server's own.

    `contract` and `start_command` are what the project itself declares (openenv.yaml, the Dockerfile's CMD), else None.
    """

    root: Path
    layout: str
    dockerfile: str
    app: str
    port: int
    contract: str | None = None
    start_command: str | None = None

    @property
    def app_file(self) -> Path:
        """The source file of the app's module."""
        module = self.root.joinpath(*self.app.partition(":")[0].split("."))
        package = module / "__init__.py"
        return package if package.is_file() else module.with_suffix(".py")


def project_dir(env_dir: Path) -> Path:
    """Where an environment's project lies."""
    return env_dir / FOLDER


def has_project(env_dir: Path) -> bool:
    """Whether this environment is an OpenEnv one: it has a `proj/` folder."""
    return project_dir(env_dir).is_dir()


def read_project(proj_dir: Path) -> OpenEnvProject:
    """Read a project's layout, port, app and start command. Raises ProjectError: what is missing, and where it
    belongs.
    """
    if not proj_dir.is_dir():
        raise ProjectError(
            f"No OpenEnv project at {proj_dir}.", "Make one with 'prime env init NAME --openenv', or move yours there."
        )
    if (proj_dir / "server" / "Dockerfile").is_file():
        return _server_layout(proj_dir)
    if (proj_dir / "Dockerfile").is_file():
        return _flat_layout(proj_dir)
    wanted = (
        "server/Dockerfile" if (proj_dir / "openenv.yaml").exists() or (proj_dir / "server").is_dir() else "Dockerfile"
    )
    raise ProjectError(
        f"The OpenEnv project {proj_dir} has no {wanted}.",
        "A project holds Dockerfile and server.py, or server/Dockerfile, server/app.py and openenv.yaml.",
    )


def _server_layout(root: Path) -> OpenEnvProject:
    for name in ("openenv.yaml", "pyproject.toml"):
        if not (root / name).is_file():
            raise ProjectError(
                f"The OpenEnv project {root} has server/Dockerfile but no {name}.",
                "See what 'prime env init NAME --openenv' writes there.",
            )
    settings = _settings(root / "openenv.yaml")
    app = _app(settings, root, "server.app:app")
    stage = _final_stage(root, "server/Dockerfile")
    port = _port(settings, root) or _port_of(stage) or DEFAULT_PORT
    return _checked(
        OpenEnvProject(root, "server", "server/Dockerfile", app, port, _contract(settings, root), command_line(stage))
    )


def _flat_layout(root: Path) -> OpenEnvProject:
    yaml = root / "openenv.yaml"
    settings = _settings(yaml) if yaml.is_file() else {}
    stage = _final_stage(root, "Dockerfile")
    command = command_line(stage)
    named = re.search(r"\b(?:uvicorn|gunicorn|hypercorn)\s(?:.*?\s)?([A-Za-z_][\w.]*:[A-Za-z_]\w*)", command or "")
    app = _app(settings, root, named[1] if named else "server:app")
    port = _port(settings, root) or _port_of(stage) or DEFAULT_PORT
    return _checked(OpenEnvProject(root, "flat", "Dockerfile", app, port, _contract(settings, root), command))


def _checked(project: OpenEnvProject) -> OpenEnvProject:
    if not project.app_file.is_file():
        name = project.app_file.relative_to(project.root).as_posix()
        raise ProjectError(
            f"The OpenEnv project {project.root} has no {name}, where its app '{project.app}' should be.",
            "Write it, or correct the app's name in openenv.yaml or the Dockerfile's CMD.",
        )
    return project


def _settings(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f", line {line + 1}"
        raise ProjectError(
            f"{path} is not valid YAML{where}.", "Correct it; see what 'vf-init NAME --openenv' writes."
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ProjectError(f"{path} does not hold a mapping of names to values.")
    return content


def _app(settings: dict[str, Any], root: Path, default: str) -> str:
    app = settings.get("app", default)
    if not isinstance(app, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", app):
        raise ProjectError(f"{root / 'openenv.yaml'}: `app` must look like server.app:app, not {app!r}.")
    return app


def _port(settings: dict[str, Any], root: Path) -> int | None:
    port = settings.get("port")
    if port is None:
        return None
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ProjectError(f"{root / 'openenv.yaml'}: `port` must be a number from 1 to 65535, not {port!r}.")
    return port


def _contract(settings: dict[str, Any], root: Path) -> str | None:
    contract = settings.get("contract")
    if contract is not None and contract not in CONTRACTS:
        raise ProjectError(f"{root / 'openenv.yaml'}: `contract` must be 'gym' or 'mcp', not {contract!r}.")
    return contract


def _final_stage(root: Path, dockerfile: str) -> Stage:
    try:
        text = (root / dockerfile).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ProjectError(f"{root / dockerfile} cannot be read as UTF-8 text.") from None
    return parse_dockerfile(text)[-1]


def _port_of(stage: Stage) -> int | None:
    """The port of the start command, else of EXPOSE: the command is what the server really does."""
    found = re.search(r"--port[= ](\d{1,5})\b|--bind[= ]\S+:(\d{1,5})\b", command_line(stage) or "")
    return int(found[1] or found[2]) if found else exposed_port(stage)


def detect_contract(project: OpenEnvProject) -> str:
    """`gym` or `mcp`: what the project declares, else what its app's source shows. Raises ProjectError when neither
    tells.
    """
    return project.contract or detect(project.app_file, project.root)


def contract_place(project: OpenEnvProject) -> str:
    """Where the contract was read: `openenv.yaml, line 7`, or the app's file."""
    if project.contract is None:
        return project.app_file.relative_to(project.root).as_posix()
    lines = (project.root / "openenv.yaml").read_text(encoding="utf-8").splitlines()
    number = next(
        (number for number, line in enumerate(lines, 1) if re.match(r"\s*[\"']?contract[\"']?\s*:", line)), None
    )
    return "openenv.yaml" if number is None else f"openenv.yaml, line {number}"


def default_start_command(project: OpenEnvProject) -> str:
    """The command that starts the server: for the flat layout the Dockerfile's CMD (else uvicorn on the app), for the
    server layout the seed's line, where Dockerfiles put the project at /app/env and its packages at /app/.venv."""
    if project.layout == "server":
        uvicorn = f"/app/.venv/bin/uvicorn {project.app} --host 0.0.0.0 --port {project.port}"
        return f'sh -lc "cd /app/env && {uvicorn}"'
    return project.start_command or f"uvicorn {project.app} --host 0.0.0.0 --port {project.port}"
