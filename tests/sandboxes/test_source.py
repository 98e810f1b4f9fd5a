"""Servers of the sandbox source: where they are reached on this machine, and how many more of them it bears."""

import asyncio
import json
import os
import socket
import time
from dataclasses import replace

import httpx
import pytest

from prime_core.manifest import Manifest
from prime_sandboxes import Capacity, ImageClient, Sandbox, SandboxClient
from prime_sandboxes.transport import APIClient
from tests.hub.images import UVICORN_APP, UVICORN_DOCKERFILE
from tests.hub.pushing import push
from verifiers.openenv.sandbox import SandboxSource, connectable, environment_of, room_for
from verifiers.openenv.source import Room, URLSource

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def configured(module_hub, monkeypatch):
    module_hub.wait_for_runner()
    monkeypatch.setenv("PRIME_API_BASE_URL", module_hub.url)
    monkeypatch.setenv("PRIME_API_KEY", module_hub.token)
    return module_hub


@pytest.fixture
def manifest(configured, tmp_path) -> Manifest:
    (tmp_path / "Dockerfile").write_text(UVICORN_DOCKERFILE)
    (tmp_path / "server.py").write_text(UVICORN_APP)
    with ImageClient(APIClient()) as images:
        built = images.build("source", "latest", tmp_path)
    assert built.status == "COMPLETED", built.error
    return Manifest(image=str(built.image), start_command="uvicorn server:app --host 0.0.0.0 --port 8000")


RUNTIME = os.environ["PRIME_HUB_RUNTIME"]


async def answer(server, transport=None) -> str:
    async with httpx.AsyncClient(transport=transport, headers={"X-Forwarded-For": "127.0.0.1"}) as client:
        deadline = time.monotonic() + 30
        while True:
            try:
                return (await client.get(server.url + "/health")).text
            except httpx.TransportError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)


@pytest.mark.index
async def test_a_server_has_a_socket_once_it_listens(manifest):
    source = SandboxSource(replace(manifest, start_command="sh -c 'sleep 1; exec " + manifest.start_command + "'"))
    server = await source.start()
    try:
        # Another runtime holds the socket itself, from the start on.
        assert server.socket_path is None or RUNTIME != "process"
        assert await answer(server) == "127.0.0.1"
        path = server.socket_path
        assert path is not None
        assert await answer(server, httpx.AsyncHTTPTransport(uds=path)) == "127.0.0.1"
        listening = await server.listening() or []
        assert [(item.port, item.meant_everywhere or item.host == "0.0.0.0") for item in listening] == [(8000, True)]
    finally:
        await server.stop()
        await source.aclose()
    assert not connectable(path)


@pytest.mark.index
async def test_a_server_of_another_kind_has_a_port_only(manifest):
    own = "import uvicorn; from server import app; uvicorn.run(app, port=8000)"
    source = SandboxSource(replace(manifest, start_command=f"python -c '{own}' --port 8000"))
    server = await source.start()
    assert await answer(server) == "127.0.0.1"
    assert server.socket_path is None or RUNTIME != "process"
    await server.stop()
    await source.aclose()


@pytest.mark.index
async def test_room_is_told_by_the_machine_and_one_server(manifest, configured):
    source = SandboxSource(manifest)
    server = await source.start()
    await answer(server)
    room = await source.room(server)
    with SandboxClient(APIClient()) as client:
        machine, used = await asyncio.to_thread(lambda: (client.capacity(), client.usage(server.id)))
    assert used.memory_bytes and used.memory_bytes > MIB
    assert room is not None and room.starts == min(4, max(1, int(machine.cpus)))
    assert room.servers is not None and 0 <= room.servers < 32 * machine.cpus
    await server.stop()
    # What is gone uses nothing that could be told, and a Hub that is away tells nothing.
    assert await source.room(server) is None
    assert await URLSource(server.url).room(server) is None
    await source.aclose()


@pytest.mark.index
async def test_a_hub_that_is_away_tells_nothing(manifest, monkeypatch):
    source = SandboxSource(manifest)
    server = await source.start()
    await server.stop()
    await source.aclose()
    monkeypatch.setenv("PRIME_API_BASE_URL", "http://127.0.0.1:9")
    assert await source.room(server) is None
    await source.aclose()


@pytest.mark.parametrize(
    ("machine", "one", "room"),
    [
        # By memory: 4 GiB free of 10, one of them kept.
        (Capacity(16, 10 * GIB, 4 * GIB, 1), GIB, Room(3, 4)),
        # A server that uses next to nothing is counted with 32 MiB.
        (Capacity(16, 10 * MIB, 100 * MIB, 1), 1, Room(3, 4)),
        # By processors: 32 for each, with those that run.
        (Capacity(2, 100 * GIB, 90 * GIB, 4), MIB, Room(60, 2)),
        (Capacity(0.5, 100 * GIB, 90 * GIB, 4), MIB, Room(12, 1)),
        # Nothing is left.
        (Capacity(3, 10 * GIB, GIB, 1), GIB, Room(0, 3)),
        (Capacity(1, 100 * GIB, 90 * GIB, 40), MIB, Room(0, 1)),
        # Not told.
        (Capacity(8, 10 * GIB, None), GIB, Room(None, 4)),
        (Capacity(8, 10 * GIB, GIB), None, Room(None, 4)),
    ],
)
def test_how_many_servers_a_machine_bears(machine, one, room):
    assert room_for(machine, one) == room


def test_a_socket_takes_connections_or_not(tmp_path):
    path = str(tmp_path / "s")
    assert not connectable(path)
    assert not connectable("x" * 300)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert not connectable(path)
        server.listen(0)
        # Also while nobody is let in: the line is full, not closed.
        assert [connectable(path) for _ in range(4)] == [True] * 4
    assert not connectable(path)


async def test_a_projects_server_has_what_its_environment_has(configured, connection, client, plain_image, tmp_path):
    with ImageClient(connection) as images:
        digest = images.get("plain", "latest").digest
    built = Manifest(image=plain_image, image_digest=digest, start_command="sh start.sh")
    for name in ("my-env", "other-env"):
        one = push(configured.api, name, files={"proj/.build.json": json.dumps(built.as_dict()).encode()})
        row = {"name": "LEVEL", "value": name}
        assert configured.api.post(f"/environmentshub/{one.environment_id}/variables", json=row).is_success
    proj = tmp_path / "my_env" / "proj"
    proj.mkdir(parents=True)
    record = proj.parent / ".prime" / ".env-metadata.json"
    record.parent.mkdir()

    async def level() -> str:
        source = SandboxSource(built, project=proj)
        server = await source.start()
        try:
            return (await asyncio.to_thread(Sandbox.attach(server.id, client).run, "echo $LEVEL")).stdout.strip()
        finally:
            await server.stop()
            await source.aclose()

    assert await level() == "my-env", "by the folder's name, as where it is installed"
    record.write_text(json.dumps({"owner": configured.owner, "name": "other-env"}))
    assert await level() == "other-env", "by the note of where it was pushed to"
    record.write_text("{}")
    assert environment_of(proj) == "my-env"
