"""`.prime/.env-metadata.json` in an environment's folder: where it was pushed to or pulled from (hub.md §3.4).

It stays on the machine: dot-folders are never part of what is published.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prime_core.files import write_atomic

NAME = ".env-metadata.json"


def read_record(env_dir: Path) -> dict[str, Any]:
    """The record, `{}` when there is none that can be read. An old one at the folder's top is moved to its place."""
    path, old = env_dir / ".prime" / NAME, env_dir / NAME
    if old.is_file() and not path.exists():
        path.parent.mkdir(exist_ok=True)
        old.rename(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def record_push(env_dir: Path, *, environment_id: str, owner: str, name: str, version: str, wheel_sha256: str) -> None:
    """Note a push. When it went to another owner or name than the last push or pull, that one becomes the origin."""
    before = read_record(env_dir)
    record: dict[str, Any] = {
        "environment_id": environment_id,
        "owner": owner,
        "name": name,
        "version": version,
        "wheel_sha256": wheel_sha256,
        "pushed_at": _now(),
    }
    kept = {key: before[key] for key in ("forked_from", "origin", "fork_chain") if key in before}
    if before.get("owner") and (before["owner"], before.get("name")) != (owner, name):
        source = _source(before)
        kept = {
            "forked_from": source,
            "origin": before.get("origin") or source,
            "fork_chain": [*before.get("fork_chain", []), source],
        }
    _write(env_dir, {**record, **kept})


def record_pull(env_dir: Path, *, environment_id: str, owner: str, name: str, version: str) -> None:
    """Note a pull into a fresh folder."""
    record = {"environment_id": environment_id, "owner": owner, "name": name, "version": version, "pulled_at": _now()}
    _write(env_dir, {**record, "origin": _source(record), "fork_chain": []})


def _source(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("owner", "name", "environment_id", "version")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(env_dir: Path, record: dict[str, Any]) -> None:
    write_atomic(env_dir / ".prime" / NAME, json.dumps(record, indent=2) + "\n")
