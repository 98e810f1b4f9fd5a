"""The table and the runner agree again after whatever died in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx

from tests.conftest import RunningHub, alive, end
from tests.hub.images import build, create, until


def on_runner(hub: RunningHub) -> set[str]:
    """The ids of what lives at the runner."""
    place = json.loads((hub.data_dir / "runner" / "runner.json").read_text())["socket"]
    with httpx.Client(transport=httpx.HTTPTransport(uds=place), base_url="http://runner") as client:
        rows = client.get("/sandboxes").json()["sandboxes"]
    return {row["id"] for row in rows if row["status"] in ("queued", "starting", "running")}


def eventually(holds: Callable[[], bool], seconds: float = 40) -> None:
    limit = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError, OSError, ValueError):
            if holds():
                return
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_what_the_table_has_ended_is_ended(hub: RunningHub) -> None:
    build(hub.api)
    made = create(hub.api)
    hub.sql("UPDATE sandboxes SET status = 'TERMINATED', deleted_at = created_at")
    eventually(lambda: on_runner(hub) == set())
    assert hub.api.get(f"/sandbox/{made['id']}").json()["status"] == "TERMINATED"


def test_a_delete_that_the_runner_did_not_hear_is_made_up_for(hub: RunningHub) -> None:
    build(hub.api)
    made = create(hub.api)
    runner = hub.runner_pid
    assert runner is not None
    os.kill(runner, signal.SIGSTOP)
    try:
        hub.stop()  # it cannot tell the runner anything either
        hub.sql("UPDATE sandboxes SET status = 'TERMINATED', deleted_at = created_at")
    finally:
        os.kill(runner, signal.SIGCONT)
    hub.start()
    hub.wait_for_runner()
    eventually(lambda: on_runner(hub) == set())
    assert hub.api.get(f"/sandbox/{made['id']}").json()["status"] == "TERMINATED"


def test_what_a_new_runner_does_not_know_is_lost(hub: RunningHub) -> None:
    build(hub.api)
    made = create(hub.api)
    runner = hub.runner_pid
    assert runner is not None
    state = json.loads(next((hub.data_dir / "runner" / "sandboxes").glob("*/state.json")).read_text())
    os.kill(runner, signal.SIGKILL)
    end(state["pid"], signal.SIGKILL)
    shutil.rmtree(hub.data_dir / "runner" / "sandboxes", ignore_errors=True)
    row = until(hub.api, made["id"], "ERROR", seconds=60)
    assert row["errorType"] == "LOST" and row["errorMessage"]
    assert hub.api.get(f"/sandbox/{made['id']}/error-context").json()["errorType"] == "LOST"
    assert create(hub.api)["status"] == "RUNNING"


def test_a_hub_killed_while_it_starts_many(hub: RunningHub) -> None:
    build(hub.api)
    url, token = hub.url, hub.token

    def one(number: int) -> None:
        body = {
            "name": f"n{number}",
            "docker_image": "tiny:latest",
            "timeout_minutes": 5,
            "idempotency_key": f"key-{number}",
            "environment_vars": {"GREETING": f"n{number}"},
        }
        headers = {"Authorization": f"Bearer {token}"}
        with suppress(httpx.HTTPError):
            httpx.post(f"{url}/api/v1/sandbox", json=body, headers=headers, timeout=30, trust_env=False)

    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(one, number) for number in range(12)]
        time.sleep(0.3)
        hub.close_clients()
        hub.kill()
        for each in asked:
            each.result()
        hub.start()
        hub.wait_for_runner()
        list(pool.map(one, range(12)))
    rows = hub.api.get("/sandbox", params={"per_page": 100}).json()
    assert rows["total"] == 12
    for row in rows["sandboxes"]:
        until(hub.api, row["id"], "RUNNING", seconds=60)
    eventually(lambda: on_runner(hub) == {row["id"] for row in rows["sandboxes"]})
    assert hub.sql("SELECT count(*) FROM sandboxes WHERE CAST(environment AS TEXT) <> 'null'") == [(0,)]
    assert all(alive(pid) for pid in (hub.runner_pid,))
