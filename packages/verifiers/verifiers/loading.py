"""Finding and loading environments by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifiers.envs.environment import Environment

DEFAULT_NUM_EXAMPLES = 5
DEFAULT_ROLLOUTS_PER_EXAMPLE = 3


class MissingKeyError(ValueError):
    """Environment variables that an environment needs and that are not set; their names are in `keys`."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = list(keys)
        super().__init__(
            f"Missing environment variables: {', '.join(self.keys)}. Set them, for example: export {self.keys[0]}=..."
        )


def ensure_keys(keys: Iterable[str]) -> None:
    """Raise MissingKeyError naming every environment variable of `keys` that is not set."""
    missing = [key for key in keys if not os.environ.get(key)]
    if missing:
        raise MissingKeyError(missing)


def module_name(env_id: str) -> str:
    """The module of an environment: `owner/my-env@0.1.0` and `my-env` are both `my_env`."""
    return re.sub(r"[-.]", "_", plain_name(env_id))


def plain_name(env_id: str) -> str:
    """An environment's name as it was written, without owner and version."""
    return env_id.split("/")[-1].split("@")[0]


def environment_name(env_id: str) -> str:
    """The plain name of an environment: `owner/my_env@0.1.0` is `my-env`."""
    return re.sub(r"[-_.]+", "-", plain_name(env_id)).lower()


def local_folder(env_id: str, base: str | os.PathLike[str] = "./environments") -> Path | None:
    """The folder of a local environment under `base`, or None."""
    folder = Path(base).expanduser() / module_name(env_id)
    return folder if folder.is_dir() else None


def make_importable(env_id: str, base: str | os.PathLike[str] = "./environments") -> bool:
    """Put a local environment that is not installed on `sys.path`; whether the environment can be imported now."""
    name = module_name(env_id)
    if importlib.util.find_spec(name) is not None:
        return True
    folder = local_folder(env_id, base)
    if folder is None:
        return False
    sys.path.insert(0, str(folder.resolve()))
    importlib.invalidate_caches()
    return importlib.util.find_spec(name) is not None


def load_environment(env_id: str, **env_args: Any) -> Environment:
    """The environment that `load_environment(**env_args)` of the module of `env_id` gives.

    Raises ValueError (not installed), RuntimeError (its own code failed), MissingKeyError.
    """
    name = module_name(env_id)
    try:
        module = importlib.import_module(name)
    except MissingKeyError:
        raise
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise ValueError(
                f"Could not import '{env_id}' environment. "
                f"Ensure the package for the '{env_id}' environment is installed."
            ) from error
        raise ValueError(
            f"Could not import '{env_id}' environment: {error}. {_how_to_get(error, env_id)}".rstrip()
        ) from error
    except Exception as error:
        raise RuntimeError(f"Failed to load environment '{env_id}': {_sentence(error)}") from error
    if not callable(getattr(module, "load_environment", None)):
        raise RuntimeError(
            f"Failed to load environment '{env_id}': its module {name} has no load_environment function."
        )
    try:
        env = module.load_environment(**env_args)
    except MissingKeyError:
        raise
    except ModuleNotFoundError as error:
        raise RuntimeError(f"Failed to load environment '{env_id}': {error}. {_how_to_get(error, env_id)}") from error
    except Exception as error:
        raise RuntimeError(f"Failed to load environment '{env_id}': {_sentence(error)}") from error
    from verifiers.envs.environment import Environment

    if not isinstance(env, Environment):
        raise RuntimeError(
            f"Failed to load environment '{env_id}': its load_environment returned {type(env).__name__}, "
            "not an environment."
        )
    env.env_id = env.env_id or env_id
    env.env_args = env.env_args or dict(env_args)
    return env


_EXTRAS = {
    "anthropic": "anthropic",
    "datasets": "datasets",
    "gymnasium": "gym",
    "math_verify": "math",
    "mcp": "mcp",
    "prime_sandboxes": "sandbox",
    "reasoning_gym": "reasoning-gym",
    "textarena": "textarena",
}
"""Modules that an extra of this library brings, and the extra."""


def _how_to_get(error: ImportError, env_id: str) -> str:
    """How to get what is missing: an extra of this library, or what the environment's own pyproject.toml names."""
    if "Install with: " in str(error):
        return ""
    extra = _EXTRAS.get((error.name or "").partition(".")[0]) if isinstance(error, ModuleNotFoundError) else None
    name = environment_name(env_id)
    if extra is not None:
        return (
            f"It comes with the extra verifiers[{extra}]: let the environment's pyproject.toml require that, and run "
            f"'prime env install {name}'."
        )
    return f"Install what it depends on: prime env install {name}"


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__


def _pyproject(env_id: str) -> Mapping[str, Any]:
    """The pyproject.toml that lies beside the importable module and is really this environment's, or nothing."""
    try:
        spec = importlib.util.find_spec(module_name(env_id))
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        return {}
    folder = Path(spec.origin).parent
    for place in (folder, folder.parent) if spec.submodule_search_locations else (folder,):
        try:
            data = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if environment_name(str(data.get("project", {}).get("name", ""))) == environment_name(env_id):
            return data
    return {}


def environment_version(env_id: str) -> str | None:
    """The version of an environment: its pyproject.toml's, else the installed distribution's, else None."""
    version = _pyproject(env_id).get("project", {}).get("version")
    if version is not None:
        return str(version)
    try:
        return importlib.metadata.version(environment_name(env_id))
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class EvalDefaults:
    """How much to evaluate when nothing is said."""

    num_examples: int = DEFAULT_NUM_EXAMPLES
    rollouts_per_example: int = DEFAULT_ROLLOUTS_PER_EXAMPLE


def eval_defaults(env_id: str) -> EvalDefaults:
    """`[tool.verifiers.eval]` of the environment, else 5 examples with 3 rollouts each."""
    given = _pyproject(env_id).get("tool", {}).get("verifiers", {}).get("eval", {})
    counts = {name: given[name] for name in EvalDefaults.__slots__ if type(given.get(name)) is int and given[name] != 0}
    return EvalDefaults(**counts)
