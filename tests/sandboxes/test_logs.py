"""Following what a sandbox prints: as it comes, each line once, without asking over and over."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prime_core.connection import Connection
from prime_core.errors import NotFound
from prime_sandboxes import (
    AsyncSandbox,
    AsyncSandboxClient,
    ImageClient,
    RunningSandbox,
    Sandbox,
    SandboxClient,
    SandboxNotRunningError,
)
from tests.conftest import HubFactory, RunningHub
from tests.sandboxes.conftest import DOCKERFILE, START

# It prints what is written to the file `said`, at once.
SAYING = ["sh", "-c", "echo $$ > pid; echo begun; touch said; exec tail -f said"]


@pytest.fixture
def saying(client: SandboxClient, plain_image: str) -> Iterator[RunningSandbox]:
    with Sandbox.create(plain_image, client, start_command=SAYING) as box:
        yield box


def say(box: RunningSandbox, words: str) -> None:
    box.run(f"printf '{words}' >> said", check=True)


def asked_for(hub: RunningHub, box: RunningSandbox) -> int:
    """How many times the log of a sandbox was asked for so far."""
    return len(re.findall(rf"GET /api/v1/sandbox/{box.id}/logs\b", hub.log))


def test_each_line_once_as_it_comes_and_no_request_for_nothing(saying: RunningSandbox, module_hub: RunningHub) -> None:
    told = []
    with saying.follow_logs() as pieces:
        told.append(next(pieces))
        for number in range(4):
            saying.run(f"sleep 0.7; echo number {number} >> said", check=True)
            told.append(next(pieces))
        say(saying, "the end")
        # The command's own answer may come too late: with its server the sandbox ends.
        with contextlib.suppress(SandboxNotRunningError):
            saying.run("kill $(cat pid)")
        told += pieces
    assert "".join(told) == "begun\nnumber 0\nnumber 1\nnumber 2\nnumber 3\nthe end"
    # The first may find nothing yet, and the last only that it has ended.
    assert asked_for(module_hub, saying) <= len(told) + 2
    assert "".join(saying.follow_logs()) == saying.logs() == "".join(told)


def test_only_the_last_lines_of_what_is_there(saying: RunningSandbox) -> None:
    say(saying, "one\\ntwo\\nthree\\n")
    with saying.follow_logs() as pieces:
        told = ""
        while not told.endswith("three\n"):
            told += next(pieces)
    with saying.follow_logs(2) as pieces:
        assert next(pieces) == "two\nthree\n"
        say(saying, "four\\nfive\\nsix\\n")
        assert next(pieces) == "four\nfive\nsix\n", "what comes is told as a whole"
    with saying.follow_logs(0) as pieces, ThreadPoolExecutor(1) as reading:
        first = reading.submit(next, pieces)
        while not first.done():
            say(saying, "more\\n")
        assert set(first.result().splitlines()) == {"more"}


def test_one_that_does_not_exist(client: SandboxClient) -> None:
    with pytest.raises(NotFound, match="has no sandbox nobody"):
        list(client.follow_logs("nobody"))


async def test_asynchronously_by_several_until_it_is_deleted(connection: Connection, plain_image: str) -> None:
    async with AsyncSandboxClient(connection) as client:
        async with AsyncSandbox.create(plain_image, client, start_command=SAYING) as box:

            async def follow() -> str:
                return "".join([piece async for piece in box.follow_logs()])

            following = [asyncio.create_task(follow()) for _ in range(3)]
            for number in range(20):
                await box.run(f"echo {number} >> said", check=True)
            async for piece in box.follow_logs():
                if piece.endswith("19\n"):
                    break
        whole = "begun\n" + "".join(f"{number}\n" for number in range(20))
        assert await asyncio.gather(*following) == [whole] * 3


def test_it_goes_on_after_a_restart_of_the_hub(start_hub: HubFactory, tmp_path: Path) -> None:
    hub = start_hub()
    hub.wait_for_runner()
    connection = Connection(hub.url, hub.url, hub.token)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "start.sh").write_text(START)
    with ImageClient(connection) as images:
        image = images.build("plain", "latest", tmp_path).image
    with (
        SandboxClient(connection) as client,
        Sandbox.create(image, client, start_command=SAYING) as box,
        box.follow_logs() as pieces,
    ):
        assert next(pieces) == "begun\n"
        hub.kill()
        hub.start()
        hub.wait_for_runner()
        say(box, "after\\n")
        assert next(pieces) == "after\n"
