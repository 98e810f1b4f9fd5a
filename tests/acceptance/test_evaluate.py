"""Evaluations of the two examples, in the clean venv they were installed into."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest


def evaluate(machine, published: Path, *args: str, out: str) -> tuple[list[dict], dict]:
    machine.run("prime", "eval", "run", *args, "-o", out, cwd=machine.base, VIRTUAL_ENV=str(published))
    results = list((machine.base / out).rglob("results.jsonl"))
    assert len(results) == 1
    rows = [json.loads(line) for line in results[0].read_text().splitlines()]
    return rows, json.loads(results[0].with_name("metadata.json").read_text())


def until(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.1)


def test_the_same_rewards_twice_few_servers_and_nothing_left(machine, published):
    args = ("openenv-cartpole", "-m", "baseline/random", "-n", "20", "-r", "2", "-c", "8")
    processes, temporary, mounts, folders = (
        machine.processes(),
        machine.temporary(),
        machine.mounts(),
        machine.sandbox_folders(),
    )
    first, metadata = evaluate(machine, published, *args, out="out/first")
    second, _ = evaluate(machine, published, *args, out="out/second")

    def rewards(rows):
        return [(row["example_id"], row["reward"]) for row in rows]

    assert len(first) == 40 and rewards(first) == rewards(second)
    assert (
        all(row["reward"] > 5 for row in first)
        and metadata["num_examples"] == 20
        and metadata["rollouts_per_example"] == 2
    )
    pairs = [[row["reward"] for row in first if row["example_id"] == number] for number in range(20)]
    assert all(len(pair) == 2 for pair in pairs) and any(a != b for a, b in pairs)

    # What is left behind is what was there before: processes (and so their sockets), mounts, temporary folders.
    until(lambda: machine.processes() == processes, 10, f"processes before: {processes}, after: {machine.processes()}")
    assert (machine.temporary(), machine.mounts(), machine.sandbox_folders()) == (temporary, mounts, folders)


def test_at_most_as_many_servers_as_rollouts_at_once(machine, published):
    child = machine.start(
        "prime", "eval", "run", "openenv-cartpole", "-m", "baseline/random", "-n", "20", "-r", "2", "-c", "8", "-o", "out/servers",
        cwd=machine.base, VIRTUAL_ENV=str(published),
    )  # fmt: skip
    most: set[str] = set()
    while child.poll() is None:
        most |= machine.sandbox_folders()
        time.sleep(0.02)
    out, err = child.communicate()
    assert child.returncode == 0, out + err
    assert 1 <= len(most) <= 8, f"{len(most)} servers for 40 rollouts, 8 at once"


@pytest.mark.parametrize("hub", ["alive", "stopped"])
def test_a_killed_evaluator_leaves_nothing_once_the_lease_has_run_out(machine, published, hub):
    processes, temporary, folders = machine.processes(), machine.temporary(), machine.sandbox_folders()
    hub_pid = json.loads((machine.hub_dir / "hub.json").read_text())["pid"]
    # A model that never answers keeps the session leased for as long as the evaluator lives.
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        child = machine.start(
            "prime", "eval", "run", "openenv-cartpole", "-m", "silent", "-b", f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "-n", "2", "-c", "2",
            "-o", f"out/killed-{hub}", cwd=machine.base, VIRTUAL_ENV=str(published), OPENAI_API_KEY="unused",
        )  # fmt: skip
        until(lambda: len(machine.servers()) >= 1 or child.poll() is not None, 60, "no server came up")
        assert child.poll() is None, child.communicate()
        time.sleep(1)
        if hub == "stopped":
            os.kill(hub_pid, signal.SIGKILL)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        until(lambda: not machine.servers(), 30, f"servers outlived their lease: {machine.servers()}")
    until(lambda: machine.sandbox_folders() == folders, 10, "folders of sandboxes were left")
    assert machine.temporary() <= temporary
    if hub == "stopped":
        until(
            lambda: not machine.processes(),
            60,
            f"the runner outlived its Hub with nothing to do: {machine.processes()}",
        )
        machine.run("prime", "hub", "start")
    else:
        assert set(machine.processes()) <= set(processes)


def test_echo_scores_with_the_echo_policy(machine, published):
    rows, _ = evaluate(machine, published, "openenv-echo", "-m", "baseline/echo", "-n", "3", "-r", "1", out="out/echo")
    assert len(rows) == 3 and all(row["error"] is None and row["reward"] is not None for row in rows)
