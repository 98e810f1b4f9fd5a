"""A data folder of an earlier Hub: what it had built goes on, what ran runs on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from prime_hub.db.migrate import MIGRATIONS
from tests.conftest import RunningHub
from tests.hub.images import begin, build, context, create, until, wait
from tests.hub.pushing import push, put


def to_revision(database: Path, revision: str) -> None:
    """Take a database back to an earlier schema."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


@pytest.mark.sqlite
def test_the_first_schema_is_taken_over(hub: RunningHub) -> None:
    done = build(hub.api)
    running, waiting = create(hub.api), create(hub.api)
    hub.api.delete(f"/sandbox/{waiting['id']}")
    uploading = begin(hub.api, "later")
    hub.stop()
    database = hub.data_dir / "hub.sqlite3"
    to_revision(database, "0001")
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute("SELECT DISTINCT runtime FROM images").fetchall() == [("process",)]
        asked = "json_remove(request, '$.limits', '$.egress', '$.timeout_seconds')"
        connection.execute(f"UPDATE sandboxes SET request = {asked}")
        # One that the earlier Hub had recorded when it was ended, and not begun.
        connection.execute(
            "UPDATE sandboxes SET id = 'never-begun', status = 'PENDING', deleted_at = NULL, environment = ? WHERE id = ?",
            ('{"GREETING": "hi"}', waiting["id"]),
        )
    hub.start()
    hub.wait_for_runner()
    assert hub.api.get(f"/sandbox/{running['id']}").json()["status"] == "RUNNING"
    assert until(hub.api, "never-begun", "RUNNING")["pendingReason"] is None
    assert create(hub.api)["imageDigest"] == done["imageDigest"]
    assert put(uploading["upload_url"], context()).status_code == 200
    hub.api.post(f"/images/build/{uploading['build_id']}/start")
    assert wait(hub.api, uploading["build_id"])["status"] == "COMPLETED"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT DISTINCT kind FROM images").fetchall() == [("venv",)]


@pytest.mark.sqlite
def test_when_something_was_published_last_is_told_of_what_an_earlier_hub_yanked(hub: RunningHub) -> None:
    for name in ("older", "newer"):
        push(hub.api, name)
    hub.stop()
    database = hub.data_dir / "hub.sqlite3"
    to_revision(database, "0006")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE environments SET updated_at = '2090-01-01 00:00:00.000000' WHERE name = 'older'")
    hub.start()
    assert [row["name"] for row in hub.api.get("/environmentshub/").json()["data"]] == ["newer", "older"]
