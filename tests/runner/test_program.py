"""The runner as a program: alone on its folder, gone when nobody needs it, back after a kill without losing track."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest


def begin(runner, **fields):
    return runner.sandbox(runner.server_image(), **fields)


def test_it_ends_by_itself_and_leaves_no_socket(runner):
    runner.stop()
    runner.start("--idle-exit", "0.5")
    socket = Path(runner.about()["socket"])
    assert socket.exists()
    assert runner.wait_exit() == 0
    assert not socket.exists()
    assert runner.about() == {}


def test_it_stays_for_a_hub_and_for_a_sandbox(runner):
    image = runner.server_image()
    runner.stop()
    runner.start("--idle-exit", "1")
    runner.call("POST", "/attach", json={"hub_pid": 1})
    state = runner.sandbox(image, lease_seconds=3)
    runner.call("POST", "/detach")
    runner.healthy(state["id"])
    runner.disconnect()
    # Nobody calls any more: the lease ends the sandbox, and with it the runner.
    assert runner.wait_exit() == 0
    assert runner.marked(state["id"]) == []
    assert "lease was not renewed" in (runner.folder / "runner.log").read_text()


def test_told_to_stop_it_ends_its_sandboxes(runner):
    state = begin(runner)
    runner.stop()
    assert runner.marked(state["id"]) == []
    assert not runner.accepts(state["ports"]["8000"])
    runner.start()
    ended = runner.call("GET", f"/sandboxes/{state['id']}")
    assert (ended["status"], ended["error_type"]) == ("deleted", "RUNNER_STOPPED")


def test_killed_and_started_again_it_adopts_what_lives(runner):
    image = runner.server_image()
    kept = runner.sandbox(image, lease_seconds=60, env={"GIVEN": "yes"})
    overdue = runner.sandbox(image, lease_seconds=2)
    died = runner.sandbox(image, lease_seconds=60)
    runner.healthy(kept["id"])
    runner.kill()
    os.kill(died["pid"], signal.SIGKILL)
    while runner.marked(died["id"]):
        time.sleep(0.02)
    assert runner.accepts(kept["ports"]["8000"])
    time.sleep(max(0.0, overdue["expires_at"] - time.time()))
    assert runner.marked(overdue["id"])

    runner.start()
    again = runner.call("GET", f"/sandboxes/{kept['id']}?wait=10")
    assert (again["status"], again["pid"], again["ports"]) == ("running", kept["pid"], kept["ports"])
    assert again["started_at"] == kept["started_at"]
    assert runner.healthy(kept["id"]) == "ok"
    assert runner.exec(kept["id"], "echo $GIVEN; echo more > /proc/$PPID/fd/1 2>/dev/null; true")["stdout"] == "yes\n"
    assert runner.until(overdue["id"], "expired")["error_type"] == "TIMEOUT"
    assert runner.marked(overdue["id"]) == []
    assert runner.until(died["id"], "lost")["error"] == "The server ended while the runner was not running."
    assert runner.sandbox(image)["ports"]["8000"] != kept["ports"]["8000"]
    runner.call("DELETE", f"/sandboxes/{kept['id']}")
    assert runner.marked(kept["id"]) == []


def test_an_adopted_sandbox_is_not_taken_for_idle(runner):
    state = runner.sandbox(runner.server_image(), idle_seconds=4)
    runner.exec(state["id"], "true")
    runner.kill()
    # As the file is after an hour of use: that it is used is not written down each time.
    file = runner.folder / "sandboxes" / state["id"] / "state.json"
    saved = json.loads(file.read_text())
    file.write_text(json.dumps({**saved, "last_used": saved["last_used"] - 3600}))
    runner.start()
    # Longer than the second between two looks, and well within the four.
    time.sleep(1.5)
    assert runner.call("GET", f"/sandboxes/{state['id']}")["status"] == "running"
    runner.call("DELETE", f"/sandboxes/{state['id']}")


def test_a_server_that_prints_survives_a_kill_of_the_runner(runner):
    command = "sh -c 'i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done'"
    state = begin(runner, start_command=command)
    runner.kill()
    assert runner.marked(state["id"])
    runner.start()
    runner.call("GET", f"/sandboxes/{state['id']}?wait=10")
    seen = runner.call("GET", f"/sandboxes/{state['id']}/logs")["logs"].count("line")
    while runner.call("GET", f"/sandboxes/{state['id']}/logs")["logs"].count("line") <= seen:
        time.sleep(0.05)
    lines = runner.call("GET", f"/sandboxes/{state['id']}/logs")["logs"].split("\n")[:-1]
    numbers = [int(line.removeprefix("line ")) for line in lines]
    assert numbers == sorted(set(numbers))
    # What the runner held in its hand when it was killed, between the pipe and the file, is the only thing to be lost.
    assert len(set(range(1, numbers[-1] + 1)) - set(numbers)) <= 1


def test_an_adopted_sandbox_that_ends_is_noticed(runner):
    state = begin(runner)
    runner.kill()
    runner.start()
    runner.call("GET", f"/sandboxes/{state['id']}?wait=10")
    os.kill(state["pid"], signal.SIGKILL)
    ended = runner.until(state["id"], "exited")
    assert ended["exit_code"] is None
    assert ended["error"] == "The start command ended with an unknown code."


def test_a_runner_that_comes_back_late_forgets_the_old_and_keeps_the_living(runner):
    image = runner.server_image()
    kept = runner.sandbox(image)
    for _ in range(3):
        runner.call("DELETE", f"/sandboxes/{runner.sandbox(image)['id']}")
    runner.kill()
    for state in (runner.folder / "ended").glob("*/state.json"):
        state.write_text(json.dumps({**json.loads(state.read_text()), "ended_at": time.time() - 7200}))
    runner.start()
    assert [item["id"] for item in runner.call("GET", "/sandboxes")["sandboxes"]] == [kept["id"]]
    assert runner.call("GET", f"/sandboxes/{kept['id']}")["pid"] == kept["pid"]
    assert runner.healthy(kept["id"]) == "ok"
    assert list((runner.folder / "ended").iterdir()) == []


def test_a_runner_that_cannot_begin_leaves_sandboxes_to_the_next_one(runner):
    state = begin(runner)
    runner.kill()
    (runner.folder / "runner.sock").unlink()
    (runner.folder / "runner.sock").mkdir()
    with pytest.raises(AssertionError, match="the runner failed"):
        runner.start()
    assert state["pid"] in runner.marked(state["id"])
    (runner.folder / "runner.sock").rmdir()
    runner.start()
    assert runner.call("GET", f"/sandboxes/{state['id']}")["pid"] == state["pid"]


def test_an_end_that_was_interrupted_is_finished(runner):
    state = begin(runner, start_command="sh -c \"trap '' TERM; while true; do sleep 1; done\"")
    while not runner.exec(state["id"], "pgrep -f 'trap .*TERM'")["stdout"]:
        time.sleep(0.02)
    deleting = threading.Thread(target=runner.raw_quietly, args=("DELETE", f"/sandboxes/{state['id']}"))
    deleting.start()
    saved = runner.folder / "sandboxes" / state["id"] / "state.json"
    while json.loads(saved.read_text())["outcome"] is None:
        time.sleep(0.02)
    runner.kill()
    deleting.join()
    assert runner.marked(state["id"])
    runner.start()
    assert runner.until(state["id"], "deleted")["error"] == "The sandbox was deleted."
    assert runner.marked(state["id"]) == []


def test_a_sandbox_that_cannot_be_adopted_is_ended(runner):
    unreadable, without_image = begin(runner), begin(runner)
    runner.kill()
    (runner.folder / "sandboxes" / unreadable["id"] / "state.json").write_text("{")
    shutil.rmtree(runner.folder / "images")
    runner.start()
    failed = runner.until(without_image["id"], "failed")
    assert failed["error_type"] == "IMAGE_NOT_FOUND"
    for state in (unreadable, without_image):
        assert runner.marked(state["id"]) == []
        assert not runner.accepts(state["ports"]["8000"])
    assert not (runner.folder / "sandboxes" / unreadable["id"]).exists()


def test_there_is_one_runner_a_folder(runner):
    command = [sys.executable, "-m", "prime_hub.runner", "--dir", str(runner.folder)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert second.returncode == 3
    assert "Another runner serves" in second.stderr
    assert runner.call("GET", "/info")["pid"] == runner.pid


@pytest.fixture
def far_away(tmp_path, runner):
    return type(runner)(tmp_path / ("long" * 30) / "runner", tmp_path / "cache")


def test_a_long_path_has_its_socket_elsewhere(far_away):
    far_away.start()
    try:
        place = Path(far_away.about()["socket"])
        assert len(str(place)) < 100
        assert place.parent.stat().st_mode & 0o777 == 0o700
        assert far_away.call("GET", "/info")["sandboxes"] == 0
        far_away.kill()
        far_away.start()
        assert not place.parent.exists()
        place = Path(far_away.about()["socket"])
        assert place.exists()
    finally:
        far_away.stop()
    assert not place.parent.exists()


def test_only_its_user_reaches_it(runner):
    place = Path(runner.about()["socket"])
    assert place.stat().st_mode & 0o777 == 0o600
    assert runner.folder.stat().st_mode & 0o777 == 0o700
    info = runner.call("GET", "/info")
    assert (info["runtime"], info["isolating"], info["host"]) == ("process", False, socket.gethostname())
    assert any("not limited" in words for words in info["not_enforced"])
