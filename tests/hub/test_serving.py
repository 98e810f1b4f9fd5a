"""The program: starting, stopping, accounts, its files, its refusals."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import RunningHub, alive
from tests.support import databases


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "prime_hub", *arguments], capture_output=True, text=True, timeout=60)


def test_first_start_makes_an_owner_and_private_files(hub: RunningHub) -> None:
    health = hub.client().get("/health").json()
    assert (health["status"], health["hub_id"]) == ("ok", hub.address["hub_id"])
    assert set(health["runner"]) == {"state", "runtime", "isolating", "enforces", "not_enforced"}
    whoami = hub.api.get("/user/whoami").json()["data"]
    assert whoami["slug"] == whoami["name"] and whoami["id"]
    assert hub.api.get("/user/teams").json() == {"data": [], "total_count": 0}
    for name in ("owner.token", "secret.key"):
        assert stat.S_IMODE((hub.data_dir / name).stat().st_mode) == 0o600
    # Whatever the folder's own mode: the records hold variables of sandboxes that are being started.
    for path in hub.data_dir.glob("hub.sqlite3*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert hub.process is not None and hub.address["pid"] == hub.process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order_and_the_port_is_kept(hub: RunningHub, number: int) -> None:
    token, url, hub_id = hub.token, hub.url, hub.address["hub_id"]
    assert hub.process is not None
    hub.close_clients()
    hub.process.send_signal(number)
    assert hub.process.wait(20) == 0
    assert hub.address["pid"] is None and hub.address["url"] == url
    hub.start()
    assert (hub.url, hub.token, hub.address["hub_id"]) == (url, token, hub_id)
    assert hub.api.get("/user/whoami").status_code == 200


def test_without_a_port_it_takes_the_one_it_had(start_hub, tmp_path: Path) -> None:
    hub = start_hub()
    hub.stop()
    hub._options = ()
    command = [sys.executable, "-m", "prime_hub", "serve", "--data-dir", str(hub.data_dir)]
    url = hub.url
    hub.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    import time

    deadline = time.monotonic() + 30
    while hub.address["pid"] != hub.process.pid:
        assert time.monotonic() < deadline and hub.process.poll() is None
        time.sleep(0.02)
    assert hub.url == url


def test_killed_it_comes_back_whole(hub: RunningHub) -> None:
    from tests.hub.pushing import push

    push(hub.api, "survivor")
    owner = hub.owner
    hub.close_clients()
    hub.kill()
    hub.start()
    assert hub.api.get(f"/environmentshub/{owner}/survivor/@latest").status_code == 200


def test_users_are_added_while_it_runs_and_while_it_does_not(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    find_database(monkeypatch, hub.data_dir)
    token = hub.add_user("carol")
    assert hub.client(token).get("/user/whoami").json()["data"]["slug"] == "carol"
    hub.stop()
    added = run("user", "add", "dave", "--data-dir", str(hub.data_dir))
    assert added.returncode == 0 and added.stderr == "" and added.stdout.count("\n") == 1
    again = run("user", "add", "dave", "--data-dir", str(hub.data_dir))
    assert again.returncode == 1 and again.stdout == ""
    assert again.stderr == "Error: There is already an account named 'dave' on this Hub.\n"
    hub.start()
    assert hub.client(added.stdout.strip()).get("/user/whoami").json()["data"]["slug"] == "dave"


@pytest.mark.parametrize(("name", "words"), [("Not OK", "lower-case"), ("api", "addresses use"), ("-x", "usage")])
def test_account_names_that_cannot_be(tmp_path: Path, name: str, words: str) -> None:
    refused = run("user", "add", name, "--data-dir", str(tmp_path / "data"))
    assert refused.returncode != 0 and refused.stdout == "" and words in refused.stderr


def test_tokens_are_stored_only_as_hashes(hub: RunningHub) -> None:
    token = hub.add_user("erin")
    hub.stop()
    dump = databases.everything(hub.data_dir)
    assert "erin" in dump and token not in dump and hub.token not in dump


def test_a_lost_token_file_is_replaced(hub: RunningHub) -> None:
    slug = hub.owner
    hub.stop()
    (hub.data_dir / "owner.token").unlink()
    hub.start()
    assert hub.owner == slug


def test_one_hub_a_data_folder(hub: RunningHub) -> None:
    second = run("serve", "--data-dir", str(hub.data_dir), "--port", "0")
    assert second.returncode == 1
    assert "already running" in second.stderr and hub.url in second.stderr and "Traceback" not in second.stderr
    assert hub.api.get("/health").status_code == 200


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run("serve", "--data-dir", str(tmp_path / "data"), "--port", str(port))
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use; name another with --port" in refused.stderr
    assert not (tmp_path / "data" / "hub.json").exists()


def test_bad_options_are_sentences(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for arguments, words in (
        (("serve", "--data-dir", str(file)), "cannot be used"),
        (("serve", "--data-dir", str(tmp_path / "d"), "--runtime", "no-such"), "no-such"),
        (("serve", "--port", "70000"), "not a port"),
        (("serve", "--data-dir", str(tmp_path / "d"), "--host", "no such host"), "'no such host' is not an address"),
    ):
        refused = run(*arguments)
        assert refused.returncode != 0 and words in refused.stderr and "Traceback" not in refused.stderr


def find_database(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    """Programs that are run from here find the database of this data folder."""
    for name, value in databases.make(data).items():
        monkeypatch.setenv(name, value)


def test_two_first_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts made on a fresh folder at the same moment migrate it once and both exist."""
    data = tmp_path / "data"
    find_database(monkeypatch, data)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda name: run("user", "add", name, "--data-dir", str(data)), ["one", "two", "three"]))
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    slugs = {row[0] for row in databases.sql(data, "SELECT slug FROM accounts")}
    assert {"one", "two", "three"} <= slugs and len(slugs) == 4
    databases.drop(data)


def test_the_migrations_make_what_the_models_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import create_async_engine

    from prime_hub.db.models import Base

    def known(item: object, name: str | None, kind: str, reflected: bool, other: object) -> bool:
        # The search's index is the database's own, in another way on each.
        return not (reflected and ("_words" in (name or "") or (kind, name) == ("column", "room")))

    def compared(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"include_object": known})
        return list(compare_metadata(context, Base.metadata))

    async def differences() -> list[object]:
        engine = create_async_engine(databases.url(tmp_path))
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(compared)
        finally:
            await engine.dispose()

    find_database(monkeypatch, tmp_path)
    done = run("user", "add", "someone", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert databases.run(differences()) == []
    databases.drop(tmp_path)


def test_a_database_of_a_newer_hub_is_left_alone(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.stop()
    hub.sql("UPDATE alembic_version SET version_num = '9999'")
    find_database(monkeypatch, hub.data_dir)
    refused = run("serve", "--data-dir", str(hub.data_dir), "--port", "0")
    assert refused.returncode == 1 and "newer version" in refused.stderr and "Traceback" not in refused.stderr
    refused = run("user", "add", "frank", "--data-dir", str(hub.data_dir))
    assert refused.returncode == 1 and "newer version" in refused.stderr and "Traceback" not in refused.stderr


def test_the_runner_is_started_again(hub: RunningHub) -> None:
    import os
    import time

    hub.wait_for_runner()
    first = hub.runner_pid
    assert first is not None and alive(first) and hub.address["runner_pid"] == first
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while hub.address["runner_pid"] in (first, None):
        assert time.monotonic() < deadline, hub.log
        time.sleep(0.05)
    assert alive(hub.address["runner_pid"]) and not alive(first)


def test_the_answers_to_nonsense(hub: RunningHub) -> None:
    api = hub.api
    assert api.get("/no/such").json() == {"detail": "There is nothing at /api/v1/no/such on this Hub."}
    assert api.delete("/health").status_code == 405
    bad = api.post("/environmentshub/resolve", json={"name": 5, "visibility": hub.token})
    assert bad.status_code == 422 and bad.json()["detail"][0]["loc"] == ["body", "name"]
    assert hub.token not in bad.text
    broken = api.post("/environmentshub/resolve", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 422
    large = api.post("/environmentshub/resolve", content=b" " * (17 << 20))
    assert large.status_code == 413 and "larger than" in large.json()["detail"]

    def pieces():
        for _ in range(20):
            yield b" " * (1 << 20)

    streamed = api.post("/environmentshub/resolve", content=pieces())
    assert streamed.status_code == 413
    # Commands are JSON too, and read before anybody's token is.
    for content in (b" " * (17 << 20), pieces()):
        inside = hub.client().post(f"{hub.url}/gateway/nobody/nothing/exec", content=content)
        assert inside.status_code == 413 and "larger than" in inside.json()["detail"]
    assert json.loads(run("openapi", "--data-dir", str(hub.data_dir)).stdout)["info"]["title"] == "Environments Hub"


async def test_opening_and_closing_leaks_no_file(tmp_path: Path) -> None:
    """The app as an object, without a server: what one opening takes, closing gives back."""
    import gc

    from prime_hub.app import create_app
    from prime_hub.settings import Settings

    async def once() -> int:
        app = create_app(Settings(tmp_path / "data"))
        await app.state.hub.open()
        assert await app.state.hub.accounts.count() == 1
        await app.state.hub.close()
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    first = await once()
    assert max([await once() for _ in range(10)]) <= first
