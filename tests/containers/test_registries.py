"""Images from and to an OCI registry, on a container engine: fetched for a sandbox, named, and pushed after a build."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import HubFactory, RunningHub
from tests.hub.images import begin, build, create, until, wait

CONFIG = """version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}
http:
  addr: 127.0.0.1:{port}
log:
  level: error
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`127.0.0.1:PORT` of an empty registry."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("there is no docker-registry on this machine; Debian's package docker-registry has it")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config.yml").write_text(CONFIG.format(folder=folder / "data", port=port))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    address = f"127.0.0.1:{port}"
    try:
        end = time.monotonic() + 30
        while True:
            try:
                assert httpx.get(f"http://{address}/v2/", trust_env=False).status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < end and server.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def engine() -> str:
    """The Docker engine's address."""
    address = os.environ.get("PRIME_TEST_DOCKER")
    if not address:
        pytest.skip("PRIME_TEST_DOCKER names no engine; 'script/engines' starts one")
    return address


@pytest.fixture
def serve(start_hub: HubFactory, engine: str) -> Iterator[Any]:
    """Start a Hub on the engine, with more options; its images are deleted at the end."""
    hubs: list[RunningHub] = []

    def start(*options: str) -> RunningHub:
        hub = start_hub("--runtime", "docker", "--runtime-option", f"engine={engine}", *options)
        hubs.append(hub)
        assert hub.wait_for_runner()["isolating"] is True
        return hub

    yield start
    for hub in hubs:
        for row in hub.api.get("/sandbox", params={"is_active": True}).json()["sandboxes"]:
            hub.api.delete(f"/sandbox/{row['id']}")
        for row in hub.api.get("/images").json()["data"]:
            hub.api.delete(f"/images/{row['imageName']}/{row['imageTag']}")


def tags(registry: str, name: str) -> list[str]:
    return httpx.get(f"http://{registry}/v2/{name}/tags/list", trust_env=False).json().get("tags") or []


def test_pushed_after_a_build_and_fetched_for_a_sandbox(serve: Any, registry: str, engine: str) -> None:
    hub = serve("--registry", f"{registry}/team")
    api, me = hub.api, hub.owner
    done = build(api, "pushed", "v1")
    assert done["status"] == "COMPLETED" and done["errorMessage"] is None, done
    log = api.get(f"/images/build/{done['id']}/logs").json()["text"]
    assert f"Pushing it to {registry}/team/{me}/pushed:v1." in log and "It is in the registry as" in log
    assert tags(registry, f"team/{me}/pushed") == ["v1"]
    # Another Hub, which knows nothing of it.
    other = serve()
    reference = f"{registry}/team/{me}/pushed:v1"
    answer = other.api.post("/sandbox", json={"name": "x", "docker_image": reference, "timeout_minutes": 5}).json()
    if answer["status"] == "PENDING" and answer["pendingImageBuildId"]:
        assert "is being fetched" in answer["pendingReason"]
        assert other.api.get(f"/images/build/{answer['pendingImageBuildId']}").status_code == 200
    row = until(other.api, answer["id"], "RUNNING", "ERROR", seconds=60)
    assert row["status"] == "RUNNING" and row["imageDigest"] and row["pendingImageBuildId"] is None, row
    again = create(other.api, reference)
    assert again["imageDigest"] == row["imageDigest"]
    assert other.api.get("/images").json()["data"] == []


def test_named_by_source_image(serve: Any, registry: str) -> None:
    hub = serve("--registry", registry)
    me = hub.owner
    build(hub.api, "origin", "v1")
    begun = begin(hub.api, "copy", "v2", source_image=f"{registry}/{me}/origin:v1")
    assert begun["buildIds"] == [begun["build_id"]] and begun["fullImagePath"] == f"prime/{me}/copy:v2"
    done = wait(hub.api, begun["build_id"])
    assert done["status"] == "COMPLETED", done
    assert f"Fetched {registry}/{me}/origin:v1" in hub.api.get(f"/images/build/{done['id']}/logs").json()["text"]
    assert create(hub.api, "copy:v2")["status"] == "RUNNING"
    several = [f"{registry}/{me}/origin:v1", f"{registry}/{me}/nothing:v1"]
    results = hub.api.post("/images/build", json={"source_image": several}).json()["results"]
    states = [wait(hub.api, row["build"]["build_id"]) for row in results]
    assert [state["status"] for state in states] == ["COMPLETED", "FAILED"]
    assert "could not be fetched" in states[1]["errorMessage"]


def test_what_cannot_be_fetched_says_so(serve: Any, registry: str) -> None:
    hub = serve()
    answer = hub.api.post("/sandbox", json={"name": "x", "docker_image": f"{registry}/no/such:v1"}).json()
    row = until(hub.api, answer["id"], "ERROR", seconds=60)
    assert row["errorType"] == "IMAGE_PULL_FAILED" and f"{registry}/no/such:v1" in row["errorMessage"]
    assert hub.api.get(f"/sandbox/{answer['id']}/error-context").json()["errorType"] == "IMAGE_PULL_FAILED"
    # What reads as an account's of this Hub is never looked for elsewhere.
    own = hub.api.post("/sandbox", json={"name": "x", "docker_image": f"{hub.owner}/no-such:v1"})
    assert own.status_code == 404 and own.json()["error"] == "image_not_found"


def test_a_fetch_that_hangs_is_cancelled(serve: Any) -> None:
    hub = serve()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reference = f"127.0.0.1:{silent.getsockname()[1]}/slow/image:v1"
        ids = [hub.api.post("/sandbox", json={"name": "x", "docker_image": reference}).json()["id"] for _ in range(2)]
        rows = [hub.api.get(f"/sandbox/{one}").json() for one in ids]
        (build_id,) = {row["pendingImageBuildId"] for row in rows}  # fetched once for both
        assert [row["status"] for row in rows] == ["PENDING", "PENDING"]
        assert hub.api.delete(f"/sandbox/{ids[0]}").status_code == 200
        hub.kill()
        hub.close_clients()
        hub.start()
        hub.wait_for_runner()
        assert hub.api.get(f"/sandbox/{ids[1]}").json()["status"] == "PENDING"
        assert hub.api.post(f"/images/build/{build_id}/cancel").json()["status"] == "CANCELLED"
        row = until(hub.api, ids[1], "ERROR")
        assert row["errorType"] == "IMAGE_PULL_FAILED" and "cancelled" in row["errorMessage"]
        assert hub.api.get(f"/sandbox/{ids[0]}").json()["status"] == "TERMINATED"


def test_a_registry_that_is_away(serve: Any) -> None:
    hub = serve("--registry", "127.0.0.1:1/x")
    done = build(hub.api, "lonely")
    assert done["status"] == "COMPLETED" and "could not be pushed to 127.0.0.1:1/x" in done["errorMessage"], done
    assert create(hub.api, "lonely:latest")["status"] == "RUNNING"


def test_accounts_of_elsewhere_fetch_from_named_registries_only(serve: Any, registry: str, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    hub = serve("--fetch-from", registry)
    carol = hub.client(hub.add_user("carol"))
    with closing(sqlite3.connect(hub.data_dir / "hub.sqlite3")) as database, database:
        database.execute("UPDATE accounts SET local = 0 WHERE slug = 'carol'")
    refused = carol.post("/images/build", json={"source_image": "127.0.0.1:1/x:v1"})
    assert refused.status_code == 403 and "--fetch-from" in refused.json()["detail"]
    assert carol.post("/sandbox", json={"name": "x", "docker_image": "127.0.0.1:1/x:v1"}).status_code == 404
    assert carol.post("/images/build", json={"source_image": f"{registry}/x:v1"}).status_code == 200
