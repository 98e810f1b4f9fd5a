"""What is known about one sandbox, in memory and in its `state.json`, and what of it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_hub.runner.runtimes.base import RunningSandbox
from prime_hub.runner.runtimes.values import SandboxSpec

LIVE = ("queued", "starting", "running")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
STATE_FILE = "state.json"
TAIL_FILE = "tail.log"


@dataclass
class Record:
    """One sandbox. Times are seconds since the epoch, None where there is no such limit or it has not happened."""

    spec: SandboxSpec
    folder: Path
    status: str = "starting"
    exit_code: int | None = None
    error_type: str | None = None
    error: str | None = None
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    lease_until: float | None = None
    expires_at: float | None = None
    idle_seconds: float | None = None
    last_used: float = field(default_factory=time.time)
    pid: int | None = None
    # What it ends as, from the moment that this is decided: (status, error_type, error).
    outcome: list[str | None] | None = None
    ports: dict[int, int] = field(default_factory=dict)
    host_rewritten: bool = False
    # It is in no table: one of the Hubs of this host keeps it, by its lease.
    spare: bool = False
    # Of one that has ended: how many bytes it printed, of which TAIL_FILE has the last.
    log_end: int | None = None
    saved: dict[str, Any] = field(default_factory=dict)

    running: RunningSandbox | None = field(default=None, repr=False)
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    ending: asyncio.Future[None] | None = field(default=None, repr=False)
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)
    holders: int = field(default=0, repr=False)
    """How many use it right now, though nothing is connected to it."""
    changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def live(self) -> bool:
        """Whether it may still have processes."""
        return self.status in LIVE

    @property
    def deadline(self) -> float | None:
        """When it is to be ended: the lease's or the sandbox's own limit, whichever comes first."""
        limits = [limit for limit in (self.lease_until, self.expires_at) if limit is not None]
        return min(limits, default=None)

    def state(self) -> dict[str, Any]:
        """The sandbox as the Hub sees it; never its environment."""
        return {
            "id": self.spec.id,
            "digest": self.spec.digest,
            "status": self.status,
            "pid": self.pid if self.live else None,
            "exit_code": self.exit_code,
            "error_type": self.error_type,
            "error": self.error,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "lease_until": self.lease_until,
            "expires_at": self.deadline,
            "ports": {str(port): host_port for port, host_port in self.ports.items()},
            "host_rewritten": self.host_rewritten,
            "spare": self.spare,
        }

    def announce(self) -> None:
        """Write the state down and wake those who wait for a change."""
        self.save()
        self.changed.set()
        self.changed = asyncio.Event()

    def save(self) -> None:
        """Write `state.json`. A full disk is survived: memory has the truth until a restart."""
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """Write `state.json` in one step. Raises OSError."""
        content = {
            # The environment is needed to run commands in it after a restart; it goes from disk with the sandbox.
            "spec": {**self.spec.as_dict(), "env": self.spec.env if self.live else {}},
            "saved": self.saved if self.live else {},
            "ports": {str(port): host_port for port, host_port in self.ports.items()},
            "log_end": self.log_end,
            "spare": self.spare,
            **{name: getattr(self, name) for name in _PLAIN},
        }
        write_private(self.folder / STATE_FILE, json.dumps(content))

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        """The record of a sandbox's folder, or None when there is none to be read."""
        try:
            content = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            record = cls(SandboxSpec.from_dict(content["spec"]), folder)
            for name in _PLAIN:
                setattr(record, name, content[name])
            record.log_end = content.get("log_end")
            record.spare = bool(content.get("spare"))
            record.saved = content["saved"]
            record.ports = {int(port): host_port for port, host_port in content["ports"].items()}
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return record


_PLAIN = (
    *("status", "exit_code", "error_type", "error", "created_at", "started_at", "ended_at"),
    *("lease_until", "expires_at", "idle_seconds", "last_used", "pid", "outcome", "host_rewritten"),
)


def write_private(target: Path, content: str) -> None:
    """Replace a file that only its owner may read, without waiting for the disk. Raises OSError."""
    scratch = target.with_name(f".{target.name}.part")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    scratch.replace(target)
