"""Image builds through the Hub, on the real runner."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import HubFactory, RunningHub
from tests.hub.images import DOCKERFILE, begin, build, context, create, held_context, wait
from tests.hub.pushing import make_archive, push, put
from tests.support import stores


def test_a_build_from_request_to_listing(module_hub: RunningHub) -> None:
    api, me = module_hub.api, module_hub.owner
    begun = begin(api, "listed", "v1")
    for field in ("build_id", "upload_url", "expires_in", "fullImagePath"):
        assert begun[field]
    assert begun["fullImagePath"] == f"prime/{me}/listed:v1" and begun["cached"] is False
    early = api.post(f"/images/build/{begun['build_id']}/start", json={"context_uploaded": True})
    assert early.status_code == 400 and "not been uploaded" in early.json()["detail"]
    assert put(begun["upload_url"], context()).status_code == 200
    assert put(begun["upload_url"], context()).status_code == 200
    for _ in range(2):
        assert api.post(f"/images/build/{begun['build_id']}/start", json={"context_uploaded": True}).status_code == 200
    done = wait(api, begun["build_id"])
    assert done["status"] == "COMPLETED" and done["errorMessage"] is None, done
    assert done["imageDigest"].startswith("sha256:") and done["startedAt"] and done["completedAt"]
    late = put(begun["upload_url"], context())
    assert late.status_code == 200
    page = api.get("/images", params={"search": "listed"}).json()
    assert (page["totalCount"], page["offset"], page["limit"]) == (1, 0, 50)
    row = page["data"][0]
    assert (row["imageName"], row["imageTag"], row["status"]) == ("listed", "v1", "COMPLETED")
    assert row["artifactType"] == "VM_SANDBOX" and row["id"] and row["createdAt"] and row["sizeBytes"] > 0
    assert row["digest"] == done["imageDigest"]
    for path in ("listed/v1", f"{me}/listed/v1"):
        assert api.get(f"/images/{path}").json() == row
    assert api.get("/images/listed/v2").status_code == 404


def test_the_log_is_read_along_and_kept(module_hub: RunningHub) -> None:
    done = build(module_hub.api, "logged")
    address = f"/images/build/{done['id']}/logs"
    whole = module_hub.api.get(address).json()
    assert whole["complete"] is True and "COPY server.py" in whole["text"]
    assert whole["offset"] == len(whole["text"].encode())
    rest = module_hub.api.get(address, params={"offset": 10}).json()
    assert rest["text"] == whole["text"].encode()[10:].decode()
    end = module_hub.api.get(address, params={"offset": whole["offset"]}).json()
    assert (end["text"], end["complete"]) == ("", True)


def test_a_failed_build_says_why_and_is_listed(module_hub: RunningHub) -> None:
    bad = DOCKERFILE.replace("COPY server.py .", "COPY no-such-file .")
    failed = build(module_hub.api, "broken", files={"Dockerfile": bad})
    assert failed["status"] == "FAILED" and "no-such-file" in failed["errorMessage"]
    assert "\n" not in failed["errorMessage"] and failed["imageDigest"] is None
    row = module_hub.api.get("/images", params={"search": "broken"}).json()["data"][0]
    assert (row["status"], row["errorMessage"]) == ("FAILED", failed["errorMessage"])
    log = module_hub.api.get(f"/images/build/{failed['id']}/logs").json()
    assert log["complete"] and "no-such-file" in log["text"]
    missing = module_hub.api.post("/sandbox", json={"name": "x", "docker_image": "broken:latest"})
    assert missing.status_code == 404 and "build it" in missing.json()["detail"]
    assert build(module_hub.api, "broken")["status"] == "COMPLETED"
    rows = module_hub.api.get("/images", params={"search": "broken"}).json()["data"]
    assert [row["status"] for row in rows] == ["COMPLETED"]


@pytest.mark.parametrize("data", [b"", b"no archive", make_archive({"server.py": b"x = 1\n"})])
def test_a_context_that_cannot_be_built(module_hub: RunningHub, data: bytes) -> None:
    begun = begin(module_hub.api, "hollow")
    put(begun["upload_url"], data)
    module_hub.api.post(f"/images/build/{begun['build_id']}/start")
    failed = wait(module_hub.api, begun["build_id"])
    assert failed["status"] == "FAILED" and failed["errorMessage"]


def test_the_same_context_is_not_built_twice(module_hub: RunningHub) -> None:
    api = module_hub.api
    first = build(api, "cached", context_digest="a1", port=8000)
    again = begin(api, "cached", "second", context_digest="a1", port=8000)
    assert again["cached"] is True and again["status"] == "COMPLETED"
    assert again["imageDigest"] == first["imageDigest"] and again["upload_url"]
    assert api.get("/images/cached/second").json()["digest"] == first["imageDigest"]
    for changed in (
        {"context_digest": "a2", "port": 8000},
        {"context_digest": "a1", "port": 8000, "no_cache": True},
        {"context_digest": "a1", "port": 8000, "build_args": {"A": "1"}},
        {"context_digest": "a1", "port": 8000, "dockerfile_path": "server/Dockerfile"},
        {},
    ):
        assert begin(api, "cached", "third", **changed)["cached"] is False, changed
    bob = module_hub.client(module_hub.add_user("bob-cache"))
    assert begin(bob, "cached", context_digest="a1", port=8000)["cached"] is False


def test_a_tag_moves_and_a_digest_stays(module_hub: RunningHub) -> None:
    old = build(module_hub.api, "moving")["imageDigest"]
    new = build(module_hub.api, "moving", files={"extra.py": "x = 1\n", "Dockerfile": DOCKERFILE + "COPY extra.py .\n"})
    assert new["imageDigest"] != old
    assert module_hub.api.get("/images/moving/latest").json()["digest"] == new["imageDigest"]
    pinned = create(module_hub.api, f"moving:latest@{old}")
    assert pinned["imageDigest"] == old
    module_hub.api.delete(f"/sandbox/{pinned['id']}")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"image_name": "Upper"}, "lower-case"),
        ({"image_name": "a/b"}, "image name"),
        ({"image_name": "ok", "image_tag": "-x"}, "image tag"),
        ({"image_name": "ok", "dockerfile_path": "../Dockerfile"}, "inside the build context"),
        ({"image_name": "ok", "visibility": "LOUD"}, "PUBLIC or PRIVATE"),
        ({"source_image": "python:3.11"}, "from a Dockerfile"),
        ({}, "name"),
    ],
)
def test_requests_that_cannot_be(module_hub: RunningHub, body: dict[str, object], words: str) -> None:
    refused = module_hub.api.post("/images/build", json=body)
    assert refused.status_code == 422 and words in refused.json()["detail"]


def test_images_of_two_owners_are_apart(module_hub: RunningHub) -> None:
    mine = build(module_hub.api, "private-image", files={"Dockerfile": DOCKERFILE + "ENV MINE=1\n"})
    build(module_hub.api, "open-image", visibility="PUBLIC")
    eve = module_hub.client(module_hub.add_user("eve-images"))
    me = module_hub.owner
    for path in (
        f"build/{mine['id']}",
        f"build/{mine['id']}/logs",
        "private-image/latest",
        f"{me}/private-image/latest",
    ):
        assert eve.get(f"/images/{path}").status_code == 404, path
    assert eve.post(f"/images/build/{mine['id']}/start").status_code == 404
    assert eve.get("/images").json()["data"] == []
    assert eve.get(f"/images/{me}/open-image/latest").status_code == 200
    for reference in (f"{me}/private-image:latest", f"x@{mine['imageDigest']}", "private-image"):
        refused = eve.post("/sandbox", json={"name": "x", "docker_image": reference})
        assert refused.status_code == 404, refused.text
    refused = eve.post("/sandbox", json={"name": "x", "docker_image": f"prime/{me}/open-image:latest"})
    assert refused.status_code == 403 and "does not isolate" in refused.json()["detail"]
    push(module_hub.api, "with-image", metadata={"openenv": {"image": "any", "image_digest": mine["imageDigest"]}})
    refused = eve.post("/sandbox", json={"name": "x", "docker_image": "any", "image_digest": mine["imageDigest"]})
    assert refused.status_code == 403 and f"belongs to {me}" in refused.json()["detail"]
    nobody = module_hub.client()
    assert nobody.get("/images").status_code == 401
    assert nobody.post("/images/build", json={"image_name": "x"}).status_code == 401


@pytest.mark.parametrize("runtime", ["process", "bubblewrap"])
def test_accounts_not_made_here_build_nothing_that_would_run_as_the_hub(start_hub: HubFactory, runtime: str) -> None:
    if runtime == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    hub = start_hub("--runtime", runtime)
    client = hub.client(hub.add_user("carol"))
    hub.sql("UPDATE accounts SET local = false WHERE slug = 'carol'")
    begun = begin(client, "stranger")
    put(begun["upload_url"], context())
    refused = client.post(f"/images/build/{begun['build_id']}/start")
    assert refused.status_code == 403, refused.text
    assert f"runtime ({runtime}) does not isolate builds" in refused.json()["detail"]
    assert "--allow-foreign-images" in refused.json()["detail"]


def test_a_build_survives_a_killed_hub(hub: RunningHub, tmp_path: Path) -> None:
    hub.wait_for_runner()
    begun = begin(hub.api, "tough")
    put(begun["upload_url"], held_context(tmp_path / "gate"))
    hub.api.post(f"/images/build/{begun['build_id']}/start")
    _until_building(hub, begun["build_id"])
    hub.close_clients()
    hub.kill()
    (tmp_path / "gate").unlink()
    hub.start()
    done = wait(hub.api, begun["build_id"])
    assert done["status"] == "COMPLETED", done
    assert hub.api.get("/images/tough/latest").json()["digest"] == done["imageDigest"]
    _until_no_context(hub, begun["build_id"])


def test_a_build_survives_a_killed_runner(hub: RunningHub, tmp_path: Path) -> None:
    hub.wait_for_runner()
    begun = begin(hub.api, "tougher")
    put(begun["upload_url"], held_context(tmp_path / "gate"))
    hub.api.post(f"/images/build/{begun['build_id']}/start")
    _until_building(hub, begun["build_id"])
    assert hub.runner_pid is not None
    os.kill(hub.runner_pid, signal.SIGKILL)
    (tmp_path / "gate").unlink()
    done = wait(hub.api, begun["build_id"])
    assert done["status"] == "COMPLETED", (done, hub.log)


def _until_no_context(hub: RunningHub, build_id: str) -> None:
    """A build's context is not kept; it goes moments after the build is told to be over."""
    deadline = time.monotonic() + 30
    while any(key.startswith(f"contexts/{build_id}") for key in stores.keys(hub.data_dir)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _until_building(hub: RunningHub, build_id: str) -> None:
    state = hub.api.get(f"/images/build/{build_id}", params={"wait": 10}).json()
    if state["status"] == "PENDING":
        state = hub.api.get(f"/images/build/{build_id}", params={"wait": 10}).json()
    assert state["status"] == "BUILDING", state


@pytest.mark.disk
def test_a_context_that_arrives_after_the_start_replaces_nothing(module_hub: RunningHub) -> None:
    begun = begin(module_hub.api, "raced")
    whole = context()
    assert put(begun["upload_url"], whole).status_code == 200
    contexts = module_hub.data_dir / "blobs" / "contexts"
    started = threading.Event()

    def late() -> Iterator[bytes]:
        yield os.urandom(9 << 20)
        assert started.wait(30)
        yield whole

    with ThreadPoolExecutor() as pool:
        before = len(list(contexts.iterdir()))
        answer = pool.submit(httpx.put, begun["upload_url"], content=late(), timeout=60, trust_env=False)
        deadline = time.monotonic() + 30
        while len(list(contexts.iterdir())) <= before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        module_hub.api.post(f"/images/build/{begun['build_id']}/start")
        started.set()
        refused = answer.result()
    assert refused.status_code == 409 and "started already" in refused.json()["detail"]
    assert wait(module_hub.api, begun["build_id"])["status"] == "COMPLETED"
    _until_no_context(module_hub, begun["build_id"])


def test_a_stopping_hub_lets_go_of_those_who_wait(hub: RunningHub) -> None:
    """A held request is answered at once when the Hub is asked to stop, rather than holding it up."""
    begun = begin(hub.api, "waited-for")
    host, port = hub.url.removeprefix("http://").split(":")
    lines = [f"GET /api/v1/images/build/{begun['build_id']}?wait=25 HTTP/1.1", f"Host: {host}:{port}"]
    lines += [f"Authorization: Bearer {hub.token}", "Connection: close", "", ""]
    with socket.create_connection((host, int(port)), timeout=30) as held:
        held.sendall("\r\n".join(lines).encode())
        for _ in range(3):  # the Hub has taken up the first request by the time it has answered these
            hub.api.get("/user/whoami")
        assert hub.stop() == 0
        answer = b""
        while part := held.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and b'"status":"UPLOADING"' in answer


def test_uploads_into_builds_need_their_own_address(module_hub: RunningHub) -> None:
    begun = begin(module_hub.api, "signed-context")
    address = begun["upload_url"].split("?")[0]
    assert httpx.put(address, content=b"x", trust_env=False).status_code == 403
    assert put(f"{address}?token=9999999999.{'A' * 32}", b"x").status_code == 403


def test_a_cancelled_build_ends_and_names_no_image(module_hub: RunningHub, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    begun = begin(module_hub.api, "cancelled")
    assert put(begun["upload_url"], held_context(gate)).status_code == 200
    module_hub.api.post(f"/images/build/{begun['build_id']}/start", json={"context_uploaded": True})
    address = f"/images/build/{begun['build_id']}"
    while module_hub.api.get(address, params={"wait": 5}).json()["status"] == "PENDING":
        pass
    answer = module_hub.api.post(f"{address}/cancel", json={}).json()
    assert (answer["status"], answer["errorMessage"]) == ("CANCELLED", "The build was cancelled.")
    gate.unlink()
    deadline = time.monotonic() + 30
    while not module_hub.api.get(f"{address}/logs").json()["complete"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert module_hub.api.get(address).json()["status"] == "CANCELLED"
    assert module_hub.api.get("/images/cancelled/latest").status_code == 404
    # What has ended stays as it is, and a build of somebody else's is not there.
    done = build(module_hub.api, "finished")
    assert module_hub.api.post(f"/images/build/{done['id']}/cancel", json={}).json()["status"] == "COMPLETED"
    stranger = module_hub.client(module_hub.add_user("eve-cancels"))
    assert stranger.post(f"{address}/cancel", json={}).status_code == 404
