"""The environment variables that a child program gets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET = re.compile(
    r"(API_?KEY|TOKENS?|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(^|_)(KEY|PASS|PAT))($|_)", re.IGNORECASE
)
# The Hub's own settings, and what git and package installers need to reach their index.
_KEPT = re.compile(r"PRIME_HUB_(?!SECRET_KEY$)|UV_(?!PUBLISH_)|PIP_|GIT_CONFIG_KEY_")
# What a Hub seals with, and by which it reaches its database and its object storage.
_OF_HUB = re.compile(r"PRIME_HUB_|PG[A-Z]+$|AWS_|AZURE_|GOOGLE_")


def child_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`base` (this process's environment) without keys, tokens and passwords of other services."""
    base = os.environ if base is None else base
    return {
        name: value
        for name, value in base.items()
        # The address of a database holds its password.
        if not name.endswith("DATABASE_URL") and (_KEPT.match(name) or not _SECRET.search(name))
    }


def hub_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The same for a Hub, with its own key and the credentials of where it keeps things; for no other program."""
    base = os.environ if base is None else base
    return {**child_environment(base), **{name: value for name, value in base.items() if _OF_HUB.match(name)}}
