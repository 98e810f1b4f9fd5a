"""Libraries that only some environments need: imported when the first one does, with a sentence when they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(module: str, user: str, requirement: str, extra: str) -> ModuleType:
    """The module. Raises ImportError, with what to install, when its distribution is not there."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{user} requires {module.partition('.')[0]}. Install with: uv add '{requirement}' (the extra verifiers[{extra}])"
        ) from None
