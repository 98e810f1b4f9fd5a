"""Which copy of an environment is in use: its version, and where its code lies.

An installed copy goes before `./environments/<module>`, as with every import, so a run has to say which one it plays.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from verifiers.loading import environment_name, environment_version, local_folder, module_name, plain_name

DEFAULT_BASE = "./environments"
INSTALLED_IN = frozenset({"site-packages", "dist-packages"})


class WrongVersion(ValueError):
    """The environment that is here has another version than the one asked for; the text says how to get that."""


@dataclass(frozen=True, slots=True)
class Origin:
    """`place` is "installed" or a folder; `unused` the environment's folder under the base when another copy is in use."""

    name: str
    version: str | None
    place: str
    unused: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.place})" if self.version else f"{self.name} ({self.place})"

    def unused_note(self, base: str | os.PathLike[str] = DEFAULT_BASE) -> str:
        """One line on the folder that is not in use, and how to use it."""
        option = "" if Path(base) == Path(DEFAULT_BASE) else f" --path {base}"
        return f"Note: this plays {self}, not {self.unused}; to play that: prime env install {self.name}{option}"


def is_installed_path(path: Path) -> bool:
    """Whether a file lies where installers put copies, so that nobody edits it."""
    return not INSTALLED_IN.isdisjoint(path.parts)


def origin_of(env_id: str, base: str | os.PathLike[str] = DEFAULT_BASE) -> Origin:
    """The copy of an importable environment that an import takes. Raises ValueError when nothing can be imported."""
    spec = importlib.util.find_spec(module_name(env_id))
    if spec is None:
        raise ValueError(f"The environment '{env_id}' cannot be imported.")
    # A package is named by the folder that holds it, as a module is.
    inside = [Path(place).parent for place in spec.submodule_search_locations or ()]
    holder = inside[0] if inside else Path(spec.origin or "").parent
    local = local_folder(env_id, base)
    shown = None if local is None else str(local) if local.is_absolute() else f"./{local.as_posix()}"
    installed = is_installed_path(holder)
    if local is not None and not installed and (holder / "x").resolve().is_relative_to(local.resolve()):
        place, shown = str(shown), None
    else:
        place = "installed" if installed else str(holder)
    if local is not None and not (local / "pyproject.toml").is_file():
        shown = None  # a folder of results only
    return Origin(environment_name(env_id), environment_version(env_id), place, shown)


def check_version(env_id: str, origin: Origin) -> None:
    """Raises WrongVersion when `env_id` (`owner/name@version`) asks for another version than `origin` has."""
    asked = env_id.rpartition("/")[2].partition("@")[2]
    if asked in ("", "latest") or (origin.version is not None and _same(asked, origin.version)):
        return
    owner = env_id.rpartition("/")[0] or "OWNER"
    has = f"is version {origin.version} here" if origin.version else "says no version here"
    raise WrongVersion(
        f"The environment '{origin.name}' {has} ({origin.place}), not {asked}; "
        f"install that with: prime env install {owner}/{plain_name(env_id)}@{asked}"
    )


def _same(one: str, other: str) -> bool:
    """As PEP 440 compares: 1.0 is 1.0.0."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
