"""The environment variables that a child program gets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET = re.compile(
    r"(API_?KEY|TOKENS?|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(^|_)(KEY|PASS|PAT))($|_)", re.IGNORECASE
)
# The Hub's own settings, and what git and package installers need to reach their index.
_KEPT = re.compile(r"PRIME_HUB_|UV_(?!PUBLISH_)|PIP_|GIT_CONFIG_KEY_")


def child_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`base` (this process's environment) without keys, tokens and passwords of other services."""
    base = os.environ if base is None else base
    return {name: value for name, value in base.items() if _KEPT.match(name) or not _SECRET.search(name)}
