"""Every page by axe, at phone and desktop width, dark and light: nothing serious, and nothing that is wider than the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.content import SIGNED_OUT, Content, fill
from tests.browser.people import DESKTOP, PHONE, Person
from tests.conftest import RunningHub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.timeout(600)
WAYS = [("phone", PHONE, True), ("phone", PHONE, False), ("desktop", DESKTOP, True), ("desktop", DESKTOP, False)]
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def content(open_hub: RunningHub) -> Content:
    return fill(open_hub)


@pytest.mark.parametrize(("name", "size", "dark"), WAYS, ids=lambda value: str(value))
def test_every_page(
    chromium: Browser, open_hub: RunningHub, content: Content, name: str, size: Any, dark: bool
) -> None:
    person = Person(chromium, open_hub.url, size=size, dark=dark)
    problems = [*_problems(person, SIGNED_OUT)]
    person.sign_in(content.key)
    problems += _problems(person, content.pages())
    person.close()
    assert not problems, "\n".join(problems)


def _problems(person: Person, pages: dict[str, str]) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for name, address in pages.items():
        status = person.open(address)
        assert status == (404 if name == "missing" else 200), f"{address}: {status}"
        wide = person.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"{name}: {wide} pixels wider than the window")
        for one in Axe().run(person.page).response["violations"]:
            if one["impact"] in SERIOUS:
                found += [f"{name}: {one['id']}: {node['html'][:150]}" for node in one["nodes"]]
    return found
