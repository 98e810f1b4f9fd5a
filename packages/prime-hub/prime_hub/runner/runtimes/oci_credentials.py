"""Credentials for registries, from the Docker configuration of the runner's user. They are read when needed, never kept
and never shown."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any

DOCKER_HUB = "https://index.docker.io/v1/"


class Credentials:
    """What `docker login` left: in `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`."""

    async def of(self, domain: str) -> dict[str, str] | None:
        """The authorisation of a registry as the engine wants it; None for one that nobody logged in to."""
        config = await asyncio.to_thread(_read)
        keys = (domain, f"https://{domain}", *((DOCKER_HUB, "index.docker.io") if domain == "docker.io" else ()))
        for key in keys:
            found = _plain((config.get("auths") or {}).get(key))
            if found is not None:
                return {**found, "serveraddress": key}
        return None


def _read() -> dict[str, Any]:
    folder = os.environ.get("DOCKER_CONFIG")
    path = Path(folder) if folder else Path("~/.docker").expanduser()
    try:
        found = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token)}
    try:
        name, _, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": name, "password": password.rstrip("\0")} if name and password else None
