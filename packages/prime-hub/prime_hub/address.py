"""`hub.json`: where this data folder's Hub is, for the commands on the same machine."""

from __future__ import annotations

import json
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prime_hub import __version__


def read(path: Path) -> dict[str, Any]:
    """What the last Hub wrote; empty when there is nothing to read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(path: Path, url: str, hub_id: str, runner_pid: int | None) -> None:
    """Say, at once or not at all, that the Hub answers at `url`."""
    _write(
        path,
        {
            "url": url,
            "pid": os.getpid(),
            "runner_pid": runner_pid,
            "hub_id": hub_id,
            "version": __version__,
            # So that a command of an installation without a Hub can start this one again.
            "python": sys.executable,
            "started_at": read(path).get("started_at") if read(path).get("pid") == os.getpid() else _now(),
        },
    )


def clear(path: Path, runner_pid: int | None) -> None:
    """Say that the Hub has stopped. The address stays, so that the next one takes the same port."""
    found = read(path)
    if found.get("pid") == os.getpid():
        _write(path, {**found, "pid": None, "runner_pid": runner_pid})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(path: Path, content: dict[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        scratch.write_text(json.dumps(content, indent=2) + "\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
