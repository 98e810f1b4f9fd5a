"""The official `prime` 0.18.0, unmodified, with evaluations of a real Hub (hub.md §7, rows 19 and 20)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, RunningHub
from tests.hub.checking import push_checkable
from tests.hub.pushing import push
from tests.official.command import Prime
from tests.official.rows import Rows

pytestmark = [pytest.mark.index]


@pytest.fixture
def prime(module_hub: RunningHub, home: Path) -> Prime:
    return Prime(module_hub, home)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as this project's command leaves it."""
    out = tmp_path_factory.mktemp("run")
    words = ["eval", "run", "reverse-text", "-m", "baseline/echo", "-n", "4", "-r", "3", "-o", str(out)]
    code = "import sys; from prime_cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("evals/*/*")
    return found


def _own(hub: RunningHub, prime: Prime, *words: str) -> str:
    """What this project's command prints."""
    code = "import sys; from prime_cli.main import main; sys.exit(main())"
    known = {**os.environ, "HOME": str(prime.home), "PRIME_API_KEY": hub.token, "PRIME_BASE_URL": hub.url}
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=known, capture_output=True, text=True, check=True
    ).stdout


def printed(said: str) -> Any:
    """The JSON in what a command printed, which has other words around it."""
    return json.loads(said[said.index("{") : said.rindex("}") + 1])


def test_row_19_evaluations(module_hub: RunningHub, prime: Prime, rows: Rows, run: Path) -> None:
    me = module_hub.owner
    push(module_hub.api, "reverse-text")
    metadata = json.loads((run / "metadata.json").read_text())
    results = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    with rows(19):
        said = prime("eval", "push", str(run), "--env", f"{me}/reverse-text", "-o", "json")
        one = re.findall(r'"evaluation_id": "(\w+)"', said)[-1]
        assert f"/dashboard/evaluations/{one}" in said, said
        (listed,) = prime.json("eval", "list", "-o", "json")["evaluations"]
        assert (listed["evaluation_id"], listed["model_name"]) == (one, "baseline/echo")
        assert f"{me}/reverse-text" in str(listed["environment_names"]) and listed["status"] == "COMPLETED"
        assert one in prime("eval", "list", "-e", "reverse-text")
        told = printed(prime("eval", "get", one))
        assert told["metadata"]["num_examples"] == 4 and told["metadata"]["rollouts_per_example"] == 3
        assert told["metrics"]["reward"] == metadata["avg_reward"] and told["total_samples"] == 12
        assert told["summary"]["reward"]["value"] == pytest.approx(metadata["avg_reward"])
        for name, value in metadata["avg_metrics"].items():
            assert told["summary"]["metrics"][name]["value"] == pytest.approx(value)
        page = printed(prime("eval", "samples", one, "-p", "1", "-n", "5"))
        assert (page["total"], len(page["samples"])) == (12, 5)
        assert [sample["completion"] for sample in page["samples"]] == [row["completion"] for row in results[:5]]
        prime("eval", "push", str(run), "--eval", one)
        again = printed(prime("eval", "get", one))
        assert again["total_samples"] == 12 and again["summary"] == told["summary"] and again["status"] == "COMPLETED"
        assert len(prime.json("eval", "list", "-o", "json")["evaluations"]) == 1
        ours = _own(module_hub, prime, "eval", "push", str(run), "--env", f"{me}/reverse-text", "-o", "json")
        own = module_hub.api.get(f"/evaluations/{json.loads(ours)['evaluation_id']}").json()
        assert own["summary"] == told["summary"] and own["metrics"] == told["metrics"]
        assert own["metadata"] == told["metadata"] and own["environment_names"] == told["environment_names"]
        assert "HTTP 404" in prime("eval", "push", str(run), "--env", f"{me}/none", code=1)
        assert "HTTP 404" in prime("eval", "get", "0" * 24, code=1)


def test_row_20_hosted(module_hub: RunningHub, prime: Prime, rows: Rows) -> None:
    push_checkable(module_hub.api, "hosted-words")
    full = f"{module_hub.owner}/hosted-words"
    with rows(20):
        said = prime("eval", "run", full, "--hosted", "-m", "baseline/echo", "-n", "1", "-r", "1")
        assert "✓ Hosted evaluation started" in said, said
        one = re.findall(r"Evaluation ID: (\w+)", said)[0]
        assert f"/dashboard/evaluations/{one}" in said
        followed = prime("eval", "logs", one, "-f")
        assert "Installing" in followed and "COMPLETED" in followed, followed
        said = prime("eval", "logs", one)
        assert "Installing" in said and "Status: COMPLETED" in said and "View: " in said, said
        assert printed(prime("eval", "get", one))["total_samples"] == 1
        assert "has ended already: it is COMPLETED" in prime("eval", "stop", one)
        said = prime("eval", "run", full, "--hosted", "-m", "baseline/echo", "-n", "4", "-r", "1")
        other = re.findall(r"Evaluation ID: (\w+)", said)[0]
        assert "✓" in prime("eval", "stop", other)
        assert "Status: CANCELLED" in prime("eval", "logs", other, "-f", code=1)
        # The usual model of the command, for which this Hub has no endpoint.
        assert "--model-endpoints FILE" in prime("eval", "run", full, "--hosted", "-n", "1", "-r", "1", code=1)
