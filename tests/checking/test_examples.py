"""The examples are right: in sandboxes of a Hub, and one of them as it was published."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import Prime
from tests.conftest import ROOT
from verifiers.checking import Limits, of_folder, run

ENVIRONMENTS = ROOT / "environments"
EXAMPLES = sorted(place.name for place in ENVIRONMENTS.iterdir() if (place / "pyproject.toml").is_file())
QUICK = Limits(steps=20, sessions=6, oversize=2**20)


def copied(name, tmp_path):
    ignored = shutil.ignore_patterns(".build.json", "__pycache__", "outputs", ".prime")
    folder = shutil.copytree(ENVIRONMENTS / name, tmp_path / "environments" / name, ignore=ignored)
    with (folder / "pyproject.toml").open("a") as file:  # the machine of the tests has much to do
        file.write("\n[tool.verifiers.check]\nstartup_seconds = 240\nstep_seconds = 60\n")
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
async def test_their_files_are_right(name, tmp_path):
    report = await run(of_folder(copied(name, tmp_path), quick=True), quick=True)
    assert report.outcome == "pass", report.findings()


async def test_cartpole_as_a_plain_program(tmp_path, played, proxies):
    """Its server runs in this interpreter, which has gymnasium."""
    folder = copied("openenv_cartpole", tmp_path)
    report = await run(played(folder), limits=QUICK)
    assert report.outcome == "pass", report.findings()
    assert report.ids("skip") == {"lock-outdated", "tools-unusable", "sessions-share-state", "reward-out-of-range"}
    facts = report.facts
    assert facts["reward_floor"] < facts["reward_random_mean"] and facts["reward_random_spread"] > 0
    assert facts["step_seconds_median"] > 0 and facts["memory_bytes"] > 2**20 and facts["rows_eval"] == 50


@pytest.fixture
def author(home, tmp_path, module_hub) -> Prime:
    prime = Prime(home, tmp_path)
    prime.ok("login", "--base-url", module_hub.url, "--token-stdin", stdin=module_hub.token)
    return prime


@pytest.mark.index
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXAMPLES)
def test_they_are_right(name, author, tmp_path):
    copied(name, tmp_path)
    done = author("env", "check", name.replace("_", "-"), "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["outcome"] == "pass", [check for check in report["checks"] if check["findings"]]
    outcomes = {check["id"]: check for check in report["checks"]}
    assert not [check for check in report["checks"] if check["why"] and "could not be made" in check["why"]]
    assert outcomes["rollout-fails"]["outcome"] == "pass"
    if (ENVIRONMENTS / name / "proj").is_dir():
        assert outcomes["seed-half-used"]["outcome"] == outcomes["memory-leak"]["outcome"] == "pass"


@pytest.mark.index
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_as_it_was_published(author, tmp_path, module_hub):
    copied("openenv_cartpole", tmp_path)
    author.ok("env", "push", "openenv-cartpole")
    shutil.rmtree(tmp_path / "environments")
    name = f"{module_hub.owner}/openenv-cartpole"
    done = author("env", "check", f"{name}@0.1.0", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    about = report["environment"]
    assert report["outcome"] == "pass" and about["image_digest"].startswith("sha256:") and about["content_hash"]
    assert (about["owner"], about["name"], about["version"]) == (module_hub.owner, "openenv-cartpole", "0.1.0")
    outcomes = {check["id"]: check["outcome"] for check in report["checks"]}
    assert outcomes["load-fails"] == outcomes["renderer-step"] == outcomes["memory-leak"] == "pass"
    assert "folder" not in about and not list(tmp_path.iterdir()), "nothing of it is left here"
    quick = json.loads(author.ok("env", "check", name, "--quick", "-o", "json"))
    assert quick["environment"]["owner"] == module_hub.owner and quick["part"] == "quick"
