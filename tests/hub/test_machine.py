"""What the Hub tells of the machine that its sandboxes run on: room, use, and sockets for those who are there."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from prime_hub.api.deps import on_this_machine
from tests.conftest import HubFactory, RunningHub
from tests.hub.images import UVICORN_APP, UVICORN_DOCKERFILE, build, create


def test_capacity_and_usage(module_hub: RunningHub) -> None:
    assert build(module_hub.api)["status"] == "COMPLETED"
    before = module_hub.api.get("/sandbox/capacity").json()
    assert before["cpus"] > 0 and 0 < before["memory_available_bytes"] < before["memory_bytes"]
    box = create(module_hub.api)
    assert module_hub.api.get("/sandbox/capacity").json()["sandboxes"] == before["sandboxes"] + 1
    # "Running" is a process that has begun; its interpreter takes its memory a moment later.
    end = time.monotonic() + 30
    while True:
        used = module_hub.api.get(f"/sandbox/{box['id']}/usage").json()
        if used["memory_bytes"] > 1 << 20 or time.monotonic() > end:
            break
        time.sleep(0.02)
    assert used["processes"] >= 1 and used["memory_bytes"] > 1 << 20 and used["cpu_seconds"] >= 0
    assert module_hub.client().get("/sandbox/capacity").status_code == 401
    eve = module_hub.client(module_hub.add_user("eve"))
    assert eve.get("/sandbox/capacity").json()["sandboxes"] == before["sandboxes"] + 1
    assert eve.get(f"/sandbox/{box['id']}/usage").status_code == 404
    module_hub.api.delete(f"/sandbox/{box['id']}")
    assert module_hub.api.get(f"/sandbox/{box['id']}/usage").status_code in (410, 502)


@pytest.mark.index
def test_a_socket_is_told_to_who_is_on_the_machine(start_hub: HubFactory) -> None:
    hub = start_hub("--host", "0.0.0.0")
    built = build(hub.api, "app", files={"server.py": UVICORN_APP, "Dockerfile": UVICORN_DOCKERFILE})
    assert built["status"] == "COMPLETED", built
    box = create(hub.api, "app:latest")
    path = f"/sandbox/{box['id']}/expose"

    def expose(**options: Any) -> dict[str, Any]:
        return hub.client(hub.token, **options).post(path, json={"port": 8000, "protocol": "TCP"}).json()

    told = expose()
    place = Path(told["unix_socket"])
    deadline = time.monotonic() + 30
    while not place.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    transport = httpx.HTTPTransport(uds=told["unix_socket"], retries=20)
    with httpx.Client(transport=transport, headers={"X-Forwarded-For": "127.0.0.1"}) as client:
        assert client.get("http://localhost/").text == "127.0.0.1"
    # Behind a proxy the client may be on any machine, where that path is somebody else's or nobody's.
    proxied = hub.client(hub.token).post(path, json={"port": 8000}, headers={"X-Forwarded-For": "10.0.0.1"}).json()
    assert "unix_socket" not in proxied and proxied["external_endpoint"].startswith(f"{hub.url.split('//')[1]}/ports/")
    assert proxied["exposure_id"] == told["exposure_id"]
    assert "unix_socket" not in hub.client(hub.token).post(path, json={"port": 8000}, headers={"Via": "1.1 p"}).json()
    if (own := _own_address()) is not None:
        url = f"http://{own}:{hub.url.rpartition(':')[2]}/api/v1{path}"
        there = httpx.post(url, json={"port": 8000}, headers={"Authorization": f"Bearer {hub.token}"}, trust_env=False)
        assert there.json()["unix_socket"] == str(place)
    hub.api.delete(f"/sandbox/{box['id']}")
    assert not place.parent.exists()


def _own_address() -> str | None:
    """An address of this machine that is not loopback, where it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


@pytest.mark.parametrize(
    ("client", "server", "here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.9", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False),
        ("testclient", "testserver", False),
        (None, "127.0.0.1", False),
    ],
)
def test_who_is_on_this_machine(client: str | None, server: str, here: bool) -> None:
    scope = {"type": "http", "headers": [], "client": client and (client, 5), "server": (server, 80)}
    assert on_this_machine(Request(scope)) is here
    forwarded = {**scope, "headers": [(b"x-forwarded-for", b"127.0.0.1")]}
    assert on_this_machine(Request(forwarded)) is False
