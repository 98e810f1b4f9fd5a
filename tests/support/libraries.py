"""Libraries that an extra of ours names and the workspace's environment does not have: in folders of their own, kept in
the tests' cache, where they agree with the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from pathlib import Path

from prime_core.uv import run_uv, uv_environment

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"


def folder_of(*requirements: str) -> Path:
    """A folder in which they are installed, for `sys.path`; what the environment has itself comes before it there."""
    named = hashlib.sha256("\n".join([sys.version, *requirements, LOCK.read_text()]).encode()).hexdigest()[:12]
    folder = Path(os.environ["PRIME_CACHE_DIR"]) / "libraries" / named
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{named}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ready := folder / ".ready").exists():
            names = folder.parent / f"{named}.txt"
            # Without the hashes, which would have to be there for all.
            pins = [line.strip(" \\") for line in LOCK.read_text().splitlines() if "==" in line]
            names.write_text("\n".join(pins))
            install = ["pip", "install", "--quiet", "--python", sys.executable]
            where = ["--target", str(folder), "--constraint", str(names)]
            done = run_uv([*install, *where, *requirements], env=uv_environment(), timeout=500)
            assert done.returncode == 0, done.stderr
            ready.touch()
    return folder
