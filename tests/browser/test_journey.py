"""What people do with the pages, from the first visit on, in a real browser beside a real terminal."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.people import Person
from tests.cli.conftest import Prime
from tests.cli.test_login_browser import waiting
from tests.conftest import RunningHub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.timeout(300)
README = "# Quokka race\n\nThe model races **quokkas** by their zymurgy.\n"


@pytest.fixture
def other(chromium: Browser, open_hub: RunningHub) -> Iterator[Person]:
    """Somebody else, with a browser of their own."""
    person = Person(chromium, open_hub.url)
    yield person
    person.close()


def test_from_sign_up_to_a_revoked_key(nobody: Person, other: Person, open_hub: RunningHub, tmp_path: Path) -> None:
    author, page = nobody, nobody.page
    name = f"ada-{secrets.token_hex(3)}"
    author.sign_up(name)

    # The terminal asks, the browser approves.
    (tmp_path / "home").mkdir()
    shell = Prime(
        tmp_path / "home", tmp_path, env={"PRIME_API_BASE_URL": open_hub.url, "PRIME_FRONTEND_URL": open_hub.url}
    )
    with waiting(shell, "--headless") as login:
        author.open(login.page)
        page.get_by_role("heading", name="A program asks to log in").wait_for()
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("heading", name="Approved").wait_for()
        code, _, error = login.end()
        assert code == 0, error
    assert name in shell.ok("whoami")

    # Published, found by a word of its README, and read.
    shell.ok("env", "init", "quokka-race")
    project = tmp_path / "environments" / "quokka_race"
    (project / "README.md").write_text(README)
    shell.ok("env", "push", "quokka-race")
    assert other.found("zymurgy") == [f"{name}/quokka-race"]
    other.page.get_by_role("link", name=re.compile("quokka-race")).first.click()
    other.page.get_by_role("heading", name="Quokka race").wait_for()
    other.page.get_by_text(f"prime env install {name}/quokka-race").first.wait_for()

    # Made private: for a stranger it is gone, everywhere.
    address = f"/dashboard/environments/{name}/quokka-race"
    author.open(address)
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Private: for everybody else it does not exist.").check()
    page.get_by_role("button", name="Save").first.click()
    page.get_by_text("Who sees it is changed.").wait_for()
    assert other.found("zymurgy") == [] and other.open(address) == 404
    assert author.found("zymurgy") == [f"{name}/quokka-race"]

    # In a team with the stranger it is there again.
    friend, team = f"bob-{secrets.token_hex(3)}", f"team-{secrets.token_hex(3)}"
    other.sign_up(friend)
    assert other.found("zymurgy") == []
    author.open("/dashboard/teams")
    page.get_by_label("Team name in addresses").fill(team)
    page.get_by_role("button", name="Make the team").click()
    page.get_by_role("heading", name="Add somebody").wait_for()
    page.get_by_label("Account name").fill(friend)
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("listitem").filter(has_text=friend).first.wait_for()
    author.open(f"{address}/settings")
    page.get_by_label("Give it to").select_option(team)
    page.get_by_label(f"Type {name}/quokka-race to confirm").fill(f"{name}/quokka-race")
    page.get_by_role("button", name="Transfer").click()
    page.get_by_text(f"{team}/quokka-race").first.wait_for()
    assert other.found("zymurgy") == [f"{team}/quokka-race"]
    assert other.open(f"/dashboard/environments/{team}/quokka-race") == 200

    # The terminal's key is revoked: it is told so.
    author.open("/dashboard/tokens")
    page.locator("summary", has_text="Revoke").first.click()
    page.get_by_role("button", name="Revoke the key").first.click()
    page.get_by_text("The API key is revoked.").wait_for()
    assert "prime login" in shell.fails("whoami")


def test_by_keyboard_alone(nobody: Person) -> None:
    page = nobody.page
    nobody.open("/")
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to content" and skip.is_visible()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.type("nothing of this kind")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing here matches.").wait_for()
    # Whatever has the focus can be seen to have it.
    for _ in range(6):
        page.keyboard.press("Tab")
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", page.locator(":focus").inner_text()
