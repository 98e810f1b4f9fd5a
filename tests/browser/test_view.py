"""Runs in folders in a real browser: the address lets in once, the pages are for everybody, nobody else is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.test_export import record
from tests.hub.test_view import Viewing

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_pages(chromium: Browser, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    record(tmp_path / "one")
    record(tmp_path / "two")
    viewing = Viewing(tmp_path)
    context = chromium.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(viewing.address)
    page.wait_for_url("**/dashboard/evaluations")
    assert "key=" not in page.url

    def fine() -> None:
        problems = Axe().run(page).response["violations"]
        assert not problems, (page.url, [(one["id"], one["nodes"][0]["html"][:300]) for one in problems])
        assert page.evaluate("window.hurt") is None

    page.get_by_text("2 evaluations").wait_for()
    page.locator("tbody").get_by_text("…").first.wait_for(state="hidden")
    fine()
    page.locator("tbody th a").first.click()
    page.get_by_role("heading", name="Results").wait_for()
    fine()
    page.locator("table.rollouts tbody th a").first.click()
    page.get_by_text("reward 0.250").wait_for()
    fine()
    page.goto(f"{viewing.url}/dashboard/evaluations/compare")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Difference").wait_for()
    fine()
    assert all(url.startswith((viewing.url, "data:")) for url in asked)
    context.close()
    assert viewing.end() == 0
