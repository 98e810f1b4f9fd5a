"""`vf-eval ENV --server URL`: play on an OpenEnv server that already runs. No Hub is needed, and no image."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from verifiers.errors import SandboxError
from verifiers.evaluation.models import check_address
from verifiers.loading import load_environment, module_name
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    from verifiers.envs.environment import Environment

ARGUMENT = "server_url"


def load_on_server(name: str, env_args: Mapping[str, Any], url: str) -> Environment:
    """The environment `name`, set to play on the server at `url`, which has been asked whether it fits.

    Its arguments stay as given: where a server listens makes no run another one. Raises ValueError and RuntimeError:
    what `load_environment` raises, no http address, no OpenEnv environment, no answer, another contract.
    """
    check_address(url, "--server", "http://127.0.0.1:8000")
    if "?" in url or "#" in url:
        raise ValueError(
            f"--server is the server's address alone, and /health, /reset and the like are added to it: leave out what "
            f"follows {shown_url(url).split('#')[0]}"
        )
    if ARGUMENT in env_args:
        raise ValueError(f"--server and the argument {ARGUMENT} (-a) both name a server; leave one of them out.")
    # Given to the constructor where that can be, since a project without an image then needs none.
    extra = {ARGUMENT: url} if _takes_server(name) else {}
    try:
        env = load_environment(name, **env_args, **extra)
    except (ValueError, RuntimeError) as error:
        if extra or ".build.json" not in str(error):
            raise
        raise RuntimeError(
            f"{error} Or let its load_environment take **kwargs and hand them to OpenEnvEnv: then --server needs no image."
        ) from error
    env.env_args = {key: value for key, value in env.env_args.items() if key != ARGUMENT}
    from verifiers.envs.integrations.openenv_env import OpenEnvEnv

    if not isinstance(env, OpenEnvEnv):
        raise ValueError(
            f"The environment '{name}' is no OpenEnv environment ({type(env).__name__}), so it plays on no server; "
            "leave --server out."
        )
    env.set_server_url(url)
    asyncio.run(_ask(name, url.rstrip("/"), env.contract))
    return env


def _takes_server(name: str) -> bool:
    """Whether load_environment has a place for the address."""
    try:
        parameters = inspect.signature(importlib.import_module(module_name(name)).load_environment).parameters
    except Exception:  # loading it says what is wrong
        return False
    return ARGUMENT in parameters or any(part.kind is part.VAR_KEYWORD for part in parameters.values())


async def _ask(name: str, url: str, contract: str | None) -> None:
    from verifiers.openenv import probe
    from verifiers.openenv.schema import contract_of

    shown = shown_url(url)
    async with probe.new_client(url) as client:
        problem = await probe.health_problem(client, url, 5.0)
        if problem is not None:
            if problem.startswith("HTTP 401"):
                raise ValueError(
                    f"The server at {shown} asks for a user and a password ({problem}), or for other ones: "
                    "--server http://USER:PASSWORD@…"
                )
            if problem.startswith("no answer"):
                raise ValueError(
                    f"Something listens at {shown} and gives {problem}: a server whose code is still loading, or could not "
                    "be loaded; its own output says which."
                )
            raise ValueError(
                f"No OpenEnv server answers at {shown}: {problem}. Start it, as in "
                "'uvicorn server:app --port 8000' in the project's folder, or correct --server."
            )
        try:
            action = (await probe.fetch_schema(client, url))["action"]
        except SandboxError as error:
            raise ValueError(
                f"The server at {shown} is healthy, but is no OpenEnv server, or an unfinished one. {error}"
            ) from error
    found = contract_of(action)
    if contract not in (None, found):
        raise ValueError(
            f"OpenEnv contract mismatch: the server at {shown} speaks '{found}', and the manifest proj/.build.json "
            f"says '{contract}'. Correct --server, or build the project as it is now: vf-build {name}"
        )
