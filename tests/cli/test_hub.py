"""`prime hub`: a Hub of one's own, started, looked at and stopped."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

PRIME = Path(sys.executable).parent / "prime"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_start_status_stop(own_hub):
    data_dir = own_hub.home / ".prime" / "hub"
    stopped = own_hub("hub", "status")
    assert stopped.returncode == 3
    assert "not running" in stopped.stdout
    assert "prime hub start" in stopped.stderr

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = own_hub("hub", "start", "--port", str(port))
    assert started.returncode == 0, started.stderr
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", started.stdout)
    assert "Started your own Hub" in started.stderr
    again = own_hub("hub", "start")
    assert (again.stdout, again.stderr) == (started.stdout, "")

    state = json.loads(own_hub.ok("hub", "status", "--output", "json"))
    assert (state["running"], state["url"], state["data_dir"]) == (True, started.stdout.strip(), str(data_dir))
    shown = own_hub.ok("hub", "status")
    assert state["url"] in shown and str(data_dir) in shown

    assert own_hub.ok("hub", "stop") == "✓ The Hub has stopped.\n"
    assert not alive(state["pid"])
    assert own_hub("hub", "stop").stderr == "No Hub is running.\n"
    assert json.loads(own_hub("hub", "status", "-o", "json").stdout) == {"running": False, "data_dir": str(data_dir)}
    # It comes back where it was, so that addresses go on working; unless another port is asked for.
    assert own_hub.ok("hub", "start") == started.stdout
    own_hub.ok("hub", "stop")
    assert own_hub.ok("hub", "start", "--port", "0") != started.stdout


def test_a_hub_that_runs_on_another_port_says_so(own_hub):
    url = own_hub.ok("hub", "start").strip()
    done = own_hub("hub", "start", "--port", "1024")
    assert done.stdout.strip() == url
    assert "It runs already, on another port than 1024" in done.stderr


def test_logs(own_hub):
    assert "There is no log at" in own_hub.fails("hub", "logs")
    own_hub.ok("hub", "start")
    own_hub.ok("hub", "stop")
    every = own_hub.ok("hub", "logs", "-n", "100000")
    assert every == (own_hub.home / ".prime" / "hub" / "hub.log").read_text()
    assert own_hub.ok("hub", "logs", "-n", "1") == every.splitlines()[-1] + "\n"
    assert own_hub.ok("hub", "logs", "-n", "0") == ""


def test_the_end_of_a_long_log(prime):
    log = prime.home / ".prime" / "hub" / "hub.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}: {'x' * 200}\n" for number in range(2000)))
    lines = prime.ok("hub", "logs", "-n", "300").splitlines()
    assert len(lines) == 300
    assert lines[0].startswith("line 1700:")
    assert lines[-1].startswith("line 1999:")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_it_is_ended(prime, tmp_path, number):
    data_dir = tmp_path / "data"
    command = [PRIME, "hub", "serve", "--port", "0", "--data-dir", data_dir]
    environment = prime.environment(MY_API_KEY="not-for-the-hub")
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        address = wait_for(data_dir, child)
        assert address["pid"] == child.pid  # the Hub took the command's place
        assert httpx.get(f"{address['url']}/api/v1/health", trust_env=False).json()["status"] == "ok"
        assert b"not-for-the-hub" not in Path(f"/proc/{child.pid}/environ").read_bytes()

        # Accounts are added beside it.
        added = prime("hub", "user", "add", "alice", "--data-dir", data_dir)
        assert added.returncode == 0, added.stderr
        assert re.fullmatch(r"\S+\n", added.stdout)
        env = {"PRIME_API_BASE_URL": address["url"], "PRIME_API_KEY": added.stdout.strip()}
        assert json.loads(prime.ok("whoami", "--output", "json", **env))["slug"] == "alice"
        twice = prime("hub", "user", "add", "alice", "--data-dir", data_dir)
        assert twice.returncode != 0
        assert twice.stdout == ""
        assert "alice" in twice.stderr and "Traceback" not in twice.stderr
    finally:
        child.send_signal(number)
        output, _ = child.communicate(timeout=60)
        prime("hub", "stop", "--data-dir", data_dir)
    assert child.returncode in (0, 130, -number), output
    assert b"Traceback" not in output


def test_a_hub_for_the_network_says_where_others_reach_it(prime, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        mine = probe.getsockname()[0]
    for host, shown in (("0.0.0.0", True), ("127.0.0.1", False)):
        data_dir = tmp_path / host
        command = [PRIME, "hub", "serve", "--host", host, "--port", "0", "--data-dir", data_dir]
        child = subprocess.Popen(command, env=prime.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            port = wait_for(data_dir, child)["url"].rpartition(":")[2]
            if shown:
                found = httpx.get(f"http://{mine}:{port}/api/v1/health", trust_env=False)
                assert found.json()["status"] == "ok"
        finally:
            child.terminate()
            output = child.communicate(timeout=60)[0].decode()
            prime("hub", "stop", "--data-dir", data_dir)
        assert f"Hub http://127.0.0.1:{port} (" in output
        assert (f"Others reach it at:\n  http://{mine}:{port}\n" in output) == shown
        assert ("Warning: it is open to the network." in output) == shown


def wait_for(data_dir: Path, child: subprocess.Popen) -> dict:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        try:
            address = json.loads((data_dir / "hub.json").read_text())
        except (OSError, ValueError):
            address = {}
        if address.get("pid"):
            return address
        time.sleep(0.02)
    raise AssertionError(child.communicate()[0])


def test_limits_of_a_hub_are_kept_and_told(prime, tmp_path):
    """`--limit`: what is beyond one sandbox's is refused, and who has as much as an account may have waits."""
    data_dir = tmp_path / "data"
    limits = ("sandbox-memory-gb=2", "sandbox-disk-gb=6", "account-sandboxes=1")
    command = [PRIME, "hub", "serve", "--port", "0", "--data-dir", data_dir]
    child = subprocess.Popen(
        [*command, *(word for limit in limits for word in ("--limit", limit))],
        env=prime.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        url = wait_for(data_dir, child)["url"]
        user = prime.user(
            "limited", PRIME_API_BASE_URL=url, PRIME_API_KEY=(data_dir / "owner.token").read_text().strip()
        )
        (user.cwd / "Dockerfile").write_text('FROM python:3.11-slim\nCMD ["python", "-m", "http.server", "8000"]\n')
        user.ok("images", "push", "demo")
        error = user.fails("sandbox", "create", "demo", "--memory", "4")
        assert "A sandbox of this Hub may have at most 2 GiB of memory, and 4 were asked for" in error
        assert "ask for less: --memory 2." in error
        error = user.fails("sandbox", "create", "demo", "--disk", "7")
        assert "at most 6 GiB of disk, and 7 were asked for" in error
        first = user.ok("sandbox", "create", "demo", "--memory", "2").strip()
        second = user.ok("sandbox", "create", "demo", "--no-wait").strip()
        shown = user.ok("sandbox", "get", second)
        assert "Your account has 1 of at most 1 sandboxes, and 0 of yours are before this one" in shown
        user.ok("sandbox", "delete", first)
        deadline = time.monotonic() + 60
        while json.loads(user.ok("sandbox", "get", second, "-o", "json"))["status"] != "RUNNING":
            assert time.monotonic() < deadline
        user.ok("sandbox", "delete", second)
    finally:
        child.terminate()
        output, _ = child.communicate(timeout=60)
        prime("hub", "stop", "--data-dir", data_dir)
    assert b"Traceback" not in output


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("memory=2", "'memory=2' is not one of account-sandboxes, account-cpus, account-memory-gb"),
        ("sandbox-cpus", "'sandbox-cpus' is not one of"),
        ("sandbox-cpus=many", "'many' is not an amount"),
        ("account-builds=-1", "'-1' is not"),
    ],
)
def test_a_limit_that_cannot_be_is_a_sentence(prime, tmp_path, limit, sentence):
    error = prime.fails("hub", "serve", "--data-dir", tmp_path / "data", "--limit", limit, code=2)
    assert sentence in " ".join(error.split())


def test_a_port_that_is_taken_is_a_sentence(prime, module_hub, tmp_path):
    port = module_hub.url.rpartition(":")[2]
    error = prime.fails("hub", "serve", "--port", port, "--data-dir", tmp_path / "other")
    assert port in error
    error = prime.fails("hub", "start", "--port", port, "--data-dir", tmp_path / "another")
    assert error.startswith("Error: Your own Hub ended at its start")
    assert "prime hub serve" in error


def test_two_commands_at_once_start_one_hub(own_hub):
    commands = [
        subprocess.Popen(
            [PRIME, "hub", "start"], env=own_hub.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    done = [command.communicate(timeout=100) for command in commands]
    assert {command.returncode for command in commands} == {0}, done
    assert len({output for output, _ in done}) == 1
    assert sum(b"Started your own Hub" in error for _, error in done) == 1


def test_a_folder_of_the_same_name_is_not_the_program(own_hub, tmp_path):
    trap = tmp_path / "prime_hub"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('taken in')\n")
    assert own_hub.ok("hub", "start", cwd=tmp_path).startswith("http://")
    assert "taken in" not in own_hub("hub", "user", "add", "bob", cwd=tmp_path).stderr


def test_a_runtime_of_ones_choice(own_hub):
    own_hub.ok("hub", "start", "--runtime", "process", "--max-sandboxes", "3")
    deadline = time.monotonic() + 60
    while (state := json.loads(own_hub.ok("hub", "status", "-o", "json")))["runner"]["state"] != "ready":
        assert time.monotonic() < deadline
    assert (state["runner"]["runtime"], state["runner"]["isolating"]) == ("process", False)
    assert state["runner"]["not_enforced"]
    shown = own_hub.ok("hub", "status")
    assert "process, does not isolate: only for environments you trust" in shown
    assert "Not enforced by process on this machine" in shown
    assert all(f"  - {line}" in shown for line in state["runner"]["not_enforced"])
    again = own_hub("hub", "start", "--runtime", "process")
    assert again.returncode == 0
    assert "It runs already, so it goes on as it was started" in again.stderr


def test_a_runtime_that_does_not_exist_is_a_sentence(prime, tmp_path):
    for verb in ("start", "serve"):
        error = prime.fails("hub", verb, "--runtime", "magic", "--data-dir", tmp_path / verb)
        assert "There is no runtime 'magic'" in error and "process" in error
    assert "'x' is not NAME=VALUE" in prime.fails("hub", "start", "--runtime-option", "x", code=2)


def test_doctor_says_what_this_machine_can_do(prime):
    done = prime("hub", "doctor", "--output", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["chosen"] is not None) == (0, True)
    assert {"name", "works", "isolating", "findings", "not_enforced"} <= set(report["runtimes"][0])
    shown = prime.ok("hub", "doctor")
    for runtime in report["runtimes"]:
        line = next(line for line in shown.splitlines() if f" {runtime['name']} (" in line)
        assert ("works" in line and "✓" in line) if runtime["works"] else ("does not work here" in line and "✗" in line)
        for finding in runtime["findings"]:
            assert f"{finding['what']}: " in shown
    assert f"A Hub started now uses {report['chosen']}" in shown
    assert max(map(len, shown.splitlines())) <= 160


def test_doctor_shows_a_machine_that_can_do_nothing(capsys):
    from prime_cli.doctor import show
    from prime_cli.output import Output

    finding = {"what": "engine", "good": False, "found": "none answers", "fix": "Start one.", "needed": True}
    runtime = {"name": "docker", "works": False, "isolating": True, "findings": [finding], "not_enforced": []}
    show({"chosen": None, "runtimes": [runtime]}, Output())
    assert capsys.readouterr().out == (
        "✗ docker (isolating): does not work here\n"
        "    ✗ engine: none answers\n"
        "      → Start one.\n"
        "\n"
        "Nothing here can run sandboxes; the lines marked ✗ above say what it would take.\n"
    )
