"""The machine's own Hub: started once, found, stopped with everything it owns; and which Hub a command connects to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prime_core import local_hub
from prime_core.api import APIClient
from prime_core.config import VENDOR_BASE_URL, ConfigFile
from prime_core.connection import connect, is_own_hub
from prime_core.errors import LocalHubError, NotAuthenticated

# In two processes at once; says whether it was the one that started the Hub.
START = """
import sys
from pathlib import Path
from prime_core.local_hub import ensure_running
said = []
found = ensure_running(Path(sys.argv[1]), announce=said.append)
print(found.pid, found.url, len(said))
"""


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data folder of the machine's own Hub, which is stopped after the test."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("PRIME_HUB_DATA_DIR", str(folder))
    yield folder
    local_hub.stop(folder)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def wait_for_runner(data_dir: Path) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = local_hub.running(data_dir)
        if found and found.runner_pid:
            return found.runner_pid
        time.sleep(0.05)
    raise AssertionError(local_hub.log_tail(data_dir))


def test_started_once_found_and_stopped_with_its_runner(data_dir: Path):
    said: list[str] = []
    assert local_hub.running() is None
    # One that no other Hub of this machine would take meanwhile.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = local_hub.ensure_running(announce=said.append, port=port)
    assert said == [f"Started your own Hub at {found.url} (data in {data_dir}; 'prime hub stop' ends it)."]
    assert local_hub.ensure_running(announce=said.append).pid == found.pid
    assert len(said) == 1
    token = local_hub.owner_token()
    assert token
    with APIClient(found.url, token) as client:
        assert client.get("/user/whoami")["data"]["slug"]
    runner = wait_for_runner(data_dir)
    assert local_hub.stop() is True
    assert not alive(found.pid)
    assert not alive(runner)
    assert local_hub.running() is None
    assert local_hub.read_address()["pid"] is None
    assert local_hub.stop() is False
    assert local_hub.ensure_running().url == found.url == f"http://127.0.0.1:{port}"


def test_two_commands_at_once_start_one_hub(data_dir: Path):
    command = [sys.executable, "-c", START, str(data_dir)]
    commands = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [child.communicate(timeout=90)[0].split() for child in commands]
    assert answers[0][:2] == answers[1][:2]
    assert sorted(answer[2] for answer in answers) == ["0", "1"]


def test_it_outlives_the_command_and_carries_no_keys(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    monkeypatch.setenv("PRIME_API_KEY", "very-secret")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START, str(data_dir)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    pid = int(done.stdout.split()[0])
    assert alive(pid)
    assert os.getsid(pid) == pid
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"very-secret" not in environment


def test_a_folder_of_the_working_directory_is_not_taken_for_the_program(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "prime_hub").mkdir()
    (tmp_path / "prime_hub" / "__init__.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(tmp_path)
    assert local_hub.ensure_running().pid


def test_a_start_that_fails_shows_the_end_of_the_log(data_dir: Path):
    ended = r"Your own Hub ended at its start \(exit code 1\)"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LocalHubError, match=ended) as caught:
        local_hub.ensure_running(port=taken.getsockname()[1])
    assert str(data_dir / "hub.log") in str(caught.value)
    assert local_hub.log_tail(data_dir).splitlines()[-1] in str(caught.value)
    assert "prime hub serve" in (caught.value.hint or "")
    assert local_hub.running() is None


def test_a_start_that_fails_shows_nothing_of_earlier_runs(data_dir: Path):
    data_dir.mkdir(parents=True)
    (data_dir / "hub.log").write_text("GET /api/v1/health 200 1 ms\n" * 5)
    (data_dir / "hub.sqlite3").mkdir()  # no database can be opened here
    with pytest.raises(LocalHubError) as failed:
        local_hub.ensure_running(data_dir)
    assert "ended at its start" in str(failed.value) and "/api/v1/health" not in str(failed.value)


def test_a_hub_that_does_not_listen_to_the_signal_is_ended_all_the_same(data_dir: Path):
    found = local_hub.ensure_running()
    os.kill(found.pid, signal.SIGSTOP)
    assert local_hub.stop(timeout=0.3) is True
    assert not alive(found.pid)


def test_a_hub_that_takes_too_long_is_ended(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    def children() -> set[int]:
        files = Path("/proc/self/task").glob("*/children")
        return {int(pid) for file in files for pid in file.read_text().split() if alive(int(pid))}

    before = children()
    monkeypatch.setattr(local_hub, "START_SECONDS", 0.01)
    with pytest.raises(LocalHubError, match=r"Your own Hub did not answer within 0\.01 seconds of its start\."):
        local_hub.ensure_running()
    assert local_hub.stop() is False
    assert children() <= before


def test_a_data_folder_that_cannot_be_made(data_dir: Path):
    data_dir.write_text("a file")
    with pytest.raises(LocalHubError, match=rf"The Hub's data folder {data_dir} cannot be used"):
        local_hub.ensure_running()
    data_dir.unlink()


def test_a_process_number_that_now_belongs_to_another_program_is_left_alone(data_dir: Path):
    data_dir.mkdir()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        address = {"url": "http://127.0.0.1:1", "pid": other.pid, "runner_pid": other.pid}
        (data_dir / "hub.json").write_text(json.dumps(address))
        assert local_hub.running() is None
        assert local_hub.stop() is False
        assert other.poll() is None
        assert local_hub.read_address()["pid"] is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"url": 1, "pid": "x"}'])
def test_an_address_file_that_says_nothing(data_dir: Path, text: str):
    data_dir.mkdir()
    (data_dir / "hub.json").write_text(text)
    assert local_hub.running() is None
    assert local_hub.stop() is False


def test_nothing_configured_and_no_key_starts_nothing(data_dir: Path):
    with pytest.raises(NotAuthenticated, match=r"Not authenticated\. Run 'prime login' first\."):
        connect()
    assert not data_dir.exists()


def test_nothing_configured_means_the_own_hub(data_dir: Path, home: Path):
    with pytest.raises(LocalHubError, match=r"Your own Hub is not running\.") as caught:
        connect(require_auth=False, start=False)
    assert caught.value.hint == "Start it with 'prime hub start'."
    # The official command's own file names the vendor; its key stays there.
    (home / ".prime").mkdir()
    (home / ".prime" / "config.json").write_text(json.dumps({"base_url": VENDOR_BASE_URL, "api_key": "vendor"}))
    connection = connect(require_auth=False)
    assert connection.base_url == local_hub.read_address()["url"]
    assert (connection.api_key, connection.frontend_url) == (None, connection.base_url)


def test_a_login_to_the_own_hub_starts_it_again_and_follows_its_port(data_dir: Path):
    found = local_hub.ensure_running()
    token = local_hub.owner_token()
    assert token
    ConfigFile({}).login(found.url, token, {})
    assert is_own_hub(found.url)
    local_hub.stop()
    said: list[str] = []
    port = int(found.url.rpartition(":")[2])
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # then another program has it already, which is as good
            held.enter_context(socket.create_server(("127.0.0.1", port)))
        connection = connect(announce=said.append)
    assert said
    assert connection.base_url != found.url
    assert connection.api_key == token
    assert ConfigFile({}).read()["base_url"] == connection.base_url
    assert connect().frontend_url == connection.base_url


def test_another_hub_is_never_started(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRIME_API_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PRIME_API_KEY", "very-secret")
    connection = connect()
    assert (connection.base_url, connection.api_key) == ("http://127.0.0.1:1", "very-secret")
    assert "very-secret" not in repr(connection)
    assert not data_dir.exists()


def test_without_the_hub_installed_the_sentence_says_how_to_get_one(data_dir: Path):
    program = (
        "import sys\nsys.modules['prime_hub'] = None\nfrom prime_core.errors import LocalHubError\n"
        "from prime_core.local_hub import ensure_running\n"
        "try:\n    ensure_running()\nexcept LocalHubError as error:\n    print(error, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "No Hub is configured, and this installation has none of its own to start." in done.stdout, done.stderr
    assert "prime[hub]" in done.stdout
