"""What a call leaves behind that fails, is cancelled, or is left: nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from prime_core.connection import Connection
from prime_core.errors import NotFound
from prime_sandboxes import (
    AsyncSandbox,
    AsyncSandboxClient,
    CommandError,
    CreateSandboxRequest,
    ImageClient,
    Sandbox,
    SandboxClient,
    SandboxNotRunningError,
)
from tests.conftest import HubFactory, RunningHub
from tests.sandboxes.conftest import DOCKERFILE, START

FAILING = """
import asyncio, gc
from prime_sandboxes import AsyncSandbox

async def main():
    try:
        async with AsyncSandbox.create("none:latest"):
            pass
    except Exception as error:
        print(error)

asyncio.run(main())
gc.collect()
"""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A Hub that runs one sandbox at a time, which is there, so that the next one waits."""
    hub = RunningHub(tmp_path_factory.mktemp("narrow"), ("--max-sandboxes", "1"))
    hub.wait_for_runner()
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "start.sh").write_text(START)
    with ImageClient(Connection(hub.url, hub.url, hub.token)) as images:
        assert images.build("plain", "latest", folder).status == "COMPLETED"
    with SandboxClient(Connection(hub.url, hub.url, hub.token)) as client:
        client.wait_for_creation(client.create(CreateSandboxRequest("first", "plain")).id)
    yield hub
    hub.close()


def test_a_create_that_fails_leaves_no_connection(module_hub: RunningHub) -> None:
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", FAILING]
    done = subprocess.run(command, env=module_hub.environment(), capture_output=True, text=True, check=True)
    assert "There is no image" in done.stdout and done.stderr == ""


async def _recorded(client: AsyncSandboxClient, name: str) -> Sandbox:
    """The one sandbox of that name, once the Hub has it on record."""
    deadline = time.monotonic() + 30
    while not (found := [item for item in (await client.list()).sandboxes if item.name == name]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert len(found) == 1
    return found[0]


async def test_a_create_that_is_cancelled_leaves_no_sandbox(narrow: RunningHub) -> None:
    """The Hub has it on record and holds its answer, since it waits for its turn."""
    connection = Connection(narrow.url, narrow.url, narrow.token)
    async with AsyncSandboxClient(connection) as client:
        making = asyncio.ensure_future(client.create(CreateSandboxRequest("unwanted", "plain")))
        await _recorded(client, "unwanted")
        assert not making.done()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert (await _recorded(client, "unwanted")).status == "TERMINATED"


async def test_a_create_that_is_cancelled_and_has_a_key_can_be_asked_for_again(narrow: RunningHub) -> None:
    async with AsyncSandboxClient(Connection(narrow.url, narrow.url, narrow.token)) as client:
        request = CreateSandboxRequest("kept", "plain", idempotency_key="kept")
        making = asyncio.ensure_future(client.create(request))
        found = await _recorded(client, "kept")
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        again = await client.create(request)
        assert (again.id, again.status) == (found.id, "PENDING")
        await client.delete(again.id)


def test_what_is_waited_for_too_long_says_what_it_waits_for(narrow: RunningHub) -> None:
    with SandboxClient(Connection(narrow.url, narrow.url, narrow.token)) as client:
        made = client.create(CreateSandboxRequest("second", "plain"))
        with pytest.raises(SandboxNotRunningError) as raised:
            client.wait_for_creation(made.id, max_attempts=1)
        assert "This Hub runs 1 of at most 1 sandboxes" in str(raised.value)
        client.delete(made.id)


async def test_a_stream_that_is_left_ends_its_command(connection: Connection, plain_image: str) -> None:
    async with AsyncSandboxClient(connection) as client, AsyncSandbox.create(plain_image, client) as box:
        async for _ in box.stream("echo begun; exec sleep 600"):
            break
        deadline = time.monotonic() + 30
        while any(item.running for item in await client.list_commands(box.id)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_client_that_is_closed_lets_go_of_its_commands(connection: Connection, box) -> None:
    """Also of those whose broken connections it would mend."""
    async with AsyncSandboxClient(connection) as client:
        process = await client.open_process(box.id, "sleep 600", linger=30)
    with pytest.raises(CommandError, match="Contact with the command was lost"):
        await process.wait(30)
    async with AsyncSandboxClient(connection) as client:
        await (await client.attach(box.id, process.key)).aclose()


async def test_what_went_wrong_is_told_though_the_hub_is_gone(start_hub: HubFactory, tmp_path) -> None:
    hub = start_hub()
    hub.wait_for_runner()
    connection = Connection(hub.url, hub.url, hub.token)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "start.sh").write_text(START)

    def prepared() -> None:
        with ImageClient(connection) as images:
            assert images.build("plain", "latest", tmp_path).status == "COMPLETED"

    await asyncio.to_thread(prepared)
    with pytest.raises(ZeroDivisionError):
        async with AsyncSandboxClient(connection) as client, AsyncSandbox.create("plain", client):
            await asyncio.to_thread(hub.kill)
            raise ZeroDivisionError
    hub.start()

    def blocked() -> None:
        with SandboxClient(connection) as client, Sandbox.create("plain", client):
            hub.kill()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(blocked)


@pytest.mark.parametrize("word", ["", "?", "#", "capacity", "..", "a/b"])
def test_an_id_that_is_none_is_not_found(client: SandboxClient, word: str) -> None:
    with pytest.raises(NotFound):
        client.get(word)


def test_an_id_is_taken_as_it_is_written(client: SandboxClient, box) -> None:
    with pytest.raises(NotFound):
        client.get(f"{box.id}?wait=1")


def test_a_client_that_is_closed_leaves_no_thread(connection: Connection, box) -> None:
    before = {*threading.enumerate()}
    for _ in range(3):
        with SandboxClient(connection) as client:
            process = client.open_process(box.id, "yes", linger=30)
            next(process.stdout)
    assert {*threading.enumerate()} <= before
