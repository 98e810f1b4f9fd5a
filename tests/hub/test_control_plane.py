"""The control plane of sandboxes for those who wait, for clients of different versions, and for what is not to be had."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.images import Gateway, build, create

OLD = {"User-Agent": "prime-sandboxes/0.2.24 python/3.11"}
NEW = {"User-Agent": "prime-sandboxes/0.5.1 python/3.11"}
OURS = ({"User-Agent": "prime-sandboxes/0.1.0 python/3.11"}, {"User-Agent": "prime-sandboxes/0.5.100 python/3.11"})


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


@pytest.fixture
def held_up(ready: RunningHub) -> Iterator[Callable[[], str]]:
    """Makes sandboxes that do not start before the runner goes on."""
    runner = ready.runner_pid
    assert runner is not None
    made: list[str] = []

    def make() -> str:
        os.kill(runner, signal.SIGSTOP)
        answer = ready.api.post("/sandbox", json={"name": "held", "docker_image": "tiny"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] in ("PENDING", "PROVISIONING")
        made.append(answer.json()["id"])
        return made[-1]

    yield make
    os.kill(runner, signal.SIGCONT)
    for sandbox_id in made:
        ready.api.delete(f"/sandbox/{sandbox_id}")


def held(ready: RunningHub, ask: Callable[[httpx.Client], httpx.Response]) -> dict[str, Any]:
    """The answer to a request that is held until the runner goes on."""
    answers: list[httpx.Response] = []
    client = ready.client(ready.token)
    thread = threading.Thread(target=lambda: answers.append(ask(client)))
    thread.start()
    thread.join(0.7)
    assert thread.is_alive(), answers[0].text
    assert ready.runner_pid is not None
    os.kill(ready.runner_pid, signal.SIGCONT)
    thread.join(60)
    assert answers[0].status_code == 200, answers[0].text
    return answers[0].json()


def test_statuses_are_held_while_all_wait(ready: RunningHub, held_up: Callable[[], str]) -> None:
    ids = [held_up(), held_up()]
    at_once = ready.api.post("/sandbox/status:batchGet", json={"sandbox_ids": ids, "wait": 0}).json()
    assert {row["status"] for row in at_once["statuses"]} <= {"PENDING", "PROVISIONING"}
    mixed = ready.api.post("/sandbox/status:batchGet", json={"sandbox_ids": [*ids, "unknown"]}).json()
    assert len(mixed["statuses"]) == 2 and mixed["errors"][0]["code"] == "NOT_FOUND"
    told = held(ready, lambda client: client.post("/sandbox/status:batchGet", json={"sandbox_ids": ids}))
    assert "RUNNING" in {row["status"] for row in told["statuses"]}


@pytest.mark.parametrize("agent", [OLD, NEW])
def test_an_official_client_that_polls_is_held(
    ready: RunningHub, held_up: Callable[[], str], agent: dict[str, str]
) -> None:
    sandbox_id = held_up()
    for headers in ({"User-Agent": "curl/8"}, *OURS):
        assert ready.api.get(f"/sandbox/{sandbox_id}", headers=headers).json()["status"] != "RUNNING"
    assert ready.api.get(f"/sandbox/{sandbox_id}", headers=agent, params={"wait": 0}).json()["status"] != "RUNNING"
    assert held(ready, lambda client: client.get(f"/sandbox/{sandbox_id}", headers=agent))["status"] == "RUNNING"


def test_the_start_command_in_the_form_that_each_version_takes(ready: RunningHub) -> None:
    api = ready.api
    text = create(api, start_command="python server.py --port 8000")["id"]
    words = create(api, start_command={"executable": "python", "args": ["server.py", "--port", "8000"]})["id"]

    def shown(sandbox_id: str, headers: dict[str, str]) -> object:
        return api.get(f"/sandbox/{sandbox_id}", headers=headers).json().get("startCommand")

    assert shown(text, OLD) == shown(words, OLD) == "python server.py --port 8000"
    assert shown(words, NEW) == {"executable": "python", "args": ["server.py", "--port", "8000"]}
    assert shown(text, NEW) == {"executable": "/bin/sh", "args": ["-c", "python server.py --port 8000"]}
    assert shown(text, {"User-Agent": "curl/8"}) is None
    listed = api.get("/sandbox", headers=NEW).json()["sandboxes"]
    assert all(isinstance(row["startCommand"], dict) for row in listed if row["id"] in (text, words))
    for sandbox_id in (text, words):
        api.delete(f"/sandbox/{sandbox_id}")


def test_background_jobs(ready: RunningHub) -> None:
    box = create(ready.api)
    inside = Gateway(ready, box["gatewayAuth"])
    inside.execute("echo 3 > /tmp/job_aaaa1111.exit; : > /tmp/job_bbbb2222.exit; echo x > /tmp/job_cccc3333.exit")
    asked = [
        *({"sandbox_id": box["id"], "job_id": name} for name in ("aaaa1111", "bbbb2222", "cccc3333", "dddd4444")),
        *({"sandbox_id": box["id"], "job_id": name} for name in ("../../etc/passwd", "a/b", "")),
        {"sandbox_id": "unknown", "job_id": "aaaa1111"},
    ]
    told = ready.api.post("/sandbox/background-jobs/status:batchGet", json={"jobs": asked}).json()
    found = {row["job_id"]: (row["completed"], row["exit_code"]) for row in told["statuses"]}
    assert found == {
        "aaaa1111": (True, 3),
        "bbbb2222": (False, None),
        "cccc3333": (False, None),
        "dddd4444": (False, None),
    }
    assert [row["code"] for row in told["errors"]] == ["NOT_FOUND"] * 4
    eve = ready.client(ready.add_user("eve-jobs"))
    assert eve.post("/sandbox/background-jobs/status:batchGet", json={"jobs": asked}).json()["statuses"] == []
    ready.api.delete(f"/sandbox/{box['id']}")
    told = ready.api.post("/sandbox/background-jobs/status:batchGet", json={"jobs": asked[:1]}).json()
    assert told["statuses"] == [] and told["errors"][0]["code"] == "NOT_RUNNING"


def test_network_rules(ready: RunningHub) -> None:
    enforced = "egress" in ready.api.get("/health").json()["runner"].get("enforces", [])
    box = create(ready.api)
    address = f"/sandbox/{box['id']}/egress-policy"
    policy = ready.api.get(address).json()
    assert policy == {
        "policy": {"allowlist": None, "denylist": []},
        "generation": 1,
        "applied_generation": 1,
        "applied": True,
    }
    both = ready.api.put(address, json={"allowlist": ["a.org"], "denylist": ["b.org"]})
    assert both.status_code == 422 and "not both" in both.json()["detail"]
    wrong = ready.api.put(address, json={"allowlist": ["http://a.org/"]})
    assert wrong.status_code == 422 and "http://a.org/" in wrong.json()["detail"]
    eve = ready.client(ready.add_user("eve-network"))
    assert eve.get(address).status_code == eve.put(address, json={"allowlist": []}).status_code == 404
    changed = ready.api.put(address, json={"allowlist": ["a.org"], "denylist": None})
    body = {"name": "x", "docker_image": "tiny"}
    asked = [{"network_access": False}, {"network_allowlist": []}, {"network_denylist": ["a.org"]}]
    made = [ready.api.post("/sandbox", json={**body, **rules}) for rules in asked]
    if enforced:
        assert changed.json()["policy"]["allowlist"] == ["a.org"] and changed.json()["generation"] == 2
        shown = [(row.json()["networkAllowlist"], row.json()["networkDenylist"]) for row in made]
        assert shown == [([], None), ([], None), (None, ["a.org"])]
    else:
        for refused in (changed, *made):
            assert refused.status_code == 422 and "does not restrict" in refused.json()["detail"], refused.text
        assert ready.api.get(address).json() == policy
    for row in ready.api.get("/sandbox", params={"is_active": True}).json()["sandboxes"]:
        ready.api.delete(f"/sandbox/{row['id']}")


OTHER_MACHINE = "arm64" if platform.machine() == "x86_64" else "amd64"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"checkpoint_id": "c1", "docker_image": None}, "checkpoints"),
        ({"docker_image": None}, "docker_image"),
        ({"volumes": [{"name": "v", "mount_path": "/v"}]}, "volumes"),
        ({"registry_credentials_id": "r"}, "credentials"),
        ({"arch": OTHER_MACHINE}, OTHER_MACHINE),
        ({"network_access": False, "network_allowlist": ["a.org"]}, "network_allowlist"),
        ({"network_allowlist": ["a b"]}, "a b"),
        ({"start_command": {"executable": ""}}, "executable"),
    ],
)
def test_what_cannot_be_asked_for(ready: RunningHub, fields: dict[str, Any], words: str) -> None:
    refused = ready.api.post("/sandbox", json={"name": "x", "docker_image": "tiny", **fields})
    assert refused.status_code == 422 and words in refused.json()["detail"], refused.text


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "x/checkpoints", "image"),
        ("POST", "checkpoints:batchGet", "image"),
        ("DELETE", "checkpoints/c1", "image"),
        ("POST", "networks", "expose"),
        ("GET", "networks", "expose"),
        ("PUT", "networks/n/members/s", "expose"),
        ("GET", "volumes", "upload"),
        ("POST", "x/volumes/v/publish", "upload"),
        ("POST", "x/ssh-session", "prime sandbox shell"),
        ("DELETE", "x/ssh-session/s", "prime sandbox shell"),
    ],
)
def test_what_is_not_there_says_what_to_do_instead(ready: RunningHub, method: str, path: str, words: str) -> None:
    refused = ready.api.request(method, f"/sandbox/{path}")
    assert refused.status_code == 422 and refused.json()["error"] == "not_supported"
    assert words in refused.json()["detail"]
    assert ready.client().request(method, f"/sandbox/{path}").status_code == 401
