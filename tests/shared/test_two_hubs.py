"""What one Hub begins the other goes on with, and what a Hub that is killed leaves is taken up by the other one."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from prime_hub.services.sweep import SWEEP_SECONDS
from tests.hub.browsing import Browser
from tests.hub.images import Gateway, begin, build, context, create, held_context, until, wait
from tests.hub.pushing import Push, put
from tests.hub.test_accounts_tokens import Program
from tests.shared.conftest import Pair
from tests.support import databases, stores

T = TypeVar("T")


def test_each_step_of_a_push_may_meet_another_hub(pair: Pair) -> None:
    one = Push(pair.first.api, "shared")
    clients = [hub.client(pair.first.token) for hub in pair.both]
    for number, step in enumerate(one.steps()):
        one.client = clients[number % 2]
        answer = step()
        assert answer is not None and answer.is_success, (step.__name__, answer and answer.text)
    for hub in pair.both:
        api = hub.client(pair.second.token, follow_redirects=True)  # each host has a key of the owner's
        detail = api.get(f"/environmentshub/{pair.first.owner}/shared/@latest").json()["data"]
        assert api.get(detail["package_url"]).content == one.archive
        assert api.get(detail["wheel_url"]).content == one.wheel
    refused = Push(pair.second.api, "shared", files={"more.py": b""})
    refused.resolve()
    assert refused.prepare_wheel().status_code == 409


def test_people_are_the_same_to_both(pair: Pair) -> None:
    """A program asks the first Hub for a key; its person signs in with a link of the first, and approves at the second."""
    program = Program(pair.first)
    link = pair.first.api.post("/user/sign-in-link").json()["data"]
    browser = Browser(pair.second)
    assert browser.get(f"{link['path']}?code={link['code']}").status == 200 and browser.signed_in
    page = browser.get(program.page)
    assert program.code in page.text
    browser.submit(page, "/dashboard/tokens/challenge", choice="approve")
    answer = program.ask()
    assert answer.status_code == 200, answer.text
    key = program.decrypted(answer.json()["result"])
    for hub in pair.both:
        assert hub.client(key).get("/user/whoami").json()["data"]["slug"] == pair.first.owner


def test_a_sandbox_of_one_is_used_and_ended_through_the_other(pair: Pair) -> None:
    assert build(pair.first.api)["status"] == "COMPLETED"
    there = pair.second.client(pair.first.token)
    made = create(pair.first.api)
    assert made["status"] == "RUNNING"
    assert there.get(f"/sandbox/{made['id']}").json()["status"] == "RUNNING"
    auth = {
        **made["gatewayAuth"],
        "gateway_url": made["gatewayAuth"]["gateway_url"].replace(pair.first.url, pair.second.url),
    }
    done = Gateway(pair.second, auth).execute("echo through the other")
    assert done.is_success and done.json()["stdout"].strip() == "through the other"
    assert pair.first.stop() == 0
    time.sleep(1)
    assert there.get(f"/sandbox/{made['id']}").json()["status"] == "RUNNING", "the runner is the other's, too"
    assert there.delete(f"/sandbox/{made['id']}").is_success
    assert until(there, made["id"], "TERMINATED")


@pytest.mark.parametrize("pair", [("--warm-spares", "1")], indirect=True)
def test_a_spare_of_one_is_left_alone_by_the_other(pair: Pair) -> None:
    assert build(pair.first.api)["status"] == "COMPLETED"
    first = create(pair.first.api)
    deadline = time.monotonic() + 60
    while len(pair.on_runner) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (spare,) = pair.on_runner - {first["id"]}
    time.sleep(3 * SWEEP_SECONDS)  # the second Hub has compared the table with the runner, in which it is on no record
    assert spare in pair.on_runner
    assert create(pair.first.api)["id"] == spare, "and it is given to who asks for the like"


@pytest.mark.timeout(240)
def test_a_hub_that_is_killed_loses_nothing_and_doubles_nothing(pair: Pair, tmp_path: Path) -> None:
    token = pair.first.token
    assert build(pair.first.api)["status"] == "COMPLETED"
    killed = threading.Event()
    moved: list[object] = []

    def anyhow(work: Callable[[httpx.Client], T]) -> T:
        """As a client behind a balancer: on the first Hub, and, when that breaks off, once more from the start on the other."""
        try:
            with httpx.Client(
                base_url=f"{pair.first.url}/api/v1", headers=bearer, timeout=60, trust_env=False
            ) as client:
                return work(client)
        except (httpx.TransportError, json.JSONDecodeError):
            assert killed.wait(60), "nothing else breaks off"
            moved.append(work)
            with httpx.Client(
                base_url=f"{pair.second.url}/api/v1", headers=bearer, timeout=60, trust_env=False
            ) as client:
                return work(client)

    bearer = {"Authorization": f"Bearer {token}"}
    numbers = [f"0.{number}.0" for number in range(12)]

    def push(number: str) -> str:
        def work(client: httpx.Client) -> str:
            one = Push(client, "killed", number, files={"n.py": number.encode()})
            for step in one.steps():
                answer = step()
                if answer is not None and answer.status_code == 409:
                    return one.content_hash  # published before the answer was lost
                assert answer is None or answer.is_success, (step.__name__, answer.text)
            return one.content_hash

        return anyhow(work)

    def image(number: int) -> str:
        name = f"held{number}"
        begun = begin(pair.first.api, name)
        data = held_context(tmp_path / "gate") if number == 0 else context(**{"n.txt": str(number)})
        assert put(begun["upload_url"], data).status_code == 200
        return anyhow(lambda client: str(client.post(f"/images/build/{begun['build_id']}/start").json()["id"]))

    def sandbox(number: int) -> dict[str, Any]:
        body = {"name": "test", "docker_image": "tiny:latest", "idempotency_key": f"key-{number}", "timeout_minutes": 5}
        return anyhow(lambda client: client.post("/sandbox", json=body).json())

    with ThreadPoolExecutor(24) as pool:
        builds = [image(number) for number in range(2)]
        pushes = [pool.submit(push, number) for number in numbers]
        sandboxes = [pool.submit(sandbox, number) for number in range(8)]
        while not any(one.done() for one in [*pushes, *sandboxes]):
            time.sleep(0.01)
        pair.first.kill()
        killed.set()
        hashes = {number: one.result() for number, one in zip(numbers, pushes, strict=True)}
        made = [one.result() for one in sandboxes]
    assert moved, "some were under way when it was killed"
    (tmp_path / "gate").unlink()
    there = pair.second.client(token)

    # Every push is published, once, with its own bytes.
    rows = there.get(f"/environmentshub/{pair.second.owner}/killed/versions").json()["data"]["versions"]
    assert {row["version"]: row["sha256"] for row in rows} == hashes and len(rows) == len(numbers)
    finished = "SELECT count(*) FROM versions WHERE finalized_at IS NOT NULL"
    assert databases.sql(pair.place, finished) == [(len(numbers),)]

    # Every build is finished, and made one image, although its worker may be the one that was killed.
    for build_id in builds:
        assert wait(there, build_id, 120)["status"] == "COMPLETED"
    assert databases.sql(pair.place, "SELECT count(*) FROM image_tags") == [(3,)]

    # Every sandbox that was asked for is there, once, and runs; and the runner runs no other.
    ids = {row["id"] for row in made}
    assert len(ids) == len(made)
    for one in ids:
        assert until(there, one, "RUNNING", seconds=90)
    assert databases.sql(pair.place, "SELECT count(*) FROM sandboxes") == [(len(ids),)]
    assert pair.on_runner == ids

    # What is stored is what rows name: two files for each version, and nothing that was sent and forgotten, but what the
    # cleaning of the next day finds.
    stored = {key for key in stores.keys(pair.place) if key.startswith("sha256/")}
    named = databases.sql(pair.place, "SELECT blob FROM versions UNION SELECT blob FROM wheels")
    assert stored == {key for (key,) in named if key}
    kept = dict(databases.sql(pair.place, "SELECT version, sha256 FROM versions"))
    for number in (numbers[0], numbers[-1]):
        detail = there.get(f"/environmentshub/{pair.second.owner}/killed/@{number}").json()["data"]
        data = there.get(detail["package_url"], follow_redirects=True).content
        assert hashlib.sha256(data).hexdigest() == kept[number]

    # The first one comes back and finds all of it.
    pair.first.start()
    again = pair.first.client(token)
    assert {row["id"] for row in again.get("/sandbox", params={"per_page": 50}).json()["sandboxes"]} == ids
