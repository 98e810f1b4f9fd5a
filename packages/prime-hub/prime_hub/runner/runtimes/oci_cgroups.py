"""Processes found by the control group that an engine was told to put them in, for what it does not end itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

from prime_hub.runner.processes import wait_all_gone
from prime_hub.runner.runtimes.oci_engine import Engine

ROUNDS = 20
SECONDS = 2.0


def group_name(engine: Engine, prefix: str, of: str) -> str:
    """How the control group of one thing of ours is called, in the engine's way; for an empty `of`, what all begin with."""
    word = prefix + re.sub(r"[^A-Za-z0-9]", "", of)[:40]
    if not of:
        return word
    return f"{word}.slice" if engine.info.get("CgroupDriver") == "systemd" else f"/{word}"


async def end_all(group: str) -> None:
    """SIGKILL everything in a control group of that name, and remove the group; nothing where this program may not."""
    word = group.strip("/")
    for _ in range(ROUNDS):
        found = await asyncio.to_thread(_members, word)
        if not found:
            break
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await wait_all_gone(found, SECONDS)
    await asyncio.to_thread(_remove, word)


def _members(word: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                groups = (folder / "cgroup").read_text().splitlines()
                if any(f"/{word}" in line for line in groups):
                    found.append(int(folder.name))
    return found


def _remove(word: str) -> None:
    root = Path("/sys/fs/cgroup")
    for folder in [*root.glob(f"{word}*"), *root.glob(f"*/{word}*")]:
        with contextlib.suppress(OSError):
            folder.rmdir()
