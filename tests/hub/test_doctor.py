"""`python -m prime_hub doctor`: what this machine can run sandboxes with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from prime_hub.runner.runtimes.choice import names
from tests.conftest import ROOT, HubFactory


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prime_hub", "doctor", *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_every_runtime_is_examined(home: Path) -> None:
    done = doctor("--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert [one["name"] for one in report["runtimes"]] == names()
    for one in report["runtimes"]:
        assert set(one) == {"name", "works", "isolating", "reason", "findings", "not_enforced"}
        assert one["works"] == (one["reason"] is None)
        for finding in one["findings"]:
            assert set(finding) == {"what", "good", "found", "fix", "needed"}
    works = [one["name"] for one in report["runtimes"] if one["works"]]
    assert report["chosen"] in works
    process = next(one for one in report["runtimes"] if one["name"] == "process")
    assert process["works"] and not process["isolating"] and process["not_enforced"]
    assert list(home.iterdir()) == []


def test_a_machine_without_an_engine_is_told_how_to_get_one(tmp_path: Path) -> None:
    """Nothing is said of what an engine that is not there enforces, and each sentence is one."""
    nowhere = f"unix://{tmp_path}/none.sock"
    report = json.loads(doctor("--json", "--runtime-option", f"engine={nowhere}").stdout)
    for name, package in (("docker", "docker.io"), ("podman", "podman.socket")):
        one = next(item for item in report["runtimes"] if item["name"] == name)
        (finding,) = one["findings"]
        assert (one["works"], one["not_enforced"], finding["good"]) == (False, [], False)
        assert finding["found"] == f"no container engine listens at {tmp_path}/none.sock"
        assert package in finding["fix"] and finding["fix"].endswith("--runtime-option engine=unix:///PATH.")
        assert one["reason"] == f"engine: {finding['found']}. {finding['fix']}"
    report = json.loads(doctor("--json", "--runtime-option", "engine=tcp://127.0.0.1:1").stdout)
    one = next(item for item in report["runtimes"] if item["name"] == "docker")
    assert one["reason"].startswith("The engine's address 'tcp://127.0.0.1:1' is not a socket of this host")


def test_what_is_not_enforced_is_what_a_hub_here_says(start_hub: HubFactory) -> None:
    """Only a runtime that is open knows what this machine lets it hold sandboxes to."""
    for one in json.loads(doctor("--json").stdout)["runtimes"]:
        text = json.dumps(one)
        assert not re.search(r"\bNone\b|memory are|\.\.", text), text
        if one["works"] and one["name"] in ("bubblewrap", "process"):
            state = start_hub("--runtime", one["name"]).wait_for_runner()
            assert state["not_enforced"] == one["not_enforced"]


def test_it_is_shown_to_people() -> None:
    done = doctor()
    assert done.returncode == 0 and "process: " in done.stdout and "would be used" in done.stdout
    assert "not enforced: the server can read and write" in done.stdout


def test_health_says_what_is_not_enforced(start_hub: HubFactory) -> None:
    state = start_hub("--runtime", "process").wait_for_runner()
    assert state["runtime"] == "process" and state["isolating"] is False
    assert any("network" in words for words in state["not_enforced"])


def test_options_that_cannot_be(tmp_path: Path) -> None:
    for words, sentence in (
        (("--runtime-option", "no-value"), "use NAME=VALUE"),
        (("--warm-spares", "-1"), "is not a number"),
        (("--account-cpus", "much"), "is not an amount"),
    ):
        command = [sys.executable, "-m", "prime_hub", "serve", "--data-dir", str(tmp_path / "d"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and sentence in done.stderr


def test_every_option_is_documented() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "prime_hub", "serve", "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    page = "".join(file.read_text() for file in (ROOT / "docs").glob("*.md"))
    options = set(re.findall(r"--[a-z][a-z-]+", shown)) - {"--help"}
    assert options and [one for one in sorted(options) if not re.search(rf"`{one}[`\s]", page)] == []
