"""Which account on which Hub: login, logout, whoami, and keys that stay with their Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import PRIME


def config_of(prime) -> dict:
    return json.loads((prime.home / ".prime" / "config.json").read_text())


@pytest.fixture
def owner(prime, module_hub):
    """The owner of a machine whose own Hub runs."""
    return prime.user("owner", PRIME_HUB_DATA_DIR=str(module_hub.data_dir))


@pytest.fixture
def alice(prime, module_hub, request):
    """A user of that Hub from elsewhere, and her key."""
    token = module_hub.add_user(f"alice-{abs(hash(request.node.name)) % 10**8}")
    user = prime.user("alice")
    user.token = token
    return user


@pytest.fixture
def recorder() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that is no Hub of ours; it keeps the headers of what it is sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers.items()))
            body = b'{"data": [], "total_count": 0}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_without_a_login_the_sentence_is_the_seeds(prime):
    done = prime("whoami")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: Not authenticated. Run 'prime login' first.\n"


def test_the_machines_own_hub_asks_for_nothing(owner, module_hub):
    done = owner("login")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"✓ Logged in to {module_hub.url} as {module_hub.owner}\n"
    assert module_hub.token not in done.stdout + done.stderr
    path = owner.home / ".prime" / "config.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert config_of(owner)["api_key"] == module_hub.token
    account = json.loads(owner.ok("whoami", "--output", "json"))
    assert account["slug"] == module_hub.owner
    assert account["base_url"] == module_hub.url
    shown = owner.ok("whoami")
    assert module_hub.owner in shown and module_hub.url in shown


def test_the_own_hub_is_started_by_the_login_and_said(own_hub):
    done = own_hub("login")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Started your own Hub at http://127.0.0.1:")
    assert done.stderr.count("\n") == 1
    assert own_hub("login").stderr == ""


def test_another_hub_takes_a_key_from_standard_input(alice, module_hub):
    done = alice("login", "--base-url", f"{module_hub.url}/api/v1/", "--token-stdin", stdin=alice.token + "\n")
    assert done.returncode == 0, done.stderr
    assert alice.token not in done.stdout + done.stderr
    assert config_of(alice)["base_url"] == module_hub.url
    assert "alice-" in alice.ok("whoami")


def test_another_hub_takes_a_key_from_the_environment(alice, module_hub):
    alice.ok("login", "--base-url", module_hub.url, PRIME_API_KEY=alice.token)
    assert config_of(alice)["api_key"] == alice.token


def test_without_a_key_and_a_terminal_the_way_is_said(prime, module_hub):
    error = prime.fails("login", "--base-url", module_hub.url)
    assert "An API key is needed to log in to" in error
    assert "--token-stdin" in error and "--headless" in error


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(alice, module_hub):
    program = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    child = subprocess.Popen(
        [sys.executable, "-c", program, PRIME, "login", "--base-url", module_hub.url, "--token-stdin"],
        env=alice.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        shown = b""
        while b"API key for" not in shown or not shown.endswith(b": "):
            piece = os.read(child.stdout.fileno(), 4096)
            assert piece, shown
            shown += piece
        child.stdin.write(alice.token.encode() + b"\n")
        child.stdin.flush()
        shown += child.stdout.read()
        child.stdin.close()
    assert child.returncode == 0, shown
    assert alice.token.encode() not in shown
    assert b"Logged in to" in shown
    assert config_of(alice)["api_key"] == alice.token


def test_a_wrong_key_is_not_saved(prime, module_hub):
    error = prime.fails("login", "--base-url", module_hub.url, "--token-stdin", stdin="prime_wrong_key_0123456789")
    assert error.startswith("Error: ")
    assert error.count("prime login") == 1, "told once"
    assert "prime_wrong" not in error
    assert not (prime.home / ".prime" / "config.json").exists()


def test_a_server_that_is_no_hub_is_not_logged_in_to(prime, recorder):
    error = prime.fails("login", "--base-url", recorder[0], "--token-stdin", stdin="prime_some_key_0123456789")
    assert "may not be a Hub" in error
    assert not (prime.home / ".prime" / "config.json").exists()


def test_a_hub_that_is_not_there_is_a_sentence(prime):
    error = prime.fails("login", "--base-url", "http://127.0.0.1:9", "--token-stdin", stdin="prime_some_key_0123456789")
    assert "Cannot reach http://127.0.0.1:9" in error
    error = prime.fails("login", "--base-url", "hub.example.org")
    assert "is not an http(s) URL" in error


def test_an_earlier_login_is_kept_as_a_context(owner, alice, module_hub, start_hub):
    other = start_hub()
    owner.ok("login")
    done = owner("login", "--base-url", other.url, "--token-stdin", stdin=other.token)
    assert done.returncode == 0, done.stderr
    name = done.stderr.partition("kept as context '")[2].partition("'")[0]
    assert name
    assert json.loads(owner.ok("whoami", "-o", "json"))["base_url"] == other.url
    assert json.loads(owner.ok("-c", name, "whoami", "-o", "json"))["base_url"] == module_hub.url
    assert json.loads(owner.ok("whoami", "-o", "json", PRIME_CONTEXT=name))["base_url"] == module_hub.url
    # Back to the machine's own Hub; the second login is kept in its turn.
    assert "kept as context" in owner("login", "--local").stderr
    assert json.loads(owner.ok("whoami", "-o", "json"))["base_url"] == module_hub.url


def test_a_key_is_never_sent_to_another_hub(owner, recorder):
    url, seen = recorder
    owner.ok("login")
    owner.ok("env", "list", PRIME_API_BASE_URL=url)
    owner.ok("config", "set-base-url", url)
    owner.ok("env", "list")
    assert len(seen) == 2
    assert not [headers for headers in seen if "authorization" in {name.lower() for name in headers}]
    assert owner.fails("whoami").startswith("Error: Not authenticated.")


def test_a_login_of_the_official_command_is_not_sent_to_the_own_hub(owner):
    path = owner.home / ".prime" / "config.json"
    path.parent.mkdir()
    theirs = {"api_key": "pit_theirs_0123456789", "base_url": "https://api.primeintellect.ai", "ssh_key_path": "k"}
    path.write_text(json.dumps(theirs))
    assert owner.fails("whoami").startswith("Error: Not authenticated.")
    done = owner("login")
    assert done.returncode == 0, done.stderr
    name = done.stderr.partition("kept as context '")[2].partition("'")[0]
    kept = json.loads((owner.home / ".prime" / "environments" / f"{name}.json").read_text())
    assert kept["api_key"] == "pit_theirs_0123456789"
    assert config_of(owner)["ssh_key_path"] == "k"


def test_logout_forgets_the_key(owner):
    owner.ok("login")
    assert owner.ok("logout") == "✓ Logged out.\n"
    assert "api_key" not in config_of(owner)
    assert owner.fails("whoami").startswith("Error: Not authenticated.")
    assert owner("logout").stderr == "There was no login.\n"


def test_a_context_for_one_command_is_read_only(owner):
    owner.ok("login")
    owner.ok("config", "save", "mine")
    for args in [("login",), ("logout",), ("config", "set-base-url", "http://127.0.0.1:9"), ("config", "use", "mine")]:
        assert "Error: Temporary context 'mine' is read-only." in owner.fails("-c", "mine", *args)


def test_an_unknown_context_lists_those_there_are(owner):
    owner.ok("login")
    owner.ok("config", "save", "mine")
    error = owner.fails("-c", "nope", "whoami")
    assert error.startswith("Error: Unknown context 'nope'")
    assert "mine" in error


def test_a_variable_that_wins_over_the_saved_login_is_said(owner):
    done = owner("login", PRIME_API_KEY="prime_other_key_0123456789")
    assert done.returncode == 0
    assert "Warning: PRIME_API_KEY is set to another key" in done.stderr
