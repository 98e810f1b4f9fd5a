"""Warm spares: who asks for what is kept ready has it at once, and nobody else sees it."""

from __future__ import annotations

import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import HubFactory, RunningHub
from tests.hub.images import Gateway, build, create, until


def on_runner(hub: RunningHub) -> dict[str, dict[str, Any]]:
    """What lives at the runner, by id."""
    place = json.loads((hub.data_dir / "runner" / "runner.json").read_text())["socket"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=place), base_url="http://runner") as client:
        rows = client.get("/sandboxes").json()["sandboxes"]
    return {row["id"]: row for row in rows if row["status"] in ("queued", "starting", "running")}


def spares(hub: RunningHub, count: int, *clients: httpx.Client) -> set[str]:
    """The ids of the spares, once there are so many and all of them run. `clients` are of those who have sandboxes."""
    end = time.monotonic() + 30
    while True:
        rows = [client.get("/sandbox", params={"per_page": 100}).json() for client in clients or [hub.api]]
        known = {row["id"] for answer in rows for row in answer["sandboxes"]}
        found = {one: row for one, row in on_runner(hub).items() if one not in known}
        if len(found) == count and all(row["status"] == "running" for row in found.values()):
            time.sleep(0.1)  # the Hub is told a moment later
            return set(found)
        assert time.monotonic() < end, found
        time.sleep(0.05)


@pytest.fixture
def hub(start_hub: HubFactory) -> RunningHub:
    """A Hub that keeps one spare of each image."""
    hub = start_hub("--warm-spares", "1")
    assert build(hub.api)["status"] == "COMPLETED"
    return hub


def test_a_spare_is_taken_over_once_and_replaced(hub: RunningHub) -> None:
    first = create(hub.api)
    (spare,) = spares(hub, 1)
    assert hub.api.get(f"/sandbox/{spare}").status_code == 404
    assert hub.api.get("/sandbox").json()["total"] == 1
    answer = hub.api.post(
        "/sandbox", json={"name": "taken", "docker_image": "tiny:latest", "timeout_minutes": 5, "lease_seconds": 90}
    ).json()
    assert (answer["id"], answer["status"], answer["name"]) == (spare, "RUNNING", "taken")
    state = on_runner(hub)[spare]
    assert 60 < state["lease_until"] - time.time() <= 90
    assert Gateway(hub, answer["gatewayAuth"]).execute("echo $GREETING").json()["stdout"] == "hello\n"
    (next_one,) = spares(hub, 1)
    assert next_one != spare
    for sandbox in (first["id"], spare):
        assert hub.api.delete(f"/sandbox/{sandbox}").status_code == 200
    assert set(on_runner(hub)) == {next_one}


def test_what_is_asked_for_otherwise_is_started_anew(hub: RunningHub) -> None:
    create(hub.api)
    (spare,) = spares(hub, 1)
    for other in ({"environment_vars": {"GREETING": "x"}}, {"start_command": "sleep 60"}, {"memory_gb": 2}):
        assert create(hub.api, **other)["id"] != spare, other


def test_variables_are_for_the_account_that_set_them(start_hub: HubFactory) -> None:
    hub = start_hub("--warm-spares", "1", "--allow-foreign-images")
    build(hub.api, visibility="PUBLIC")
    eve = hub.client(hub.add_user("eve"))
    wanted = {"environment_vars": {"GREETING": "secret"}}
    create(hub.api, **wanted)
    (spare,) = spares(hub, 1)
    hers = create(eve, f"{hub.owner}/tiny:latest", **wanted)
    assert hers["id"] != spare


def test_twenty_at_once_share_one_spare(hub: RunningHub) -> None:
    create(hub.api)
    (spare,) = spares(hub, 1)

    def one(number: int) -> str:
        body = {
            "name": f"n{number}",
            "docker_image": "tiny:latest",
            "timeout_minutes": 5,
            "idempotency_key": f"k{number % 5}",
        }
        return str(hub.api.post("/sandbox", json=body).json()["id"])

    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(one, range(20)))
    assert len(set(ids)) == 5 and spare in ids
    for sandbox in set(ids):
        until(hub.api, sandbox, "RUNNING")


def test_spares_end_with_their_hub(hub: RunningHub) -> None:
    create(hub.api)
    (left,) = spares(hub, 1)
    hub.kill()
    hub.start()
    hub.close_clients()
    hub.wait_for_runner()
    end = time.monotonic() + 30
    while left in on_runner(hub):
        assert time.monotonic() < end
        time.sleep(0.1)
    mine = create(hub.api)
    (spare,) = spares(hub, 1)
    hub.stop()
    assert spare not in on_runner(hub) and mine["id"] in on_runner(hub)


def test_a_spare_that_died_is_not_given(hub: RunningHub) -> None:
    create(hub.api)
    (spare,) = spares(hub, 1)
    place = json.loads((hub.data_dir / "runner" / "runner.json").read_text())["socket"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=place), base_url="http://runner") as client:
        client.delete(f"/sandboxes/{spare}")
    made = create(hub.api)
    assert made["id"] != spare and made["status"] == "RUNNING"


def test_an_image_with_spares_only_can_be_deleted(hub: RunningHub) -> None:
    hub.api.delete(f"/sandbox/{create(hub.api)['id']}")
    spares(hub, 1)
    assert hub.api.delete("/images/tiny/latest").status_code == 200
    assert on_runner(hub) == {}
    body = {"name": "x", "docker_image": f"prime/{hub.owner}/tiny"}
    assert hub.api.post("/sandbox", json=body).status_code == 404


@pytest.mark.sqlite
def test_a_spare_whose_new_owner_could_not_be_recorded_ends(hub: RunningHub) -> None:
    """As when the disk is full, or another Hub on the same database was quicker with the same key."""
    create(hub.api)
    (spare,) = spares(hub, 1)
    with sqlite3.connect(hub.data_dir / "hub.sqlite3") as database:
        database.execute(
            "CREATE TRIGGER refusing BEFORE INSERT ON sandboxes WHEN NEW.name = 'refused' "
            "BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
    database.close()
    body = {"name": "refused", "docker_image": "tiny:latest", "timeout_minutes": 5}
    assert hub.api.post("/sandbox", json=body).status_code == 500
    end = time.monotonic() + 30
    while spare in on_runner(hub):
        assert time.monotonic() < end
        time.sleep(0.1)
