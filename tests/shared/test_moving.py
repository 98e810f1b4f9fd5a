"""A Hub that began on a laptop, on Postgres and in a bucket."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import HubFactory
from tests.hub.pushing import push
from tests.hub.test_backups import fill, program, same_bytes, told
from tests.support import databases, stores


def test_a_laptops_hub_moves_to_postgres_and_a_bucket(servers: None, start_hub: HubFactory, tmp_path: Path) -> None:
    old = start_hub(data_dir=tmp_path / "old", variables={})
    pushed = fill(old)
    token, before = old.token, told(old, old.token)
    new = tmp_path / "new"
    variables = {**databases.make(new), **stores.make(new)}
    words = ["migrate", "--data-dir", str(old.data_dir), "--blobs", variables["PRIME_HUB_BLOBS"]]
    words += ["--to", variables["PRIME_HUB_DATABASE_URL"]]
    try:
        refused = program(*words)
        assert refused.returncode == 1 and "already running" in refused.stderr, "a Hub at work would go on writing"
        old.stop()
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
        moved.stop()
    finally:
        databases.drop(new)
        stores.drop(new)
