"""Sandboxes through the Hub, on the real runner (sandboxes.md §2 and §4)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from prime_hub.app import create_app
from prime_hub.settings import Settings
from prime_hub.web.middleware import BodyLimit
from tests.conftest import RunningHub, alive
from tests.hub.images import DOCKERFILE, Gateway, build, create, fetch, until
from tests.support import databases

# The twelve that every official client needs, 0.2.13 to 0.5.1 (sandboxes.md §1.3).
REQUIRED = [
    *("id", "name", "dockerImage", "cpuCores", "memoryGB", "diskSizeGB"),
    *("diskMountPath", "gpuCount", "status", "timeoutMinutes", "createdAt", "updatedAt"),
]


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    """A Hub with the image `tiny:latest`."""
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


def test_from_create_to_delete(ready: RunningHub) -> None:
    api = ready.api
    body = {
        "name": "whole",
        "docker_image": f"prime/{ready.owner}/tiny:latest",
        "environment_vars": {"GREETING": "from outside"},
        "labels": ["a", "b"],
        "cpu_cores": 0.5,
        "memory_gb": 2,
        "lease_seconds": 60,
    }
    answer = api.post("/sandbox", json=body)
    made = answer.json()
    assert answer.status_code == 200 and [field for field in REQUIRED if made.get(field) is None] == []
    assert (made["cpuCores"], made["memoryGB"], made["labels"], made["vm"]) == (0.5, 2, ["a", "b"], False)
    assert isinstance(made["memoryGB"], int), "old clients take whole numbers only"
    assert "from outside" not in answer.text and "startCommand" not in made
    auth = made["gatewayAuth"]
    for field in ("gateway_url", "user_ns", "job_id", "token", "expires_at"):
        assert isinstance(auth[field], str)
    assert auth["is_vm"] is False and not auth["gateway_url"].endswith("/")
    running = api.get(f"/sandbox/{made['id']}", params={"wait": 20}).json()
    assert running["status"] == "RUNNING" and running["startedAt"]
    exposed = api.post(f"/sandbox/{made['id']}/expose", json={"port": 8000, "protocol": "TCP"}).json()
    assert exposed["external_endpoint"].startswith("127.0.0.1:") and exposed["tls_socket"] == ""
    assert exposed["url"] == f"http://{exposed['external_endpoint']}"
    inside = fetch(exposed["url"])
    assert inside["greeting"] == "from outside"
    assert (
        api.post(f"/sandbox/{made['id']}/expose", json={"port": 8000}).json()["exposure_id"] == exposed["exposure_id"]
    )
    heard = api.get(f"/sandbox/{made['id']}/listen").json()["addresses"]
    assert [address["port"] for address in heard] == [8000], heard
    for path in (f"{made['id']}/expose", "expose/all"):
        rows = api.get(f"/sandbox/{path}").json()["exposures"]
        assert exposed["exposure_id"] in [row["exposure_id"] for row in rows]
    removed = api.delete(f"/sandbox/{made['id']}/expose/{exposed['exposure_id']}")
    assert removed.status_code == 200 and isinstance(removed.json(), dict)
    logs = api.get(f"/sandbox/{made['id']}/logs").json()["logs"]
    assert "server is starting" in logs and "a warning" in logs
    gone = api.delete(f"/sandbox/{made['id']}")
    assert gone.status_code == 200 and isinstance(gone.json(), dict)
    assert not alive(inside["pid"])
    again = api.delete(f"/sandbox/{made['id']}")
    assert again.status_code == 404 and again.json()["detail"]
    after = api.get(f"/sandbox/{made['id']}").json()
    assert after["status"] == "TERMINATED" and after["terminatedAt"]
    context = api.get(f"/sandbox/{made['id']}/error-context").json()
    assert context["status"] == "TERMINATED" and "server is starting" in context["logs"]


def test_commands_and_files(ready: RunningHub) -> None:
    box = create(ready.api)
    inside = Gateway(ready, box["gatewayAuth"])
    done = inside.execute("echo out; echo err >&2; echo $A-$GREETING; exit 3", env={"A": "1"})
    assert done.json() == {"stdout": "out\n1-hello\n", "stderr": "err\n", "exit_code": 3}
    assert inside.execute("pwd; ls", working_dir="/app").json()["stdout"].endswith("server.py\n")
    slow = inside.execute("sleep 30", timeout=1)
    assert slow.status_code == 408 and slow.json()["detail"]
    data = bytes(range(256)) * 5000
    written = inside.upload("/app/made/here.bin", data)
    assert written.status_code == 200, written.text
    assert {"success", "path", "size", "timestamp"} <= set(written.json()) and written.json()["size"] == len(data)
    assert inside.get("download", path="/app/made/here.bin", sandbox_id="x").content == data
    assert inside.execute("wc -c < /app/made/here.bin").json()["stdout"].strip() == str(len(data))
    text = "".join(f"line {number}\n" for number in range(1000))
    inside.upload("/app/text.txt", text.encode())
    whole = inside.get("read-file", path="/app/text.txt").json()
    assert (whole["content"], whole["size"], whole["truncated"]) == (text, len(text), False)
    window = inside.get("read-file", path="/app/text.txt", offset=5, length=10).json()
    assert (window["content"], window["offset"], window["truncated"]) == (text[5:15], 5, True)
    tail = inside.get("read-file", path="/app/text.txt", offset=-10485760, length=10485760).json()
    assert (tail["content"], tail["total_size"]) == (text, len(text))
    last = inside.get("read-file", path="/app/text.txt", offset=-9, length=100).json()
    assert (last["content"], last["offset"], last["truncated"]) == ("line 999\n", len(text) - 9, False)
    for operation in ("read-file", "download"):
        missing = inside.get(operation, path="/app/no-such")
        assert missing.status_code == 404 and missing.json()["detail"]
    assert inside.post("upload", params={"path": "/app/x"}).status_code == 422
    ready.api.delete(f"/sandbox/{box['id']}")


def test_the_inside_is_only_for_its_own_token(ready: RunningHub) -> None:
    box, other = create(ready.api), create(ready.api)
    for token in ("", "wrong", ready.token, other["gatewayAuth"]["token"]):
        refused = Gateway(ready, box["gatewayAuth"], token or "x").execute("true")
        assert refused.status_code == 401, token
    url = f"{ready.url}/gateway/me/{box['id']}/read-file"
    odd = ready.client().get(url, params={"path": "x"}, headers={b"Authorization": b"Bearer 99999999999.\xe9"})
    assert odd.status_code == 401
    again = ready.api.post(f"/sandbox/{box['id']}/auth").json()
    assert Gateway(ready, again).execute("echo hello").json()["stdout"] == "hello\n"
    for one in (box, other):
        ready.api.delete(f"/sandbox/{one['id']}")
    ended = Gateway(ready, again).execute("true")
    assert ended.status_code == 502 and ended.json()["error"] == "sandbox_not_found"


def test_sandboxes_of_two_owners_are_apart(ready: RunningHub) -> None:
    box = create(ready.api, labels=["shared"])
    eve = ready.client(ready.add_user("eve-sandboxes"))
    address = f"/sandbox/{box['id']}"
    for answer in (
        eve.get(address),
        eve.get(f"{address}/logs"),
        eve.get(f"{address}/error-context"),
        eve.get(f"{address}/expose"),
        eve.get(f"{address}/listen"),
        eve.post(f"{address}/auth"),
        eve.post(f"{address}/expose", json={"port": 8000}),
        eve.post(f"{address}/lease", json={"lease_seconds": 1}),
        eve.delete(address),
    ):
        assert answer.status_code == 404 and answer.json()["detail"] == f"eve-sandboxes has no sandbox {box['id']}."
    assert eve.get("/sandbox").json()["sandboxes"] == []
    assert eve.get("/sandbox/expose/all").json()["exposures"] == []
    assert eve.post("/sandbox/status:batchGet", json={"sandbox_ids": [box["id"]]}).json()["statuses"] == []
    many = eve.request("DELETE", "/sandbox", json={"sandbox_ids": [box["id"]], "labels": ["shared"]}).json()
    assert many["succeeded"] == [] and many["failed"][0]["sandbox_id"] == box["id"]
    assert ready.api.get(address).json()["status"] == "RUNNING"
    assert ready.client().get(address).status_code == 401
    ready.api.delete(address)


def test_create_is_idempotent_by_key(ready: RunningHub) -> None:
    body = {"name": "once", "docker_image": "tiny", "idempotency_key": "k" * 32}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ready.api.post("/sandbox", json=body), range(6)))
    made = {answer.json()["id"] for answer in answers}
    assert [answer.status_code for answer in answers] == [200] * 6 and len(made) == 1
    bob = ready.client(ready.add_user("bob-key"))
    assert bob.post("/sandbox", json=body).status_code == 404, "another account's key is another key"
    ready.api.delete(f"/sandbox/{made.pop()}")


def test_lists_labels_and_batches(ready: RunningHub) -> None:
    api = ready.api
    boxes = [create(api, labels=["lot", f"n{number}"]) for number in range(3)]
    ids = [box["id"] for box in boxes]
    page = api.get("/sandbox", params={"labels": ["lot"], "per_page": 2, "page": 1}).json()
    assert [row["id"] for row in page["sandboxes"]] == ids[::-1][:2]
    assert (page["total"], page["page"], page["perPage"], page["hasNext"]) == (3, 1, 2, True)
    second = api.get("/sandbox", params={"labels": ["lot"], "per_page": 2, "page": 2}).json()
    assert [row["id"] for row in second["sandboxes"]] == ids[:1] and second["hasNext"] is False
    assert api.get("/sandbox", params={"labels": ["lot", "n1"]}).json()["total"] == 1
    batch = api.post("/sandbox/status:batchGet", json={"sandbox_ids": [*ids, "nope"]}).json()
    assert {row["sandbox_id"]: row["status"] for row in batch["statuses"]} == dict.fromkeys(ids, "RUNNING")
    assert batch["errors"][0]["code"] == "NOT_FOUND" and batch["errors"][0]["message"]
    assert api.post("/sandbox/status:batchGet", json={"sandbox_ids": ["x"] * 101}).status_code == 422
    gone = api.request("DELETE", "/sandbox", json={"labels": ["lot"]}).json()
    assert set(gone["succeeded"]) == set(ids) and gone["failed"] == [] and gone["message"]
    assert api.get("/sandbox", params={"labels": ["lot"], "is_active": True}).json()["total"] == 0
    assert api.get("/sandbox", params={"labels": ["lot"], "status": "TERMINATED"}).json()["total"] == 3
    assert api.request("DELETE", "/sandbox", json={}).status_code == 422
    assert "not a status" in api.get("/sandbox", params={"status": "HAPPY"}).json()["detail"]


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [("sh -c 'echo last words; exit 7'", "ERROR", 7), (["sh", "-c", "echo last words"], "TERMINATED", 0)],
)
def test_a_start_command_that_ends(ready: RunningHub, command: object, status: str, code: int) -> None:
    made = ready.api.post("/sandbox", json={"name": "x", "docker_image": "tiny", "start_command": command}).json()
    row = until(ready.api, made["id"], "ERROR", "TERMINATED")
    assert (row["status"], row["exitCode"], row["errorType"]) == (status, code, "EXITED")
    context = ready.api.get(f"/sandbox/{made['id']}/error-context").json()
    assert "last words" in context["logs"] and context["exitCode"] == code and context["errorMessage"]
    late = Gateway(ready, made["gatewayAuth"]).execute("true")
    assert late.status_code == 409 and late.json()["error"] == "sandbox_terminated"
    assert ready.api.post(f"/sandbox/{made['id']}/expose", json={"port": 8000}).status_code == 410
    assert ready.api.delete(f"/sandbox/{made['id']}").status_code == 200


def test_a_start_command_as_an_object(ready: RunningHub) -> None:
    command = {"executable": "python", "args": ["server.py", "--port", "8000"]}
    box = create(ready.api, start_command=command, vm=True)
    assert box["status"] == "RUNNING" and box["vm"] is True and box["gatewayAuth"]["is_vm"] is True
    ready.api.delete(f"/sandbox/{box['id']}")
    bad = ready.api.post("/sandbox", json={"name": "x", "docker_image": "tiny", "start_command": {"args": []}})
    assert bad.status_code == 422 and "executable" in bad.json()["detail"]


def test_a_command_that_does_not_exist(ready: RunningHub) -> None:
    made = ready.api.post(
        "/sandbox", json={"name": "x", "docker_image": "tiny", "start_command": "no-such-program"}
    ).json()
    row = until(ready.api, made["id"], "ERROR")
    assert row["errorMessage"] and row["errorType"]


def test_a_lease_that_is_not_renewed_ends_it(ready: RunningHub) -> None:
    box = create(ready.api, lease_seconds=2)
    port = ready.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000}).json()
    pid = fetch(port["url"])["pid"]
    renewed = ready.api.post(f"/sandbox/{box['id']}/lease", json={"lease_seconds": 4}).json()
    assert renewed["expires_at"] > box["createdAt"]
    row = until(ready.api, box["id"], "TIMEOUT")
    assert row["errorType"] == "TIMEOUT" and row["errorMessage"]
    assert not alive(pid)
    late = ready.api.post(f"/sandbox/{box['id']}/lease", json={"lease_seconds": 4})
    assert late.status_code == 410 and "has ended" in late.json()["detail"]
    assert "server is starting" in ready.api.get(f"/sandbox/{box['id']}/error-context").json()["logs"]


def test_a_lease_runs_out_without_a_hub(ready: RunningHub) -> None:
    box = create(ready.api, lease_seconds=2)
    pid = fetch(ready.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000}).json()["url"])["pid"]
    ready.close_clients()
    ready.kill()
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ready.start()
    assert until(ready.api, box["id"], "TIMEOUT")["errorType"] == "TIMEOUT"


def test_sandboxes_outlive_their_hub(hub: RunningHub) -> None:
    build(hub.api)
    box = create(hub.api)
    port = hub.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000}).json()
    before, runner = fetch(port["url"]), hub.runner_pid
    hub.stop()
    assert fetch(port["url"]) == before, "reachable with no Hub at all"
    hub.start()
    hub.wait_for_runner()
    assert hub.runner_pid == runner
    assert hub.api.get(f"/sandbox/{box['id']}").json()["status"] == "RUNNING"
    fresh = hub.api.post(f"/sandbox/{box['id']}/auth").json()
    assert Gateway(hub, fresh).execute("echo still here").json()["stdout"] == "still here\n"
    hub.close_clients()
    hub.kill()
    hub.start()
    assert hub.api.delete(f"/sandbox/{box['id']}").status_code == 200
    assert not alive(before["pid"])


def test_a_killed_runner_is_replaced_and_takes_over(hub: RunningHub) -> None:
    build(hub.api)
    box = create(hub.api)
    port = hub.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000}).json()
    before, runner = fetch(port["url"]), hub.runner_pid
    assert runner is not None
    os.kill(runner, signal.SIGKILL)
    done = Gateway(hub, box["gatewayAuth"]).execute("echo here")
    while done.status_code == 503:
        done = Gateway(hub, box["gatewayAuth"]).execute("echo here")
    assert done.status_code == 200 and done.json()["stdout"] == "here\n", done.text
    assert hub.wait_for_runner()["state"] == "ready" and hub.runner_pid != runner
    assert hub.api.get(f"/sandbox/{box['id']}").json()["status"] == "RUNNING"
    assert fetch(port["url"])["pid"] == before["pid"]
    assert hub.api.delete(f"/sandbox/{box['id']}").status_code == 200
    assert not alive(before["pid"])


def test_what_was_only_recorded_is_started_by_the_next_hub(hub: RunningHub) -> None:
    build(hub.api)
    made = create(hub.api)
    hub.api.delete(f"/sandbox/{made['id']}")
    hub.stop()
    hub.sql("UPDATE sandboxes SET status='PENDING', placed_at=NULL, deleted_at=NULL, environment='{}'")
    hub.sql("UPDATE sandboxes SET id='0123456789abcdef01234567'")
    hub.start()
    assert until(hub.api, "0123456789abcdef01234567", "RUNNING")["name"] == "test"


def test_what_nobody_has_on_record_is_ended(hub: RunningHub) -> None:
    build(hub.api)
    box = create(hub.api)
    pid = fetch(hub.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000}).json()["url"])["pid"]
    hub.stop()
    hub.sql("DELETE FROM exposures")
    hub.sql("DELETE FROM sandboxes")
    hub.start()
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline, hub.log
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"docker_image": "no-such:latest"}, 404, "no-such:latest"),
        ({"docker_image": "no-such-owner/tiny:latest"}, 404, "no-such-owner/tiny"),
        ({"docker_image": "Bad Name"}, 422, "image name"),
        ({"docker_image": "tiny@sha256:12"}, 422, "digest"),
        ({"docker_image": "tiny", "gpu_count": 1}, 422, "GPU"),
        ({"docker_image": "tiny", "team_id": "c1"}, 404, "There is no team 'c1'"),
        ({"docker_image": "tiny", "team_id": "c\0"}, 422, "NUL"),
        ({"docker_image": "tiny", "memory_gb": 100_000}, 422, "100000 were asked for; ask for less: --memory"),
        ({"docker_image": "tiny", "cpu_cores": 10_000}, 422, "processors for a sandbox, and 10000 were asked for"),
        ({"docker_image": "tiny", "disk_size_gb": 1_000_000}, 422, "GiB of disk for a sandbox, and 1000000 were"),
        ({"docker_image": "tiny", "timeout_minutes": 2880}, 422, "at most 24 hours, and 48 were asked for"),
    ],
)
def test_requests_that_cannot_be(ready: RunningHub, body: dict[str, object], status: int, words: str) -> None:
    refused = ready.api.post("/sandbox", json={"name": "x", **body})
    assert refused.status_code == status and words in refused.json()["detail"], refused.text


@pytest.mark.parametrize(
    "reference",
    [
        "tiny",
        "tiny:latest",
        "{me}/tiny:latest",
        "prime/{me}/tiny:latest",
        "registry.prime.box/tiny:latest",
        "registry.primeintellect.ai/{me}/tiny:latest",
        "localhost:5000/{me}/tiny",
    ],
)
def test_every_spelling_of_an_image(ready: RunningHub, reference: str) -> None:
    box = create(ready.api, reference.format(me=ready.owner))
    assert box["status"] == "RUNNING"
    ready.api.delete(f"/sandbox/{box['id']}")


def test_variables_are_forgotten_once_used_and_never_shown(hub: RunningHub) -> None:
    build(hub.api, files={"Dockerfile": DOCKERFILE.replace("ENV GREETING=hello\n", "")})
    secret = "a-very-secret-value"
    box = create(hub.api, environment_vars={"GREETING": secret}, secrets={"KEY": f"{secret}-2"})
    assert Gateway(hub, box["gatewayAuth"]).execute("echo $GREETING $KEY").json()["stdout"] == f"{secret} {secret}-2\n"
    for path in ("/sandbox", f"/sandbox/{box['id']}", f"/sandbox/{box['id']}/error-context"):
        assert secret not in hub.api.get(path).text
    hub.api.delete(f"/sandbox/{box['id']}")
    hub.stop()
    assert secret not in hub.log
    assert secret not in databases.everything(hub.data_dir)


@pytest.mark.sqlite
def test_variables_are_not_in_the_log_of_a_failing_database(hub: RunningHub) -> None:
    build(hub.api)
    hub.sql("CREATE TRIGGER full BEFORE INSERT ON sandboxes BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END")
    body = {"name": "x", "docker_image": "tiny", "secrets": {"KEY": "a-very-secret-value"}}
    refused = hub.api.post("/sandbox", json=body)
    assert refused.status_code >= 500 and refused.json()["detail"]
    assert "INSERT INTO sandboxes" in hub.log and "a-very-secret-value" not in hub.log


@pytest.mark.parametrize("field", ["cpu_cores", "memory_gb", "disk_size_gb"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1"])
def test_sizes_are_numbers(ready: RunningHub, field: str, value: str) -> None:
    content = f'{{"name": "x", "docker_image": "tiny", "{field}": {value}}}'
    refused = ready.api.post("/sandbox", content=content, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422 and refused.json()["detail"][0]["loc"] == ["body", field]
    assert ready.api.get("/sandbox").status_code == 200


async def test_an_upload_of_unknown_length_has_a_limit() -> None:
    """Also where the sender does not say how much will come."""
    sent = 0

    async def takes_all(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 18
            yield bytes(1 << 18)

    limited = BodyLimit(takes_all, limit=1 << 10, file_limit=1 << 20)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://hub") as client:
        for operation in ("upload", "files", "files/tree"):
            sent = 0
            with pytest.raises(HTTPException, match="larger than") as refused:
                await client.put(f"/gateway/me/box/{operation}", content=endless())
            assert refused.value.status_code == 413 and sent < 4 << 20


async def test_an_upload_to_nowhere_is_refused_before_it_is_read(tmp_path: Path) -> None:
    app = create_app(Settings(tmp_path / "data"))
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        while sent < 64 << 20:
            sent += 1 << 18
            yield bytes(1 << 18)

    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Authorization": f"Bearer {app.state.hub.signer.sign('gateway/box', 60)}",
    }
    await app.state.hub.open()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            url = "/gateway/me/box/upload"
            refused = await client.post(url, params={"path": "/x"}, content=endless(), headers=headers)
    finally:
        await app.state.hub.close()
    assert refused.status_code == 502 and refused.json()["error"] == "sandbox_not_found", refused.text
    assert sent < 4 << 20


def test_a_large_file_is_streamed(ready: RunningHub) -> None:
    box = create(ready.api)
    inside = Gateway(ready, box["gatewayAuth"])
    piece = os.urandom(1 << 20)
    assert inside.upload("/app/large.bin", piece * 40).json()["size"] == 40 << 20
    too_long = inside.get("read-file", path="/app/large.bin")
    assert too_long.status_code == 413 and "windows" in too_long.json()["detail"]
    seen = 0
    auth = box["gatewayAuth"]
    url = f"{auth['gateway_url']}/{auth['user_ns']}/{auth['job_id']}/download"
    with httpx.stream(
        "GET",
        url,
        params={"path": "/app/large.bin"},
        headers={"Authorization": f"Bearer {auth['token']}"},
        trust_env=False,
    ) as answer:
        for part in answer.iter_bytes():
            assert part[:4096] in piece * 2
            seen += len(part)
    assert seen == 40 << 20
    ready.api.delete(f"/sandbox/{box['id']}")
