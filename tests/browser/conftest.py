"""A real browser: the system's Chromium, driven by Playwright. These tests run where they are asked for by name.

`pip install -r tests/browser/requirements.txt` into `.venv`, and Chromium from the system's packages, are what they need.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.people import Person
from tests.conftest import RunningHub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Nothing of this folder unless it was asked for by name."""
    invoked = config.invocation_params.dir
    asked = [(invoked / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) else True


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; every person has a profile of their own in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A Hub on which everybody may sign up."""
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


@pytest.fixture
def nobody(chromium: Browser, open_hub: RunningHub) -> Iterator[Person]:
    """A browser in which nobody is signed in."""
    person = Person(chromium, open_hub.url)
    yield person
    person.close()
