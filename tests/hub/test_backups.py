"""Backup, restore and migrate: what comes back is what was there, and nothing is written over or half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import HubFactory, RunningHub
from tests.hub.pushing import Push, push
from tests.support import databases, stores


def program(*arguments: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m prime_hub …`, which is what `prime hub …` becomes."""
    return subprocess.run(
        [sys.executable, "-m", "prime_hub", *arguments],
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def fill(hub: RunningHub) -> list[Push]:
    """What a team has: versions, one of them private, somebody else's star, a secret, a variable, a pull that counts."""
    pushed = [push(hub.api, "kept", "0.1.0"), push(hub.api, "kept", "0.2.0", files={"more.py": b"x = 1\n"})]
    pushed.append(push(hub.api, "hidden", visibility="PRIVATE"))
    other = hub.client(hub.add_user("grace")) if not hub.borrowed else hub.api
    assert other.put(f"/environmentshub/{hub.owner}/kept/star").is_success
    secret = {"name": "A_SECRET", "value": "told to nobody"}
    assert hub.api.post(f"/environmentshub/{pushed[0].environment_id}/secrets", json=secret).is_success
    variable = {"name": "A_VARIABLE", "value": "ünïcode"}
    assert hub.api.post(f"/environmentshub/{pushed[0].environment_id}/variables", json=variable).is_success
    return pushed


def told(hub: RunningHub, token: str) -> str:
    """What a Hub tells of all that, without its own address."""
    api = hub.client(token)
    found = {
        path: api.get(path, params=params).json()
        for path, params in [
            ("/environmentshub/", {"mine_only": "true"}),
            ("/environmentshub/?search=made", {}),
            (f"/environmentshub/{hub.owner}/kept/versions", {}),
            (f"/environmentshub/{hub.owner}/kept/@0.1.0", {}),
            (f"/environmentshub/{hub.owner}/hidden/@latest", {}),
        ]
    }
    return json.dumps(found, sort_keys=True).replace(hub.url, "HUB")


def same_bytes(hub: RunningHub, token: str, pushed: list[Push]) -> None:
    api = hub.client(token, follow_redirects=True)
    for one in pushed:
        detail = api.get(f"/environmentshub/{hub.owner}/{one.name}/@{one.version}").json()["data"]
        assert api.get(detail["package_url"]).content == one.archive
        assert api.get(f"/files/{hub.owner}/{one.wheel_filename}").content == one.wheel


def test_a_backup_comes_back_in_another_place(hub: RunningHub, start_hub: HubFactory, tmp_path: Path) -> None:
    pushed = fill(hub)
    token, before = hub.token, told(hub, hub.token)
    file = tmp_path / "hub.backup"
    made = program("backup", str(file), "--data-dir", str(hub.data_dir), variables=hub.variables)
    assert made.returncode == 0, made.stderr
    assert "secret.key" in made.stdout and file.stat().st_mode & 0o777 == 0o600
    assert b"told to nobody" not in file.read_bytes()
    again = program("backup", str(file), "--data-dir", str(hub.data_dir), variables=hub.variables)
    assert again.returncode == 1 and "is there already" in again.stderr
    into = tmp_path / "restored"
    variables = {**databases.make(into), **stores.make(into)}
    if not databases.on_postgres():
        (into / "hub.sqlite3").unlink()
    try:
        done = program("restore", str(file), "--data-dir", str(into), variables=variables)
        assert done.returncode == 0, done.stderr
        assert "copy that Hub's secret.key" in done.stdout
        (into / "secret.key").write_bytes((hub.data_dir / "secret.key").read_bytes())
        sealed = hub.sql("SELECT value FROM secrets")
        hub.stop()
        restored = start_hub(data_dir=into, variables=variables)
        assert told(restored, token) == before
        same_bytes(restored, token, pushed)
        assert restored.sql("SELECT value FROM secrets") == sealed
        # It counts and publishes on from where it was.
        push(restored.client(token), "kept", "0.3.0", files={"third.py": b""})
        refused = program("restore", str(file), "--data-dir", str(tmp_path / "other"), variables=variables)
        if databases.on_postgres():
            assert refused.returncode == 1 and "is not empty" in refused.stderr, refused.stderr
        restored.stop()
        refused = program("restore", str(file), "--data-dir", str(into), variables=variables)
        assert refused.returncode == 1 and "is not empty" in refused.stderr and "nothing was changed" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    finally:
        databases.drop(into)
        stores.drop(into)


def test_a_damaged_backup_is_refused_before_anything_is_written(hub: RunningHub, tmp_path: Path) -> None:
    push(hub.api, "kept")
    file = tmp_path / "hub.backup"
    assert program("backup", str(file), "--data-dir", str(hub.data_dir), variables=hub.variables).returncode == 0
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as opened:
        entry = next(one for one in opened.infolist() if one.filename.startswith("blobs/sha256"))
    at = entry.header_offset + 300
    for name, content, words in (
        ("flipped", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "is damaged (at blobs/sha256"),
        ("cut", whole[: len(whole) // 2], "is damaged or cut off"),
        ("text", b"no backup at all", "is damaged or cut off"),
    ):
        (tmp_path / name).write_bytes(content)
        into = tmp_path / f"into-{name}"
        refused = program("restore", str(tmp_path / name), "--data-dir", str(into))
        assert refused.returncode == 1 and words in refused.stderr and "nothing was restored" in refused.stderr
        assert not list(into.rglob("sha256")), "nothing was written"
    absent = program("restore", str(tmp_path / "absent"), "--data-dir", str(tmp_path / "into"))
    assert absent.returncode == 1 and "There is no file" in absent.stderr


@pytest.mark.sqlite
def test_nothing_is_restored_under_a_hub_that_runs(hub: RunningHub, tmp_path: Path) -> None:
    file = tmp_path / "hub.backup"
    assert program("backup", str(file), "--data-dir", str(hub.data_dir), variables=hub.variables).returncode == 0
    refused = program("restore", str(file), "--data-dir", str(hub.data_dir), variables=hub.variables)
    assert refused.returncode == 1 and "already running" in refused.stderr
    nowhere = program("backup", str(tmp_path / "more"), "--data-dir", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 1 and "There is no Hub in" in nowhere.stderr


def test_what_a_backup_will_come_to_is_not_removed(hub: RunningHub) -> None:
    first = push(hub.api, "going")
    hub.sql("INSERT INTO meta (key, value) VALUES ('backup_until/1', '2999-01-01T00:00:00+00:00')")
    assert hub.api.delete(f"/environmentshub/{hub.owner}/going").is_success
    assert len(stores.keys(hub.data_dir)) == 2, "a backup under way has it in its rows"
    hub.sql("UPDATE meta SET value = '2000-01-01T00:00:00+00:00' WHERE key = 'backup_until/1'")
    second = push(hub.api, "going-too", files={"more.py": b""})
    assert second.archive != first.archive
    assert hub.api.delete(f"/environmentshub/{hub.owner}/going-too").is_success
    assert len(stores.keys(hub.data_dir)) == 2, "a backup that was killed holds nothing for ever"
