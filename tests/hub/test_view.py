"""`python -m prime_hub view`: the Hub's pages of evaluations over runs in folders, for one person on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from prime_evals import Attempt, AttemptStore, RunIdentity, RunSettings
from tests.hub.browsing import Page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"
PAGES = "/dashboard/evaluations"


def output(example: Any, rollout: int, reward: float | None, **more: Any) -> dict[str, Any]:
    row = {
        "example_id": example,
        "rollout_index": rollout,
        "prompt": [{"role": "user", "content": f"What is {example}?"}],
        "completion": [{"role": "assistant", "content": HOSTILE}, {"role": "assistant", "content": "again"}],
        "answer": "",
        "info": {},
        "reward": reward,
        "error": None if reward is not None else {"error": "SandboxLost", "message": "It was gone."},
        "timing": {"total": 2.0 + rollout},
        "is_truncated": False,
        "stop_condition": "done",
        "metrics": {"exact": reward or 0.0},
        "token_usage": {"input_tokens": 100, "output_tokens": 10 * (rollout + 1)},
        "turn_rewards": [0.25, 0.75],
    }
    return {**row, **more}


def record(directory: Path, model: str, rewards: list[list[float | None]], planned: int | None = None) -> Path:
    settings = RunSettings(planned or len(rewards), len(rewards[0]), 0.5)
    with AttemptStore(directory, RunIdentity("sums", model, "1.2.0", {"words": "few"}), settings) as store:
        for example, values in enumerate(rewards):
            store.append([Attempt(example, n, output(example, n, reward)) for n, reward in enumerate(values)])
    return directory


def official(directory: Path) -> Path:
    directory.mkdir(parents=True)
    rows = [output(n, 0, float(n % 2)) for n in range(4)]
    for row in rows:
        del row["rollout_index"]
    (directory / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"env_id": "sums", "model": "theirs", "num_examples": 4, "rollouts_per_example": 1}
    (directory / "metadata.json").write_text(json.dumps(told))
    return directory


class Viewing:
    """A program that serves, and a browser that has opened its address."""

    def __init__(self, *places: Path) -> None:
        command = [sys.executable, "-P", "-m", "prime_hub", "view", "--", *map(str, places)]
        self.program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.program.stdout is not None
        self.address = self.program.stdout.readline().strip()
        parts = urlsplit(self.address)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.client = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60, trust_env=False)

    def page(self, path: str, status: int = 200) -> Page:
        """A page, waited for while its numbers are being made."""
        for _ in range(600):
            answer = self.client.get(path)
            if "refresh" not in answer.headers:
                assert answer.status_code == status, answer.text
                return Page(answer)
        raise AssertionError("the numbers are never there")

    def end(self) -> int:
        self.client.close()
        self.program.send_signal(signal.SIGINT)
        _, said = self.program.communicate(timeout=60)
        assert "Traceback" not in said, said
        return self.program.returncode


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("runs")
    record(base / "evals" / "small", "small", [[1.0, 0.0], [0.25, None], [0.0, 1.0]])
    record(base / "evals" / "large", "large", [[1.0, 1.0], [0.5, 1.0], [0.0, 0.0]], planned=5)
    official(base / "theirs")
    (base / "broken").mkdir()
    (base / "broken" / "attempts.jsonl").write_text("this is no JSON\n{}\n")
    return base


@pytest.fixture(scope="module")
def viewing(runs: Path) -> Iterator[Viewing]:
    found = Viewing(runs)
    assert found.page(found.address.removeprefix(found.url)).status == 200
    yield found
    assert found.end() == 0


def link(page: Page, words: str) -> str:
    """The address of the run whose name has these words."""
    found = [one for one in page.links if one.startswith(f"{PAGES}/") and "compare" not in one]
    names = [line for line in page.answer.text.splitlines() if 'th scope="row"' in line]
    return next(one for one, line in zip(found, names, strict=True) if words in line)


def test_the_list(viewing: Viewing) -> None:
    page = viewing.page(PAGES)
    for words in ("4 evaluations", "small", "large", "theirs", "0.450", "Not finished", "Failed", "is not JSON"):
        assert words in page.text, words
    assert not any(one.startswith(("/dashboard/owners", "/dashboard/sign-in")) for one in page.links)
    only = viewing.page(f"{PAGES}?model=large")
    assert "1 evaluation," in only.text and "theirs" not in only.text


def test_a_run(viewing: Viewing) -> None:
    here = link(viewing.page(PAGES), "evals/small")
    page = viewing.page(here)
    for words in (
        "small on sums 1.2.0",
        "0.450",
        "of 6 rollouts of 3 examples",
        "SandboxLost",
        "It was gone.",
        "pass@k",
    ):
        assert words in page.text, words
    assert '"words": "few"' in page.text and "<img src=x" not in page.answer.text
    assert not page.forms or all(form.method == "get" for form in page.forms)

    def rollouts(query: str = "") -> list[str]:
        return [one for one in viewing.page(here + query).links if "/rollouts/" in one]

    assert len(rollouts()) == 6 and len(rollouts("?outcome=error")) == 1 == len(rollouts("?error=SandboxLost"))
    assert len(rollouts("?outcome=passed")) == 2 and len(rollouts("?outcome=failed")) == 3
    assert len(rollouts("?example=1")) == 2 and rollouts("?order=desc") == rollouts()[::-1]
    by_reward = rollouts("?sort=reward&order=desc")
    assert by_reward[-1] == rollouts("?outcome=unscored")[0] and set(by_reward[:2]) == set(rollouts("?outcome=passed"))
    assert "cannot be sorted by" in viewing.page(f"{here}?sort=colour", 422).text
    assert "no outcome" in viewing.page(f"{here}?outcome=bad", 422).text


def test_a_rollout(viewing: Viewing) -> None:
    here = link(viewing.page(PAGES), "evals/small")
    first, second = [one for one in viewing.page(here).links if "/rollouts/" in one][:2]
    page = viewing.page(first)
    assert HOSTILE in page.text and "<script>alert" not in page.answer.text
    assert "turn 1 reward 0.250" in page.text and "turn 2 reward 0.750" in page.text and second in page.links
    raw = viewing.client.get(f"{first}/raw")
    assert raw.headers["content-type"].startswith("text/plain") and raw.json()["example_id"] == 0
    assert "no rollout" in viewing.page(f"{here}/rollouts/WzksIDBd", 404).text
    assert viewing.page(f"{here}/rollouts/%20", 404) and viewing.page(f"{PAGES}/{'0' * 24}", 404)


def test_two_runs(viewing: Viewing) -> None:
    listed = viewing.page(PAGES)
    first, second = (link(listed, name).rpartition("/")[2] for name in ("evals/small", "evals/large"))
    page = viewing.page(f"{PAGES}/compare?first={first}&second={second}")
    assert "scored in both" in page.text and "Gained" in page.text and "Lost" in page.text
    assert "Compare two evaluations" in viewing.page(f"{PAGES}/compare").text


def test_a_folder_of_the_official_command(viewing: Viewing) -> None:
    page = viewing.page(link(viewing.page(PAGES), "/theirs"))
    assert "theirs on sums" in page.text and len([one for one in page.links if "/rollouts/" in one]) == 4


def test_what_is_recorded_meanwhile(tmp_path: Path) -> None:
    directory = record(tmp_path / "run", "m", [[1.0], [0.0]], planned=4)
    viewing = Viewing(directory)
    viewing.page(viewing.address.removeprefix(viewing.url))
    here = link(viewing.page(PAGES), "run")
    assert "of 2 rollouts" in viewing.page(here).text and "Not all rollouts" in viewing.page(here).text
    with AttemptStore(directory, RunIdentity("sums", "m", "1.2.0", {"words": "few"}), RunSettings(4, 1, 0.5)) as store:
        store.append([Attempt(2, 0, output(2, 0, 1.0))])
        assert "of 3 rollouts" in viewing.page(here).text
        store.append([Attempt(3, 0, output(3, 0, 1.0))])
    page = viewing.page(here)
    assert "of 4 rollouts" in page.text and "Not all rollouts" not in page.text and "0.750" in page.text
    assert viewing.end() == 0


def test_who_is_let_in(viewing: Viewing) -> None:
    with httpx.Client(base_url=viewing.url, trust_env=False) as stranger:
        for path in (PAGES, "/", "/?key=wrong", "/static/hub.css", f"{PAGES}/x/rollouts/y/raw"):
            assert stranger.get(path).status_code == 403, path
        assert not stranger.cookies
        secret = viewing.address.removeprefix(viewing.url)
        for host in ("evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1"):
            assert stranger.get(secret, headers={"Host": host}).status_code == 421, host
        opened = stranger.get(secret)
        assert opened.status_code == 303 and opened.headers["location"] == PAGES
        kept = opened.headers["set-cookie"].lower()
        assert "httponly" in kept and "samesite=strict" in kept
        shown = stranger.get(PAGES)
        assert (
            shown.headers["cache-control"] == "private, no-store"
            and "default-src 'none'" in shown.headers["content-security-policy"]
        )
    assert viewing.client.get("/dashboard/tokens").status_code == 404 == viewing.client.get("/api/v1/user").status_code
    assert viewing.client.post(f"{PAGES}/x/delete").status_code in (404, 405)


def test_a_port_that_is_taken(viewing: Viewing, tmp_path: Path) -> None:
    port = viewing.url.rpartition(":")[2]
    command = [sys.executable, "-P", "-m", "prime_hub", "view", "--port", port, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 1 and f"Port {port} cannot be used" in done.stderr
