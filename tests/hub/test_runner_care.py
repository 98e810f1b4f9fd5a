"""The Hub's care for its runner: one that hangs is noticed and replaced, and its sandboxes live on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from prime_core import local_hub
from prime_hub.errors import Unavailable
from prime_hub.runner.processes import marked
from prime_hub.services import runner as service
from prime_hub.services.runner import Runner
from prime_hub.settings import Settings
from tests.conftest import RunningHub, alive, end_runner
from tests.hub.images import Gateway, build, create


async def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_runner_that_hangs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(service, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(service, "HUNG_SECONDS", 3.0)
    runner = Runner(Settings(tmp_path))
    runner.start()
    pids: list[int] = []
    try:
        await runner.client()
        pids.append(runner.pid or 0)
        # One that answers again in time is kept.
        os.kill(pids[0], signal.SIGSTOP)
        await until(lambda: runner.state == "down")
        with pytest.raises(Unavailable, match="is not answering"):
            await runner.client(wait=0)
        os.kill(pids[0], signal.SIGCONT)
        await until(lambda: runner.state == "ready")
        assert runner.pid == pids[0]
        os.kill(pids[0], signal.SIGSTOP)
        await until(lambda: runner.state == "ready" and runner.pid not in (None, pids[0]))
        pids.append(runner.pid or 0)
        assert not alive(pids[0]) and alive(pids[1])
        assert (await (await runner.client()).call("GET", "/info"))["pid"] == pids[1]
    finally:
        await runner.stop()
        for pid in pids:
            end_runner(pid)


async def test_a_runner_that_hung_before_its_hub_came_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BEAT_SECONDS", 1.0)
    monkeypatch.setattr(service, "HUNG_SECONDS", 3.0)
    first, second = Runner(Settings(tmp_path)), Runner(Settings(tmp_path))
    first.start()
    pids: list[int] = []
    try:
        await first.client()
        pids.append(first.pid or 0)
        # The Hub goes, and its runner stays, for there may be sandboxes; then another Hub comes.
        assert first._task is not None
        first._task.cancel()
        os.kill(pids[0], signal.SIGSTOP)
        second.start()
        await until(lambda: second.state == "ready")
        pids.append(second.pid or 0)
        assert pids[0] != pids[1] and not alive(pids[0]) and alive(pids[1])
    finally:
        await second.stop()
        await first.stop()
        for pid in pids:
            end_runner(pid)


async def test_time_in_which_nobody_asked_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(service, "HUNG_SECONDS", 3.0)
    runner = Runner(Settings(tmp_path))
    runner.start()
    try:
        await runner.client()
        pid = runner.pid or 0
        os.kill(pid, signal.SIGSTOP)
        runner._look.set()
        await until(lambda: runner.state == "down")
        # As a Hub does that was stopped itself, or whose machine slept.
        time.sleep(4)  # noqa: ASYNC251
        asked = runner._unanswered
        await until(lambda: runner._unanswered >= asked + 2)
        os.kill(pid, signal.SIGCONT)
        await until(lambda: runner.state == "ready")
        assert runner.pid == pid
    finally:
        await runner.stop()
        end_runner(pid)


def test_another_program_of_its_number_is_left_alone(tmp_path: Path) -> None:
    assert not Runner(Settings(tmp_path))._is_runner(os.getpid())


def test_a_command_ends_with_its_client(module_hub: RunningHub) -> None:
    assert build(module_hub.api)["status"] == "COMPLETED"
    box = create(module_hub.api)
    inside = Gateway(module_hub, box["gatewayAuth"])
    auth = box["gatewayAuth"]
    url = f"{auth['gateway_url']}/{auth['user_ns']}/{auth['job_id']}/exec"
    client = module_hub.client(auth["token"])
    number = f"7{uuid.uuid4().int % 10**7:07}"
    body = {"command": f"echo $$ > /app/pid; sleep {number}1 & sleep {number}2", "timeout": 900}
    with pytest.raises(Exception, match="timed out"):
        client.post(url, json=body, timeout=3)
    client.close()
    pid = int(inside.execute("cat /app/pid").json()["stdout"])
    deadline = time.monotonic() + 30
    while alive(pid) or inside.execute(f"pgrep -f 'sleep {number}[12]'").json()["stdout"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # One that is over left what it started in the background.
    assert inside.execute(f"sleep {number}3 > /dev/null 2>&1 &").json()["exit_code"] == 0
    assert inside.execute(f"pgrep -f 'sleep {number}[3]'").json()["stdout"]
    assert "499" in module_hub.log
    module_hub.api.delete(f"/sandbox/{box['id']}")


@pytest.mark.index
@pytest.mark.parametrize("way", ["the command", "a signal"])
def test_a_hub_that_stops_while_it_has_no_runner_leaves_no_sandbox(hub: RunningHub, way: str) -> None:
    build(hub.api)
    sandbox = create(hub.api, lease_seconds=3)["id"]
    runner = hub.runner_pid
    left = marked("PRIME_SANDBOX_ID", sandbox)
    assert left and runner is not None
    os.kill(runner, signal.SIGKILL)
    if way == "the command":
        assert local_hub.stop(hub.data_dir)
        assert hub.process is not None and hub.process.wait(10) == 0
        assert not [pid for pid in left if alive(pid)]
    else:
        # The one that takes its place ends it when its lease is over, and then itself.
        assert hub.stop() == 0
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in [*left, hub.runner_pid]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert hub.runner_pid != runner
