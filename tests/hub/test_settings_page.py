"""An environment's Settings page, as a browser uses it: visibility, versions, owner, the end; and stars."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import RunningHub
from tests.hub.browsing import Browser, Page
from tests.hub.pushing import push

PAGE = "/dashboard/environments/{owner}/{name}"


class Person:
    """Somebody with a browser and a client."""

    def __init__(self, hub: RunningHub, slug: str) -> None:
        self.slug, self.browser = slug, Browser(hub)
        self.browser.sign_up(slug)
        made = self.browser.submit("/dashboard/tokens", "/dashboard/tokens", name="test", access="all")
        token = next(
            word for word in made.answer.text.replace("<", " ").replace(">", " ").split() if word.startswith("prime_")
        )
        self.api = hub.client(token)

    def settings(self, owner: str, name: str) -> Page:
        return self.browser.get(PAGE.format(owner=owner, name=name) + "/settings")

    def change(self, owner: str, name: str, what: str, having: dict[str, str] | None = None, **fields: str) -> Page:
        address = PAGE.format(owner=owner, name=name) + "/settings"
        return self.browser.submit(address, f"{address}/{what}", having, **fields)


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A Hub at which anybody may sign up."""
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def ada(open_hub: RunningHub) -> Person:
    return Person(open_hub, "ada")


@pytest.fixture(scope="module")
def eve(open_hub: RunningHub) -> Person:
    return Person(open_hub, "eve")


def test_the_page_is_for_those_who_manage(open_hub: RunningHub, ada: Person, eve: Person) -> None:
    push(ada.api, "open")
    page = PAGE.format(owner="ada", name="open")
    assert f"{page}/settings" in ada.browser.get(page).links
    assert f"{page}/settings" not in eve.browser.get(page).links
    assert ada.settings("ada", "open").status == 200
    assert eve.settings("ada", "open").status == 403
    stranger = Browser(open_hub)
    assert "Sign in" in stranger.get(f"{page}/settings").text
    ada.change("ada", "open", "visibility", visibility="PRIVATE")
    hidden, missing = eve.settings("ada", "open"), eve.settings("ada", "none")
    assert hidden.status == missing.status == 404
    assert hidden.text.replace("open", "none") == missing.text
    forms = ada.settings("ada", "open").forms
    for form in forms:
        if "/settings/" in form.action:
            assert ada.browser.post(form.action, **{**form.fields, "proof": "x"}).status == 403, form.action
            assert eve.browser.post(form.action, **{**form.fields, "proof": eve.browser.proof}).status == 404, (
                form.action
            )


def test_visibility(open_hub: RunningHub, ada: Person, eve: Person) -> None:
    push(ada.api, "curtain")
    done = ada.change("ada", "curtain", "visibility", visibility="PRIVATE")
    assert done.status == 200 and "Who sees it is changed." in done.text
    form = done.form(PAGE.format(owner="ada", name="curtain") + "/settings/visibility")
    assert form.fields["visibility"] == "PRIVATE"
    assert eve.browser.get(PAGE.format(owner="ada", name="curtain")).status == 404
    assert ada.change("ada", "curtain", "visibility", visibility="SECRET").status == 422
    ada.change("ada", "curtain", "visibility", visibility="PUBLIC")
    assert eve.browser.get(PAGE.format(owner="ada", name="curtain")).status == 200


def test_versions(ada: Person) -> None:
    push(ada.api, "aged", "0.7.0")
    push(ada.api, "aged", "0.8.0", files={"more.py": b"x = 2\n"})
    yanked = ada.change("ada", "aged", "version", {"version": "0.8.0", "change": "yank"}, reason="<b>wrong</b>")
    assert "The version is yanked" in yanked.text and "yanked: <b>wrong</b>" in yanked.text
    newest = ada.api.get("/environmentshub/ada/aged/@latest").json()["data"]["semantic_version"]
    assert newest == "0.7.0"
    assert "not yanked any more" in ada.change("ada", "aged", "version", {"change": "unyank"}).text
    wrong = ada.change("ada", "aged", "version", {"change": "version"}, version="0.7.0", confirm="0.8.0")
    assert wrong.status == 422 and "Type the version's number" in wrong.text
    gone = ada.change("ada", "aged", "version", {"change": "version"}, version="0.7.0", confirm="0.7.0")
    assert "The version is deleted." in gone.text and "0.7.0" not in gone.text


def test_another_owner_and_the_end(ada: Person, eve: Person) -> None:
    push(ada.api, "moved")
    assert ada.api.post("/teams", json={"slug": "crew", "name": "Crew"}).is_success
    wrong = ada.change("ada", "moved", "transfer", to="crew", confirm="moved")
    assert wrong.status == 422 and "Type ada/moved to confirm" in wrong.text
    assert ada.change("ada", "moved", "transfer", to="eve", confirm="ada/moved").status == 403
    done = ada.change("ada", "moved", "transfer", to="crew", confirm="ada/moved")
    assert "Settings of crew/moved" in done.text and "another owner" in done.text
    assert eve.browser.get(PAGE.format(owner="crew", name="moved")).status == 200
    kept = ada.change("crew", "moved", "delete", confirm="ada/moved")
    assert kept.status == 422 and "Type crew/moved" in kept.text
    assert ada.change("crew", "moved", "delete", confirm="crew/moved").status == 200
    assert eve.browser.get(PAGE.format(owner="crew", name="moved")).status == 404


def test_an_environment_without_a_version_can_still_be_deleted(ada: Person) -> None:
    push(ada.api, "emptied")
    ada.change("ada", "emptied", "version", {"change": "version"}, version="0.1.0", confirm="0.1.0")
    assert "no version now" in ada.settings("ada", "emptied").text
    assert ada.change("ada", "emptied", "delete", confirm="ada/emptied").status == 200
    assert ada.settings("ada", "emptied").status == 404


def test_stars_and_forks_are_shown(open_hub: RunningHub, ada: Person, eve: Person) -> None:
    push(ada.api, "liked")
    page = PAGE.format(owner="ada", name="liked")
    assert "0 stars" in eve.browser.get(page).text
    for expected in ("1 star", "0 stars", "1 star"):
        assert expected in eve.browser.submit(page, f"{page}/star").text
    assert "1 star" in Browser(open_hub).get(page).text
    eve.api.post("/environmentshub/ada/liked/fork", json={})
    assert "forked from ada/liked@0.1.0" in ada.browser.get(PAGE.format(owner="eve", name="liked")).text
