"""Somebody with a browser window. What goes wrong in a page (an error in its console, a request that is refused by the
page's policy or goes to another site) fails the test at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

PHONE = {"width": 375, "height": 812}
DESKTOP = {"width": 1280, "height": 900}
PASSWORD = "several words that nobody guesses"


class Person:
    """A profile of its own and one window, `page`."""

    def __init__(self, browser: Browser, url: str, *, size: dict[str, int] = DESKTOP, dark: bool = False) -> None:
        self.url = url
        self.slug = ""
        self.troubles: list[str] = []
        sized: Any = size
        self._context = browser.new_context(
            base_url=url, viewport=sized, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._heard)
        self.page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        # That a page answers 404 is in the console, too.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.troubles.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.troubles.append(f"a request to {urlsplit(request.url).netloc}")

    def open(self, path: str) -> int:
        """Go there; the status of the answer."""
        answer = self.page.goto(path)
        assert answer is not None
        return answer.status

    def sign_up(self, slug: str) -> None:
        """Make an account by the page for it."""
        self.open("/dashboard/sign-up")
        self.page.get_by_label("Account name").fill(slug)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Make the account").click()
        self.page.get_by_role("link", name=slug, exact=True).wait_for()
        self.slug = slug

    def sign_in(self, key: str) -> None:
        """By a link, as `prime hub open` does for an account of the Hub's own machine."""
        link = httpx.post(f"{self.url}/api/v1/user/sign-in-link", headers={"Authorization": f"Bearer {key}"})
        self.open(link.raise_for_status().json()["data"]["url"].removeprefix(self.url))
        self.page.get_by_role("button", name="Sign out").wait_for()

    def found(self, words: str) -> list[str]:
        """What the search of the page's head finds."""
        self.open("/")
        box = self.page.get_by_role("searchbox", name="Search environments")
        box.fill(words)
        box.press("Enter")
        self.page.get_by_role("heading", name="Results for").wait_for()
        return [heading.inner_text() for heading in self.page.locator(".card h2").all()]

    def close(self) -> None:
        """Close the window. Raises AssertionError for what went wrong in it."""
        self._context.close()
        assert self.troubles == []
