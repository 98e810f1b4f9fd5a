"""People of a Hub, each with a client of the API and a browser that is signed in."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from tests.conftest import RunningHub
from tests.hub.browsing import Browser


@dataclass
class Person:
    """Somebody whose account was made on the Hub's machine, so that they may build and run images there."""

    slug: str
    api: httpx.Client
    browser: Browser


def person(hub: RunningHub, slug: str) -> Person:
    """A new account, and a browser that has followed its sign-in link."""
    return _signed_in(hub, slug, hub.client(hub.add_user(slug)))


def owner_of(hub: RunningHub) -> Person:
    """The machine's own owner."""
    return _signed_in(hub, hub.owner, hub.api)


def _signed_in(hub: RunningHub, slug: str, api: httpx.Client) -> Person:
    link = api.post("/user/sign-in-link").json()["data"]
    browser = Browser(hub)
    assert browser.get(f"{link['path']}?code={link['code']}").status == 200 and browser.signed_in
    return Person(slug, api, browser)
