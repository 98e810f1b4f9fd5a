"""The logs of sandboxes through the Hub: as the official clients ask for them, and followed by bytes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from prime_hub.services.signals import Signals
from tests.conftest import HubFactory, RunningHub, end
from tests.hub.images import Gateway, begin, build, create, held_context, until, wait
from tests.hub.pushing import put

# It prints what is written to the file `said`, at once.
SAYING = ["sh", "-c", "echo $$ > pid; echo begun; touch said; exec tail -f said"]


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    """A Hub with the image `tiny:latest`."""
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


class Followed:
    """A sandbox that prints what it is told to, and its log as somebody follows it."""

    def __init__(self, hub: RunningHub, **more: Any) -> None:
        self.hub = hub
        made = create(hub.api, start_command=SAYING, port=None, **more)
        self.id = made["id"]
        self.inside = Gateway(hub, made["gatewayAuth"])
        self.offset = 0
        self.complete = False

    def say(self, words: str) -> None:
        done = self.inside.execute(f"printf '{words}' >> said")
        assert done.status_code == 200 and done.json()["exit_code"] == 0, done.text

    def ask(self, seconds: float = 20, offset: int | None = None) -> dict[str, Any]:
        params = {"offset": self.offset if offset is None else offset, "wait": seconds}
        answer = self.hub.api.get(f"/sandbox/{self.id}/logs", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def read(self, wanted: str | None = None) -> str:
        """What comes until `wanted` is the end of it; without one, until the sandbox has ended."""
        told = ""
        deadline = time.monotonic() + 60
        while not (told.endswith(wanted) if wanted else self.complete):
            assert time.monotonic() < deadline, told
            found = self.ask()
            told, self.offset, self.complete = told + found["logs"], found["offset"], found["complete"]
        return told


def test_without_an_offset_it_is_as_the_official_clients_know_it(ready: RunningHub) -> None:
    followed = Followed(ready)
    followed.read("begun\n")
    assert ready.api.get(f"/sandbox/{followed.id}/logs").json() == {"logs": "begun\n"}
    refused = ready.api.get(f"/sandbox/{followed.id}/logs", params={"wait": 5})
    assert refused.status_code == 422 and "give offset, too" in refused.json()["detail"]
    for wrong in ({"offset": "x"}, {"offset": 1, "wait": -1}, {"offset": 1, "wait": 1000}, {"offset": 1 << 60}):
        assert ready.api.get(f"/sandbox/{followed.id}/logs", params=wrong).status_code == 422
    stranger = ready.client(ready.add_user("reads-no-others"))
    assert stranger.get(f"/sandbox/{followed.id}/logs", params={"offset": 0}).status_code == 404
    ready.api.delete(f"/sandbox/{followed.id}")


def test_each_byte_once_held_until_there_is_more(ready: RunningHub) -> None:
    followed = Followed(ready)
    assert followed.read("begun\n") == "begun\n"
    assert followed.ask(0) == {"logs": "", "offset": 6, "complete": False}
    with ThreadPoolExecutor(1) as asking:
        for number in range(5):
            held = asking.submit(followed.read, f"{number}\n")
            followed.say(f"number {number}\\n")
            assert held.result() == f"number {number}\n"
    # Half a character is told with its other half.
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(followed.read, "!")
        followed.say("\\303")
        followed.say("\\244!")
        assert held.result() == "ä!"
    assert followed.ask(0, -3) == {"logs": "ä!", "offset": followed.offset, "complete": False}
    assert followed.ask(0, -2)["logs"] == "!", "it does not begin with half a character"
    assert followed.ask(0, followed.offset + 1000) == {"logs": "", "offset": followed.offset, "complete": False}
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(followed.read)
        followed.say("the end")
        followed.inside.execute("kill $(cat pid)")
        assert held.result() == "the end"
    row = ready.api.get(f"/sandbox/{followed.id}").json()
    assert row["status"] == "ERROR", "the record knows of the end as soon as its follower does"
    assert followed.ask() == {"logs": "", "offset": followed.offset, "complete": True}
    assert followed.ask(20, -7) == {"logs": "the end", "offset": followed.offset, "complete": True}


def test_one_that_is_deleted_ends_for_its_followers(ready: RunningHub) -> None:
    followed = Followed(ready)
    followed.read("begun\n")
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(followed.read)
        ready.api.delete(f"/sandbox/{followed.id}")
        assert held.result() == ""
    assert followed.ask(20, -65536)["logs"] == "begun\n"


def test_followed_before_it_starts(ready: RunningHub, tmp_path: Path) -> None:
    """While its image is being built there is nothing, and then all of it."""
    gate = tmp_path / "gate"
    begun = begin(ready.api, "later")
    assert put(begun["upload_url"], held_context(gate)).status_code == 200
    ready.api.post(f"/images/build/{begun['build_id']}/start", json={"context_uploaded": True})
    gate.unlink()
    assert wait(ready.api, begun["build_id"])["status"] == "COMPLETED"
    made = ready.api.post("/sandbox", json={"name": "later", "docker_image": "later", "start_command": "echo only"})
    sandbox_id = made.json()["id"]
    told, offset = "", -100
    while True:
        params = {"offset": offset, "wait": 20}
        found = ready.api.get(f"/sandbox/{sandbox_id}/logs", params=params).json()
        told, offset = told + found["logs"], found["offset"]
        if found["complete"]:
            break
    assert told == "only\n"


@pytest.fixture
def killed(start_hub: HubFactory) -> Callable[[str], tuple[Followed, RunningHub]]:
    """A Hub of one's own, of which one program is killed."""
    hub = start_hub()
    assert build(hub.api)["status"] == "COMPLETED"

    def kill(which: str) -> tuple[Followed, RunningHub]:
        followed = Followed(hub)
        followed.read("begun\n")
        followed.say("before\\n")
        assert followed.read("before\n") == "before\n"
        if which == "hub":
            hub.kill()
            hub.close_clients()
            hub.start()
        else:
            end(hub.runner_pid, signal.SIGKILL)
        return followed, hub

    return kill


@pytest.mark.parametrize("which", ["hub", "runner"])
def test_bytes_keep_their_numbers_when_a_program_is_killed(
    killed: Callable[[str], tuple[Followed, RunningHub]], which: str
) -> None:
    followed, hub = killed(which)
    hub.wait_for_runner()
    until(hub.api, followed.id, "RUNNING")
    auth = hub.api.post(f"/sandbox/{followed.id}/auth").json()
    followed.inside = Gateway(hub, auth)
    followed.say("after\\n")
    assert followed.read("after\n") == "after\n"
    assert followed.ask(0, 0)["logs"] == "begun\nbefore\nafter\n"


def test_a_runner_that_dies_is_no_news_for_a_follower(hub: RunningHub) -> None:
    assert build(hub.api)["status"] == "COMPLETED"
    followed = Followed(hub)
    followed.read("begun\n")
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(followed.read, "again\n")
        pid = hub.runner_pid
        end(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while hub.runner_pid in (None, pid) or followed.inside.execute("echo again >> said").status_code != 200:
            assert time.monotonic() < deadline, hub.log
            time.sleep(0.05)
        assert held.result() == "again\n"


def test_a_hub_that_stops_lets_its_followers_go(hub: RunningHub) -> None:
    assert build(hub.api)["status"] == "COMPLETED"
    followed = Followed(hub)
    followed.read("begun\n")
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(followed.ask)
        assert hub.process is not None
        hub.process.terminate()
        assert hub.process.wait() == 0
        error = held.exception()
    # It may not have come so far as to be held.
    assert isinstance(error, httpx.TransportError) or held.result() == {"logs": "", "offset": 6, "complete": False}


async def test_what_is_held_ends_with_the_hub() -> None:
    closing = asyncio.Event()
    forever = asyncio.Event()
    held = asyncio.create_task(Signals(closing).held(forever.wait(), False))
    await asyncio.sleep(0)
    closing.set()
    assert await held is False
    assert await Signals(asyncio.Event()).held(asyncio.sleep(0, "done"), "nothing") == "done"
