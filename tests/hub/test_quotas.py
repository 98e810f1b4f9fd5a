"""Nothing is refused for want of room: sandboxes and builds wait for their turn, each account in its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from prime_hub.services.fair import Turns
from tests.conftest import HubFactory, RunningHub
from tests.hub.images import begin, build, context, create, held_context, until, wait
from tests.hub.pushing import put


def ask(client: httpx.Client, image: str = "tiny:latest", **more: Any) -> str:
    """Ask for a sandbox; its id."""
    answer = client.post("/sandbox", json={"name": "test", "docker_image": image, "timeout_minutes": 5, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def status(client: httpx.Client, sandbox: str) -> str:
    return str(client.get(f"/sandbox/{sandbox}").json()["status"])


@pytest.fixture
def two(start_hub: HubFactory) -> RunningHub:
    """A Hub where an account has two sandboxes at most, with an image that everybody may run."""
    hub = start_hub("--account-sandboxes", "2", "--allow-foreign-images")
    assert build(hub.api, visibility="PUBLIC")["status"] == "COMPLETED"
    return hub


def test_beyond_its_quota_an_account_waits_and_others_do_not(two: RunningHub) -> None:
    eve = two.client(two.add_user("eve"))
    mine = [ask(two.api) for _ in range(4)]
    for sandbox in mine[:2]:
        until(two.api, sandbox, "RUNNING")
    third, fourth = (two.api.get(f"/sandbox/{sandbox}").json() for sandbox in mine[2:])
    assert third["status"] == fourth["status"] == "PENDING"
    assert "2 of at most 2 sandboxes" in third["pendingReason"] and "and 0 of yours" in third["pendingReason"]
    assert "1 of yours are before" in fourth["pendingReason"]
    assert two.api.get("/sandbox").json()["sandboxes"][0]["pendingReason"] == fourth["pendingReason"]
    until(eve, ask(eve, f"{two.owner}/tiny:latest"), "RUNNING")
    two.api.delete(f"/sandbox/{mine[0]}")
    until(two.api, mine[2], "RUNNING")
    assert two.api.get(f"/sandbox/{mine[2]}").json()["pendingReason"] is None
    assert status(two.api, mine[3]) == "PENDING"
    # One that waits is deleted like any other, and nobody has ever started it.
    assert two.api.delete(f"/sandbox/{mine[3]}").status_code == 200
    two.api.delete(f"/sandbox/{mine[1]}")
    assert status(two.api, mine[3]) == "TERMINATED"
    assert two.api.get(f"/sandbox/{mine[3]}").json()["startedAt"] is None


def test_the_queue_outlives_the_hub(two: RunningHub) -> None:
    running = [ask(two.api) for _ in range(2)]
    waiting = [ask(two.api, environment_vars={"GREETING": "later"}) for _ in range(2)]
    for sandbox in running:
        until(two.api, sandbox, "RUNNING")
    two.kill()
    two.start()
    two.close_clients()
    two.wait_for_runner()
    assert [status(two.api, sandbox) for sandbox in waiting] == ["PENDING", "PENDING"]
    for sandbox in running:
        two.api.delete(f"/sandbox/{sandbox}")
    for sandbox in waiting:
        until(two.api, sandbox, "RUNNING")
    assert two.sql("SELECT count(*) FROM sandboxes WHERE CAST(environment AS TEXT) <> 'null'") == [(0,)]


def test_one_that_waits_lives_by_its_lease(two: RunningHub) -> None:
    running = [ask(two.api) for _ in range(2)]
    left, renewed = (ask(two.api, lease_seconds=2) for _ in range(2))
    end = time.monotonic() + 30
    while status(two.api, left) == "PENDING" and time.monotonic() < end:
        assert two.api.post(f"/sandbox/{renewed}/lease", json={"lease_seconds": 60}).status_code == 200
        time.sleep(0.2)
    ended = two.api.get(f"/sandbox/{left}").json()
    assert ended["status"] == "TIMEOUT" and "lease was not renewed" in ended["errorMessage"]
    assert status(two.api, renewed) == "PENDING"
    assert two.api.post(f"/sandbox/{left}/lease", json={"lease_seconds": 60}).status_code == 410
    for sandbox in running:
        two.api.delete(f"/sandbox/{sandbox}")
    until(two.api, renewed, "RUNNING")


def test_processors_and_memory_count(start_hub: HubFactory) -> None:
    hub = start_hub("--account-cpus", "2", "--account-memory-gb", "4")
    build(hub.api)
    first = ask(hub.api, cpu_cores=1.5)
    second = ask(hub.api, cpu_cores=1)
    until(hub.api, first, "RUNNING")
    assert "1.5 of at most 2 processors" in hub.api.get(f"/sandbox/{second}").json()["pendingReason"]
    hub.api.delete(f"/sandbox/{first}")
    until(hub.api, second, "RUNNING")
    third = ask(hub.api, cpu_cores=0.5, memory_gb=4)
    assert "of at most 4 GiB of memory" in hub.api.get(f"/sandbox/{third}").json()["pendingReason"]
    refused = hub.api.post("/sandbox", json={"name": "x", "docker_image": "tiny", "cpu_cores": 3})
    assert refused.status_code == 422 and "at most 2 processors" in refused.json()["detail"]
    hub.api.delete(f"/sandbox/{second}")
    until(hub.api, third, "RUNNING")


def test_the_hubs_own_room_is_shared_in_turn(start_hub: HubFactory) -> None:
    hub = start_hub("--max-sandboxes", "1", "--allow-foreign-images")
    build(hub.api, visibility="PUBLIC")
    eve = hub.client(hub.add_user("eve"))
    mine = [ask(hub.api) for _ in range(3)]
    until(hub.api, mine[0], "RUNNING")
    hers = ask(eve, f"{hub.owner}/tiny:latest")
    assert "This Hub runs 1 of at most 1" in eve.get(f"/sandbox/{hers}").json()["pendingReason"]
    hub.api.delete(f"/sandbox/{mine[0]}")
    until(eve, hers, "RUNNING")  # before the two that were asked for earlier
    assert [status(hub.api, sandbox) for sandbox in mine[1:]] == ["PENDING", "PENDING"]


def test_the_same_key_at_the_same_time_is_one_sandbox(module_hub: RunningHub) -> None:
    build(module_hub.api)

    def one(_: int) -> str:
        return ask(module_hub.api, idempotency_key="the-one", labels=["same"])

    with ThreadPoolExecutor(20) as pool:
        found = set(pool.map(one, range(20)))
    assert len(found) == 1
    assert module_hub.api.get("/sandbox", params={"labels": "same"}).json()["total"] == 1
    module_hub.api.delete(f"/sandbox/{found.pop()}")


def test_builds_of_an_account_wait_for_each_other(start_hub: HubFactory, tmp_path: Path) -> None:
    hub = start_hub("--account-builds", "1", "--allow-foreign-images")
    eve = hub.client(hub.add_user("eve"))
    gate = tmp_path / "gate"

    def queue(client: httpx.Client, name: str, data: bytes) -> str:
        begun = begin(client, name)
        put(begun["upload_url"], data)
        assert client.post(f"/images/build/{begun['build_id']}/start").status_code == 200
        return str(begun["build_id"])

    held = queue(hub.api, "held", held_context(gate))
    second, third = (queue(hub.api, name, context()) for name in ("second", "third"))
    assert wait(eve, queue(eve, "hers", context()))["status"] == "COMPLETED"
    waiting = [hub.api.get(f"/images/build/{one}").json()["status"] for one in (second, third)]
    assert waiting == ["PENDING", "PENDING"]
    assert hub.api.post(f"/images/build/{third}/cancel").json()["status"] == "CANCELLED"
    gate.unlink()
    assert wait(hub.api, held)["status"] == "COMPLETED"
    assert wait(hub.api, second)["status"] == "COMPLETED"
    assert hub.api.get(f"/images/build/{third}").json()["status"] == "CANCELLED"


class _Item:
    def __init__(self, owner_id: str, name: str, size: int = 1) -> None:
        self.owner_id, self.name, self.size = owner_id, name, size


def test_turns_go_round_and_the_oldest_of_each_comes_first() -> None:
    items = [_Item("a", "a1"), _Item("a", "a2"), _Item("a", "a3"), _Item("b", "b1"), _Item("c", "c1"), _Item("b", "b2")]
    turns = Turns()

    def take(room: int) -> list[str]:
        taken = turns.take(items, lambda _: True, room)
        for item in taken:
            items.remove(item)
        return [item.name for item in taken]

    assert take(4) == ["a1", "b1", "c1", "a2"]
    items.append(_Item("c", "c2"))
    assert take(1) == ["b2"]  # whose last turn is longer ago than a's and as c's, and who waits longer
    assert take(5) == ["c2", "a3"]


def test_an_account_whose_oldest_does_not_fit_waits_with_the_others() -> None:
    items = [_Item("a", "large", 5), _Item("a", "small"), _Item("b", "b1")]
    taken = Turns().take(items, lambda item: item.size < 3, 10)
    assert [item.name for item in taken] == ["b1"]


def test_limits_of_one_sandbox_are_recorded_and_bounded(start_hub: HubFactory) -> None:
    hub = start_hub("--sandbox-memory-gb", "2")
    build(hub.api)
    row = create(hub.api, memory_gb=2, cpu_cores=1)
    assert row["status"] == "RUNNING"
    refused = hub.api.post("/sandbox", json={"name": "x", "docker_image": "tiny", "memory_gb": 3})
    assert refused.status_code == 422 and "at most 2 GiB of memory" in refused.json()["detail"]
