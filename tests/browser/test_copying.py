"""The button beside every command: by mouse and by keyboard, with and without a clipboard, and what a screen reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.people import Person
from tests.conftest import RunningHub
from tests.hub.pushing import push

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page_of(open_hub: RunningHub) -> str:
    """An environment with a page."""
    api = open_hub.client(open_hub.add_user("copied"))
    push(api, "copied-env", files={"README.md": b"# Words"})
    return "/dashboard/environments/copied/copied-env"


def test_a_command_is_copied_by_mouse_and_by_keyboard(chromium: Browser, open_hub: RunningHub, page_of: str) -> None:
    person = Person(chromium, open_hub.url)
    person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.open(page_of)
    install = person.page.get_by_role("button", name="Copy: prime env install copied/copied-env")
    install.click()
    assert person.page.evaluate("navigator.clipboard.readText()") == "prime env install copied/copied-env"
    person.page.get_by_role("status").filter(has_text="Copied").wait_for(state="attached")
    assert install.inner_text() == "Copied"
    run = person.page.get_by_role("button", name="Copy: prime eval run copied-env -m baseline/random -n 5")
    for _ in range(40):
        person.page.keyboard.press("Tab")
        if run.evaluate("button => button === document.activeElement"):
            break
    person.page.keyboard.press("Enter")
    person.page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('prime eval run'))")
    person.page.get_by_text("In a uv project").click()
    person.page.get_by_role("button", name="Copy: [project]").click()
    person.page.wait_for_function("navigator.clipboard.readText().then(text => text.includes('[tool.uv.sources]'))")
    person.close()


def test_it_copies_where_browsers_give_pages_no_clipboard(
    chromium: Browser, open_hub: RunningHub, page_of: str
) -> None:
    person = Person(chromium, open_hub.url)
    person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # As on a Hub that is reached by http from another machine.
    person.page.add_init_script("window.kept = navigator.clipboard; delete Navigator.prototype.clipboard")
    person.open(page_of)
    person.page.get_by_role("button", name="Copy: prime env install").click()
    assert person.page.evaluate("kept.readText()") == "prime env install copied/copied-env"
    person.close()


def test_a_new_key_is_copied_and_the_page_needs_no_script(chromium: Browser, open_hub: RunningHub) -> None:
    person = Person(chromium, open_hub.url)
    person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.sign_up("key-copier")
    person.open("/dashboard/tokens")
    person.page.get_by_label("What it is for").fill("ci")
    person.page.get_by_label("do all that you may").check()
    person.page.get_by_role("button", name="Make the key").click()
    key = person.page.locator("pre.command code", has_text="prime_").inner_text()
    person.page.get_by_role("button", name=f"Copy: {key[:20]}").click()
    assert person.page.evaluate("navigator.clipboard.readText()") == key
    person.page.reload()
    assert key not in person.page.content() and person.page.locator(".rows li").count() == 1
    # Ending it takes two steps, by keyboard as well.
    person.page.get_by_text("Revoke", exact=False).first.focus()
    person.page.keyboard.press("Enter")
    person.page.get_by_role("button", name="Revoke the key").press("Enter")
    person.page.get_by_text("The API key is revoked.").wait_for()
    person.close()
    context = chromium.new_context(java_script_enabled=False, base_url=open_hub.url)
    plain = context.new_page()
    plain.goto("/")
    assert plain.get_by_role("searchbox").count() == 1 and plain.get_by_role("button", name="Copy").count() == 0
    context.close()
