"""Pictures of the main pages for the docs: phone and desktop, dark and light. `script/screenshots` runs it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.browser.content import Content, fill
from tests.browser.people import DESKTOP, PHONE, Person
from tests.conftest import ROOT, RunningHub

FOLDER = ROOT / "docs" / "screenshots"
SHOWN = (
    *("home", "environment", "file", "changes", "usage", "settings", "tokens", "start", "images", "build", "sandbox"),
    *("environment-evaluations", "evaluation", "rollout", "comparison"),
)


def main() -> int:
    """Take them all anew; the arguments are names of pages, all of `SHOWN` without."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        print("script/screenshots: there is no Chromium on this machine", file=sys.stderr)
        return 1
    names = sys.argv[1:] or list(SHOWN)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        hub = RunningHub(Path(folder) / "hub", ("--sign-up", "open"))
        try:
            content = fill(hub)
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
                for device, size in (("phone", PHONE), ("desktop", DESKTOP)):
                    for dark in (False, True):
                        person = Person(browser, hub.url, size=size, dark=dark)
                        _take(person, content, names, f"{device}-{'dark' if dark else 'light'}")
                        person.close()
                browser.close()
        finally:
            hub.close()
    return 0


def _take(person: Person, content: Content, names: list[str], way: str) -> None:
    person.sign_in(content.key)
    for name in names:
        person.open(content.pages()[name])
        file = FOLDER / f"{name}-{way}.png"
        # A long page is cut: what is below is text like what is above.
        person.page.screenshot(path=file, clip={"x": 0, "y": 0, **_size(person)})
        print(file.relative_to(ROOT), flush=True)


def _size(person: Person) -> dict[str, float]:
    size = person.page.viewport_size
    assert size is not None
    return {"width": size["width"], "height": size["height"]}


if __name__ == "__main__":
    sys.exit(main())
