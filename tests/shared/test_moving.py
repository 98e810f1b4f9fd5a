"""A Hub that began on a laptop, on Postgres and in a bucket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import HubFactory, RunningHub
from tests.hub.pushing import push
from tests.hub.test_backups import fill, program, same_bytes, told
from tests.support import databases, stores


def test_a_laptops_hub_moves_to_postgres_and_a_bucket(servers: None, start_hub: HubFactory, tmp_path: Path) -> None:
    old = start_hub(data_dir=tmp_path / "old", variables={})
    pushed = fill(old)
    pushed += [push(old.api, f"large{number}", files={"noise.bin": os.urandom(6 << 20)}) for number in range(4)]
    token, before = old.token, told(old, old.token)
    new = tmp_path / "new"
    variables = {**databases.make(new), **stores.make(new)}
    words = ["migrate", "--data-dir", str(old.data_dir), "--blobs", variables["PRIME_HUB_BLOBS"]]
    words += ["--to", variables["PRIME_HUB_DATABASE_URL"]]
    try:
        refused = program(*words)
        assert refused.returncode == 1 and "already running" in refused.stderr, "a Hub at work would go on writing"
        old.stop()
        _killed_in_the_middle(words, new)
        done = program(*words)
        assert done.returncode == 0, done.stderr
        assert "counted and compared" in done.stdout and "PRIME_HUB_SECRET_KEY" in done.stdout
        twice = program(*words)
        assert twice.returncode == 1 and "is not empty" in twice.stderr
        wrong = program("serve", "--data-dir", str(new), "--port", "0", variables=variables)
        assert wrong.returncode == 1 and "another secret key" in wrong.stderr, "it could open no secret"
        key = {"PRIME_HUB_SECRET_KEY": (old.data_dir / "secret.key").read_text().strip()}
        moved = start_hub(data_dir=tmp_path / "fresh", variables={**variables, **key})
        assert told(moved, token) == before
        same_bytes(moved, token, pushed)
        push(moved.client(token), "kept", "0.3.0", files={"third.py": b""})
        _back_to_a_laptop(moved, start_hub, token, tmp_path)
        moved.stop()
    finally:
        databases.drop(new)
        stores.drop(new)


def _killed_in_the_middle(words: list[str], new: Path) -> None:
    """The files come first and the rows last, so there is nobody in it yet."""
    begun = subprocess.Popen([sys.executable, "-m", "prime_hub", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not stores.keys(new):
        assert time.monotonic() < deadline and begun.poll() is None
        time.sleep(0.01)
    begun.kill()
    assert begun.wait() == -signal.SIGKILL
    assert databases.sql(new, "SELECT count(*) FROM accounts") == [(0,)]


def _back_to_a_laptop(moved: RunningHub, start_hub: HubFactory, token: str, tmp_path: Path) -> None:
    """A backup of the one kind is restored as the other kind."""
    before, file, home = told(moved, token), tmp_path / "team.zip", tmp_path / "home"
    made = program("backup", str(file), "--data-dir", str(moved.data_dir), variables=moved.variables)
    assert made.returncode == 0 and "Warning" not in made.stderr, made.stderr
    done = program("restore", str(file), "--data-dir", str(home))
    assert done.returncode == 0, done.stderr
    (home / "secret.key").write_text(moved.variables["PRIME_HUB_SECRET_KEY"])
    back = start_hub(data_dir=home, variables={})
    assert told(back, token) == before
    push(back.client(token), "kept", "0.4.0", files={"fourth.py": b""})
    back.stop()
