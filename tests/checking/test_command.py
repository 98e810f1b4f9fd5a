"""`prime env check` as a program: what it prints where, its exit codes, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.checking.conftest import BASE, Programs
from tests.cli.conftest import PRIME, Prime
from tests.conftest import ROOT
from verifiers.checking import CHECKS

PLAIN = Path(__file__).parent / "plain"
UNUSED = "http://127.0.0.1:9"


@pytest.fixture
def prime(home, tmp_path) -> Prime:
    return Prime(home, tmp_path)


@pytest.fixture
def serving(made):
    """`serving("seed_ignored")`: the URL of that environment's server, and its folder."""
    programs = []

    def start(name):
        folder = made(name)
        source = Programs(folder / "proj", "uvicorn server:app --host 0.0.0.0 --port 8000", 8000, UNUSED, UNUSED)
        programs.append(source.spawn())
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                httpx.get(programs[-1].url + "/health", trust_env=False)
                return programs[-1].url, folder
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    yield start
    for program in programs:
        os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait()


def test_the_quick_part_needs_no_hub(prime, made):
    folder = made(BASE)
    done = prime("env", "check", "guess", "--quick", "-o", "json", cwd=folder.parents[1])
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["part"] == "quick" and report["outcome"] == "pass"
    assert {check["group"] for check in report["checks"]} == {"package"} and done.stderr == "Checking package\n"
    assert not (prime.home / ".prime").exists() and not list(folder.rglob("__pycache__"))
    text = prime.ok("env", "check", "--quick", cwd=folder)
    assert "9 passed, 0 with advice, 0 failed, 1 skipped" in text and "✓  metadata-invalid" in text


def test_what_is_wrong_is_told_with_where_and_what_to_change(prime, made):
    folder = made("no_readme")
    done = prime("env", "check", "--quick", cwd=folder)
    assert done.returncode == 1
    assert "readme-missing: There is no README.md, so nobody learns what the environment is about.\n" in done.stdout
    assert "  where:  README.md\n  change: Write it: " in done.stdout
    assert "prime env check --explain readme-missing" in done.stderr
    table = done.stdout.partition("\n\n")[0]
    assert table.count("because of readme-missing") == 1, "those that need it share a line"


def test_a_page_is_explained_and_an_unknown_id_is_a_wrong_command_line(prime):
    for name in ("seed-ignored", "needs-network"):
        assert prime.ok("env", "check", "--explain", name).strip() == CHECKS[name].explanation.strip()
    for args in (("--explain", "seed-ignord"), ("--only", "memory-leak,seed-ignord", "--server", UNUSED)):
        assert "Did you mean seed-ignored?" in prime.fails("env", "check", *args, code=2)


def test_there_has_to_be_something_to_check(prime):
    assert "There is no environment in " in prime.fails("env", "check")
    assert "Environment 'nothing' not found at ./environments/nothing." in prime.fails("env", "check", "nothing")
    error = prime.fails("env", "check", "alice/guess", "--server", UNUSED)
    assert "--server does not go with OWNER/NAME" in error
    assert "must begin with http" in prime.fails("env", "check", "--server", "127.0.0.1:8000")


def test_a_server_alone(prime, serving):
    url, _ = serving("seed_ignored")
    done = prime("env", "check", "--server", url, "-o", "json")
    report = json.loads(done.stdout)
    outcomes = {check["id"]: check for check in report["checks"]}
    assert done.returncode == 1 and set(outcomes) == set(CHECKS)
    assert [check["id"] for check in report["checks"] if check["outcome"] == "fail"] == ["seed-ignored"]
    assert report["environment"] == {"server": url, "contract": "gym", "dialect": "ws"}
    assert outcomes["metadata-invalid"]["why"] == "No folder of an environment was named."
    assert outcomes["memory-leak"]["why"] == "What the server's sandbox uses cannot be seen from here."
    assert "started by somebody else" in outcomes["port-mismatch"]["why"]
    assert outcomes["malformed-action"]["outcome"] == "pass" and not (prime.home / ".prime").exists()


def test_an_environment_on_a_server(prime, serving):
    url, folder = serving(BASE)
    done = prime("env", "check", "guess", "--server", url, "-o", "json", cwd=folder.parents[1])
    outcomes = {check["id"]: check["outcome"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert {outcomes[name] for name in ("metadata-invalid", "seed-half-used", "renderer-step", "rollout-fails")} == {
        "pass"
    }


def test_one_check_alone_tells_what_stands_in_its_way(prime, serving):
    url, _ = serving("hangs_on_step_3")
    done = prime("env", "check", "--server", url, "--only", "seed-half-used", "-o", "json")
    outcomes = {check["id"]: check["outcome"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and outcomes == {"step-hangs": "fail", "seed-half-used": "skip"}


def test_nobody_answers(prime):
    done = prime("env", "check", "--server", UNUSED)
    assert done.returncode == 1 and "server-not-healthy: GET /health of the server gives ConnectError" in done.stdout


def test_a_narrow_terminal(prime, made):
    folder = made("version_mismatch")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [PRIME, "env", "check", "--quick"],
        cwd=folder,
        env=prime.environment(COLUMNS="44", NO_COLOR="", TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert child.stderr is not None
    child.stderr.close()
    assert child.wait() == 1
    table = shown.decode().replace("\r", "").partition("\n\n")[0].splitlines()
    assert len(table) > 10 and all(len(line) <= 60 for line in table) and "\x1b[" in shown.decode()
    assert any("✗" in line for line in table)


def test_an_environment_without_a_server(prime, tmp_path):
    shutil.copytree(ROOT / "environments" / "reverse_text", tmp_path / "environments" / "reverse_text")
    report = json.loads(prime.ok("env", "check", "reverse-text", "-o", "json"))
    outcomes = {check["id"]: check for check in report["checks"]}
    assert report["outcome"] == "pass" and outcomes["seed-ignored"]["why"] == "It has no server."
    assert outcomes["reward-constant"]["outcome"] == outcomes["rollout-fails"]["outcome"] == "pass"
    assert report["facts"]["rows_eval"] == 50 and report["facts"]["reward_highest"] == 1.0


@pytest.fixture
def author(prime, module_hub) -> Prime:
    shutil.copytree(PLAIN, prime.cwd / "environments" / "guess")
    prime.ok("login", "--base-url", module_hub.url, "--token-stdin", stdin=module_hub.token)
    return prime


def left(hub) -> list:
    """The sandboxes that live, and the images."""
    sandboxes = hub.api.get("/sandbox").json()["sandboxes"]
    return [one for one in sandboxes if one["status"] in ("PENDING", "PROVISIONING", "RUNNING")] + hub.api.get(
        "/images"
    ).json()["data"]


def test_in_a_sandbox_of_the_hub(author, module_hub):
    done = author("env", "check", "guess", "-o", "json")
    report = json.loads(done.stdout)
    outcomes = {check["id"]: check for check in report["checks"]}
    assert done.returncode == 0 and report["counts"]["fail"] == report["counts"]["warn"] == 0, report
    assert "Building the image of " in done.stderr
    assert report["environment"]["image_digest"].startswith("sha256:") and report["environment"]["dialect"] == "http"
    for name in ("image-not-built", "port-mismatch", "loopback-only", "processes-left", "memory-leak", "renderer-step"):
        assert outcomes[name]["outcome"] == "pass", outcomes[name]
    assert report["facts"]["memory_bytes"] > 2**20 and report["facts"]["startup_seconds"] > 0
    if os.environ["PRIME_HUB_RUNTIME"] == "process":
        assert outcomes["needs-network"]["why"] == (
            "This Hub's runtime (process) cannot keep a sandbox from the network."
        )
    assert not (author.cwd / "environments" / "guess" / "proj" / ".build.json").exists()
    assert left(module_hub) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_ends_it_leaves_nothing_behind(author, module_hub, number, code):
    server = author.cwd / "environments" / "guess" / "proj" / "server.py"
    server.write_text(
        server.read_text().replace("def step(body):\n", "def step(body):\n    import time; time.sleep(0.5)\n")
    )
    child = subprocess.Popen(
        [PRIME, "env", "check", "guess"],
        cwd=author.cwd,
        env=author.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    while "Checking episodes" not in (line := child.stderr.readline()):
        assert line, "it ended before it was interrupted"
    assert len(left(module_hub)) >= 2
    child.send_signal(number)
    printed, told = child.communicate(timeout=60)
    assert child.returncode == code and printed == ""
    assert number != signal.SIGINT or "Interrupted; what was started for the check is gone." in told
    assert left(module_hub) == []


def test_an_image_that_cannot_be_built(author):
    (author.cwd / "environments" / "guess" / "proj" / "Dockerfile").write_text(
        "FROM python:3.11-slim\nRUN apt-get install x\n"
    )
    done = author("env", "check", "guess", "-o", "json")
    failed = [check for check in json.loads(done.stdout)["checks"] if check["outcome"] == "fail"]
    assert done.returncode == 1 and [check["id"] for check in failed] == ["image-not-built"]
    assert "The image cannot be built" in failed[0]["findings"][0]["sentence"]


def test_without_a_login_there_is_no_check_on_a_hub(author):
    error = author.fails("env", "check", "guess", PRIME_API_KEY="pit_nobody")
    assert [line for line in error.splitlines() if line.startswith("Error: ")], error


def test_a_push_is_warned_and_not_refused(author, tmp_path):
    folder = author.cwd / "environments" / "reverse_text"
    shutil.copytree(ROOT / "environments" / "reverse_text", folder)
    pyproject = folder / "pyproject.toml"
    pyproject.write_text(
        pyproject.read_text().replace('version = "0.1.0"', 'version = "0.1"').replace('tags = ["text"', "#")
    )
    done = author("env", "push", "reverse-text")
    assert done.returncode == 0, done.stderr
    assert "Warning: The version 0.1 is not of the form MAJOR.MINOR.PATCH" in done.stderr
    assert (
        "(version-not-semantic; pyproject.toml, [project].version)" in done.stderr and "(tags-missing;" in done.stderr
    )
    assert "Successfully published reverse-text v0.1\n" in done.stdout
    done = author("env", "push", "reverse-text", "--auto-bump", "--no-check")
    assert done.returncode == 0 and "Warning" not in done.stderr
