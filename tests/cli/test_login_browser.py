"""Login by a browser: the command, the page, and every way it can end; and the owner's way into the pages."""

from __future__ import annotations

import json
import os
import pty
import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import PRIME, Prime
from tests.conftest import RunningHub
from tests.hub.browsing import Browser, moment


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


@pytest.fixture
def person(open_hub: RunningHub) -> Browser:
    """Somebody who is signed in in a browser."""
    browser = Browser(open_hub)
    browser.slug = f"person-{secrets.token_hex(4)}"
    assert browser.sign_up(browser.slug).status == 200
    return browser


class Waiting:
    """A `prime login` that has printed its address and waits."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.lines: list[str] = []
        assert child.stderr is not None
        while not any("Waiting for authentication" in line for line in self.lines):
            line = child.stderr.readline()
            assert line, self.lines
            self.lines.append(line)

    @property
    def page(self) -> str:
        """The address to open, without the Hub."""
        parts = urlsplit(next(line.strip() for line in self.lines if "challenge?code=" in line))
        return f"{parts.path}?{parts.query}"

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout, the rest of stderr."""
        output, error = self.child.communicate(timeout=60)
        return self.child.returncode, output, error


@contextmanager
def waiting(user: Prime, *args: str, stdin: int = subprocess.DEVNULL, **env: str) -> Iterator[Waiting]:
    child = subprocess.Popen(
        [PRIME, "login", *args],
        env=user.environment(**env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Waiting(child)
    finally:
        child.kill()
        child.communicate()


def config_of(user: Prime) -> dict:
    path = user.home / ".prime" / "config.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_without_a_browser_of_its_own(prime: Prime, open_hub: RunningHub, person: Browser) -> None:
    with waiting(prime, "--base-url", open_hub.url, "--headless") as login:
        code = login.page.partition("code=")[2]
        assert f"Code: {code}\n" in login.lines
        page = person.get(login.page)
        assert code in page.text and "prime/" in page.text
        person.submit(page, "/dashboard/tokens/challenge", choice="approve")
        status, output, error = login.end()
    assert (status, output) == (0, f"✓ Logged in to {open_hub.url} as {person.slug}\n"), error
    key = config_of(prime)["api_key"]
    assert key not in output + error + "".join(login.lines) and config_of(prime)["base_url"] == open_hub.url
    assert json.loads(prime.ok("whoami", "-o", "json"))["slug"] == person.slug
    # The key ends where one says so.
    assert prime.ok("logout", "--revoke") == "✓ Logged out, and the API key is revoked.\n"
    assert open_hub.client(key).get("/user/whoami").status_code == 401 and "api_key" not in config_of(prime)


def test_with_a_browser(prime: Prime, open_hub: RunningHub, person: Browser, tmp_path: Path) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(
        f'#!/bin/sh\necho noise; echo noise >&2; env > {seen}.env; echo "$@" > {seen}.part; mv {seen}.part {seen}\n'
    )
    browser.chmod(0o755)
    main, other = pty.openpty()
    try:
        with waiting(
            prime, "--base-url", open_hub.url, stdin=other, BROWSER=str(browser), MY_API_KEY="s3cret"
        ) as login:
            assert "which opens now" in login.lines[0]
            limit = time.monotonic() + 30
            while not seen.exists():
                assert time.monotonic() < limit
                time.sleep(0.05)
            address = seen.read_text().split()[-1]
            assert address == f"{open_hub.url}{login.page}"
            assert "s3cret" not in Path(f"{seen}.env").read_text()
            person.submit(login.page, "/dashboard/tokens/challenge", choice="approve")
            status, output, error = login.end()
    finally:
        os.close(main)
        os.close(other)
    assert status == 0 and "noise" not in output + error
    assert output == f"✓ Logged in to {open_hub.url} as {person.slug}\n"


def test_denied_and_run_out_are_sentences(prime: Prime, open_hub: RunningHub, person: Browser) -> None:
    with waiting(prime, "--base-url", open_hub.url, "--headless") as login:
        person.submit(login.page, "/dashboard/tokens/challenge", choice="deny")
        status, output, error = login.end()
    assert (status, output) == (1, "")
    assert error == "Error: The login was denied in the browser.\nRun 'prime login' again.\n"
    with waiting(prime, "--base-url", open_hub.url, "--headless") as login:
        open_hub.sql(f"UPDATE challenges SET expires_at = {moment(-1)}")
        status, output, error = login.end()
    assert (status, output) == (1, "") and "Error: This login has run out" in error and config_of(prime) == {}


def test_ctrl_c_gives_up_in_good_order(prime: Prime, open_hub: RunningHub, person: Browser) -> None:
    with waiting(prime, "--base-url", open_hub.url, "--headless") as login:
        login.child.send_signal(signal.SIGINT)
        status, output, error = login.end()
    assert (status, output, error) == (130, "", "\nThe login was given up; nothing has changed.\n")
    assert config_of(prime) == {}
    # Whoever approves it now gives nobody a key.
    person.submit(login.page, "/dashboard/tokens/challenge", choice="approve")
    assert "There is no API key." in person.get("/dashboard/tokens").text


def test_a_hub_that_restarts_meanwhile_is_waited_for(prime: Prime, start_hub) -> None:
    hub = start_hub("--sign-up", "open")
    person = Browser(hub)
    person.sign_up("patient")
    with waiting(prime, "--base-url", hub.url, "--headless") as login:
        hub.kill()
        hub.start()
        person.submit(login.page, "/dashboard/tokens/challenge", choice="approve")
        status, output, error = login.end()
    assert (status, output) == (0, f"✓ Logged in to {hub.url} as patient\n"), error


def test_limits_go_with_it(prime: Prime, open_hub: RunningHub, person: Browser) -> None:
    with waiting(prime, "--base-url", open_hub.url, "--headless", "--max-concurrent-sandboxes", "2") as login:
        page = person.get(login.page)
        assert "at most 2 sandboxes at once" in page.text
        person.submit(page, "/dashboard/tokens/challenge", choice="approve")
        assert login.end()[0] == 0
    assert "max_concurrent_sandboxes=2" in prime.ok("whoami")


def test_the_owner_opens_the_hub_signed_in(prime: Prime, module_hub: RunningHub, tmp_path: Path) -> None:
    owner = prime.user("owner", PRIME_HUB_DATA_DIR=str(module_hub.data_dir))
    done = owner("hub", "open", "/dashboard/tokens", "--print")
    assert done.returncode == 0 and "once" in done.stderr
    parts = urlsplit(done.stdout.strip())
    browser = Browser(module_hub)
    page = browser.get(f"{parts.path}?{parts.query}")
    assert page.answer.url.path == "/dashboard/tokens" and browser.signed_in
    again = Browser(module_hub)
    assert again.get(f"{parts.path}?{parts.query}").status == 403 and not again.signed_in
    # A real browser gets a file: its arguments are for everybody's eyes.
    program, seen = tmp_path / "browser", tmp_path / "seen"
    program.write_text(f'#!/bin/sh\necho "$@" > {seen}.part; mv {seen}.part {seen}\n')
    program.chmod(0o755)
    done = owner("hub", "open", BROWSER=str(program))
    assert done.returncode == 0 and "code=" not in done.stdout + done.stderr
    limit = time.monotonic() + 30
    while not seen.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    address = seen.read_text().split()[-1]
    file = Path(urlsplit(address).path)
    assert address.startswith("file://") and stat.S_IMODE(file.stat().st_mode) == 0o600
    link = file.read_text().partition('href="')[2].partition('"')[0].replace("&amp;", "&")
    parts = urlsplit(link)
    other = Browser(module_hub)
    assert other.get(f"{parts.path}?{parts.query}").status == 200 and other.signed_in


def test_the_operator_gives_a_password(prime: Prime, module_hub: RunningHub) -> None:
    name = f"pw-{secrets.token_hex(4)}"
    prime.env = module_hub.variables
    added = prime.ok(
        "hub", "user", "add", name, "--password-stdin", "--data-dir", module_hub.data_dir, stdin="words of mine\n"
    )
    assert added.startswith("prime_") and added.count("\n") == 1
    assert Browser(module_hub).sign_in(name, "words of mine").status == 200
    prime.ok(
        "hub", "user", "password", name, "--password-stdin", "--data-dir", module_hub.data_dir, stdin="other words\n"
    )
    assert Browser(module_hub).sign_in(name, "other words").status == 200
    error = prime.fails("hub", "user", "password", name, "--data-dir", module_hub.data_dir)
    assert "--password-stdin" in error
