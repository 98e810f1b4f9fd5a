"""`prime env check OWNER/NAME --on-hub`: environments with servers, checked by a Hub, on the runtimes that are here."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checking.conftest import BASE
from tests.cli.conftest import PRIME, Prime
from tests.conftest import RunningHub
from tests.hub.checking import CODE, address, hosted, push_checkable, until


@pytest.fixture(scope="module", params=["process", "bubblewrap"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    if request.param == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--runtime", request.param))
    yield hub
    hub.close()


@pytest.fixture
def author(home: Path, tmp_path: Path, hub: RunningHub) -> Prime:
    prime = Prime(home, tmp_path)
    prime.ok("login", "--base-url", hub.url, "--token-stdin", stdin=hub.token)
    return prime


def published(author: Prime, hub: RunningHub, folder: Path, name: str) -> str:
    """Push a folder under another name; OWNER/NAME."""
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace('name = "guess"', f'name = "{name}"'))
    module = folder / "guess.py"
    if module.exists():
        module.rename(folder / f"{name.replace('-', '_')}.py")
        project.write_text(project.read_text().replace("guess.py", f"{name.replace('-', '_')}.py"))
    moved = folder.with_name(name.replace("-", "_"))
    folder.rename(moved)
    author.ok("env", "push", "--path", moved, "--no-check")
    return f"{hub.owner}/{name}"


def test_a_server_is_started_played_and_looked_at(author: Prime, hub: RunningHub, made) -> None:
    full = published(author, hub, made(BASE), "sound-guess")
    done = author("env", "check", full, "--on-hub", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    outcomes = {one["id"]: one["outcome"] for one in report["checks"]}
    assert report["counts"]["fail"] == 0 and report["hub"]["badge"] == "checked", report
    # What only a sandbox of the Hub shows is shown, as it is by the command on the author's own machine.
    for name in ("image-not-built", "port-mismatch", "loopback-only", "processes-left", "memory-leak", "rollout-fails"):
        assert outcomes[name] == "pass", report
    runtime = report["hub"]["runtime"]
    assert outcomes["needs-network"] == ("skip" if runtime == "process" else "pass"), report
    assert "Checking episodes" in done.stderr and hosted(hub.data_dir) == []


def test_an_evaluation_by_the_hub_plays_on_a_server_of_its_image(author: Prime, hub: RunningHub, made) -> None:
    full = published(author, hub, made(BASE), "hosted-guess")
    done = author("eval", "run", full, "--hosted", "-m", "baseline/random", "-n", "2", "-r", "1", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    found = hub.api.get("/evaluations/", params={"environment_name": full}).json()["evaluations"][0]
    log = hub.api.get(f"/hosted-evaluations/{found['id']}/logs").json()["logs"]
    assert (found["status"], found["total_samples"]) == ("COMPLETED", 2), log
    samples = hub.api.get(f"/evaluations/{found['id']}/samples").json()["samples"]
    assert all(row["error"] is None for row in samples), log
    assert hosted(hub.data_dir) == []


def test_a_mistake_of_the_server_is_found_and_only_that(author: Prime, hub: RunningHub, made) -> None:
    full = published(author, hub, made("seed_ignored"), "careless-guess")
    done = author("env", "check", full, "--on-hub")
    assert done.returncode == 1 and "seed-ignored: " in done.stdout, done.stdout + done.stderr
    assert "  where:  the server, " in done.stdout and ", 1 failed, " in done.stdout
    assert f"{hub.url}/dashboard/environments/{full}/check?version=" in done.stderr


def test_a_version_whose_image_is_gone_is_partly_checked(author: Prime, hub: RunningHub, made) -> None:
    folder = made(BASE)
    (folder / "proj" / "NOTES").write_text("An image of its own.")
    full = published(author, hub, folder, "imageless-guess")
    name = full.partition("/")[2]
    hub.sql("UPDATE versions SET image_digest = NULL WHERE image LIKE :like", like=f"%{name}%")
    assert hub.api.delete(f"/images/{name}/latest").is_success
    done = author("env", "check", full, "--on-hub", "-o", "json")
    report = json.loads(done.stdout)
    outcomes = {one["id"]: one for one in report["checks"]}
    assert "Its server cannot be started here. There is no image" in outcomes["server-not-healthy"]["why"], report
    assert report["hub"]["badge"] == "partly checked"


def test_ctrl_c_leaves_it_going_on(author: Prime, hub: RunningHub) -> None:
    push_checkable(hub.api, "long", "import time\ntime.sleep(6)\n" + CODE)
    full = f"{hub.owner}/long"
    child = subprocess.Popen(
        [PRIME, "env", "check", full, "--on-hub"],
        cwd=author.cwd,
        env=author.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    while "Checking package" not in (line := child.stderr.readline()):
        assert line, "it ended before it was interrupted"
    child.send_signal(signal.SIGINT)
    printed, told = child.communicate(timeout=60)
    assert child.returncode == 130 and printed == ""
    assert f"Interrupted; the check goes on on the Hub: {hub.url}/dashboard/environments/{full}/check" in told
    assert until(hub.api, hub.owner, "long")["badge"] == "checked"


def test_what_it_cannot_be_asked_for(author: Prime, hub: RunningHub) -> None:
    error = author.fails("env", "check", "guess", "--on-hub")
    assert "The Hub checks what is published on it." in error and "prime env check OWNER/NAME --on-hub" in error
    assert "leave the other options out" in author.fails("env", "check", "a/b", "--on-hub", "--quick", code=2)
    assert "There is no environment" in author.fails("env", "check", f"{hub.owner}/nothing", "--on-hub")


def test_who_may_only_read_is_shown_what_was_found_before(author: Prime, hub: RunningHub) -> None:
    push_checkable(hub.api, "readable")
    reader = author.user("reader")
    reader.ok("login", "--base-url", hub.url, "--token-stdin", stdin=hub.add_user("reader"))
    full = f"{hub.owner}/readable"
    assert "is not reader's to change" in reader.fails("env", "check", full, "--on-hub")
    hub.api.post(address(hub.owner, "readable"))
    until(hub.api, hub.owner, "readable")
    done = reader("env", "check", full, "--on-hub")
    assert done.returncode == 0 and "this is what the Hub found before" in done.stderr and "✓" in done.stdout


def test_what_cannot_be_made_is_an_error_with_its_log(author: Prime, hub: RunningHub) -> None:
    push_checkable(hub.api, "unmakable", headers="Requires-Dist: verifiers>=0.9\n")
    error = author.fails("env", "check", f"{hub.owner}/unmakable", "--on-hub")
    assert "The Hub could not make the check: It cannot be installed: unmakable needs verifiers>=0.9" in error
