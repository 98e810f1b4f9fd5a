"""`prime eval view` and `prime eval export`: the Hub's program, started for one person and ended with the command."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from prime_cli.main import main
from tests.cli.conftest import PRIME, Prime
from tests.hub.test_view import record

BROWSER = """#!/bin/sh
file="${1#file://}"
{ stat -c %a "$file"; cat "$file"; echo "$@"; } > "$SEEN.new" && mv "$SEEN.new" "$SEEN"
"""


@pytest.fixture
def run(prime: Prime) -> Path:
    return record(prime.cwd / "outputs" / "evals" / "sums--m" / "0a1b2c3d", "m", [[1.0, 0.0], [0.5, None]])


def start(prime: Prime, *args: str | Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PRIME, "eval", "view", *map(str, args)],
        cwd=prime.cwd,
        env=prime.environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_served_until_it_is_ended(prime: Prime, run: Path, number: signal.Signals) -> None:
    with start(prime, "--no-open") as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        with httpx.Client(follow_redirects=True, trust_env=False, timeout=60) as client:
            answer = client.get(address)
            assert answer.status_code == 200 and "0a1b2c3d" in answer.text
            serving.send_signal(number)
            _, said = serving.communicate(timeout=60)
            assert serving.returncode == 0 and "Traceback" not in said and "Ctrl-C ends it" in said
            with pytest.raises(httpx.ConnectError):
                client.get(address)


def test_the_browser_is_given_a_file_that_only_its_owner_reads(prime: Prime, run: Path, tmp_path: Path) -> None:
    program, seen = tmp_path / "browser", tmp_path / "seen"
    program.write_text(BROWSER)
    program.chmod(0o755)
    with start(prime, run, BROWSER=str(program), SEEN=str(seen)) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        for _ in range(3000):
            if seen.exists():
                break
            time.sleep(0.02)
        mode, page, arguments = seen.read_text().split("\n", 1)[0], seen.read_text(), seen.read_text().split()[-1]
        serving.terminate()
        serving.communicate(timeout=60)
    assert mode == "600" and f"url={address}" in page
    secret = urlsplit(address).query
    assert secret not in arguments and not Path(urlsplit(arguments).path).exists()


def test_without_the_hub_it_says_how_to_get_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for command in (["view", str(run), "--no-open"], ["export", str(run), "--html", "-"]):
        assert main(["eval", *command]) == 1
        assert "uv pip install 'prime[hub]'" in capsys.readouterr().err


def test_what_is_not_there(prime: Prime, run: Path) -> None:
    assert "none does not exist" in prime.fails("eval", "view", "none", "--no-open")
    assert "There is no evaluation run in" in prime.fails("eval", "export", prime.home, "--html", "-")


def test_one_file(prime: Prime, run: Path) -> None:
    prime.ok("eval", "export", "--html", "run.html")
    text = (prime.cwd / "run.html").read_text()
    assert text.startswith("<!doctype html>") and "0a1b2c3d" in text
    assert "--force writes over it" in prime.fails("eval", "export", run, "--html", "run.html")
    assert prime.ok("eval", "export", run, "--html", "-") == text
    prime.ok("eval", "export", run, "--html", "run.html", "--force", "--only", "error", "--max-mb", "1")
    assert "“with an error”" in (prime.cwd / "run.html").read_text()
