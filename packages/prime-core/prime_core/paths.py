"""Where things lie on the user's machine. Every function reads the environment anew, so that tests and children can
move it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable, "").strip()
    return Path(value).expanduser().absolute() if value else None


def prime_home() -> Path:
    """`$HOME/.prime`: configuration, shared with the official command (protocols/hub.md §1.1)."""
    return Path.home() / ".prime"


def hub_data_dir() -> Path:
    """Everything of the machine's own Hub: `$PRIME_HUB_DATA_DIR`, else `~/.prime/hub`."""
    return _folder("PRIME_HUB_DATA_DIR") or prime_home() / "hub"


def cache_dir() -> Path:
    """What can be deleted at any time: `$PRIME_CACHE_DIR`, `$XDG_CACHE_HOME/prime` or `~/.cache/prime`."""
    own = _folder("PRIME_CACHE_DIR")
    if own:
        return own
    shared = _folder("XDG_CACHE_HOME")
    return shared / "prime" if shared else Path.home() / ".cache" / "prime"


def served_wheels_dir() -> Path:
    """Wheels of our own distributions, which the Hub hands out: `$PRIME_HUB_WHEELS`, else
    `<sys.prefix>/share/prime/wheels`.
    """
    return _folder("PRIME_HUB_WHEELS") or Path(sys.prefix) / "share" / "prime" / "wheels"
