"""Pages that say what went wrong: each leads on, whoever looks, and wherever a form has left the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from prime_hub.app import create_app
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub.browsing import PASSWORD, Browser
from tests.hub.pushing import push


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


def test_the_address_of_every_form_leads_to_its_page(open_hub: RunningHub, tmp_path: Path) -> None:
    routers = [one.original_router for one in create_app(Settings(tmp_path)).routes if hasattr(one, "original_router")]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    pages = {route.path for route in routes if "GET" in route.methods}
    forms = {route.path for route in routes if "POST" in route.methods and route.path.startswith("/dashboard")} - pages
    assert len(forms) > 15
    assert not [path for path in forms if path.rpartition("/")[0] not in pages]
    values = {"owner": "o", "name": "n", "tag": "t", "team": "poets", "build_id": "b", "sandbox_id": "s"} | {
        "evaluation_id": "e",
        "version": "1",
    }
    for path in forms:
        answer = open_hub.client().get(open_hub.url + path.format(**values), headers={"Accept": "text/html"})
        assert answer.status_code == 303, path
        assert answer.headers["location"] == path.format(**values).rpartition("/")[0]


def test_a_form_that_was_refused_can_be_loaded_again(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("poet")
    browser.submit("/dashboard/teams", "/dashboard/teams", slug="poets")
    refused = browser.submit("/dashboard/teams/poets", "/dashboard/teams/poets/members", user="nobody-here")
    assert refused.status == 404 and refused.answer.url.path == "/dashboard/teams/poets/members"
    assert refused.form("/dashboard/teams/poets/members").fields["user"] == "nobody-here", "what was typed stays"
    again = browser.get("/dashboard/teams/poets/members")
    assert again.status == 200 and again.answer.url.path == "/dashboard/teams/poets"


def test_who_was_signed_out_meanwhile_finds_the_way_in(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("leaver")
    page = browser.get("/dashboard/account")
    browser.submit(page, "/dashboard/sign-out")
    refused = browser.submit(page, "/dashboard/account/profile", name="New")
    assert refused.status == 401 and "nothing was changed" in refused.text
    way = "/dashboard/sign-in?next=%2Fdashboard%2Faccount"
    assert way in refused.links
    back = browser.submit(way, "/dashboard/sign-in", slug="leaver", password=PASSWORD)
    assert back.answer.url.path == "/dashboard/account"
    stale = browser.submit(page, "/dashboard/account/profile", name="New")
    assert stale.status == 403 and "too old" in stale.text and "/dashboard/account" in stale.links


def test_an_error_keeps_who_looks_in_its_head(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("constant")
    for path, status in (("/no/such/page", 404), ("/dashboard/environments/x/y", 404), ("/?page=0", 422)):
        shown = browser.get(path)
        assert shown.status == status and "constant" in shown.text and "Sign out" in shown.text, path
        assert "Or it is private" not in shown.text
    # And the form in that head works.
    browser.submit(browser.get("/no/such/page"), "/dashboard/sign-out")
    assert not browser.signed_in


def test_who_is_signed_out_is_told_of_what_may_be_private(open_hub: RunningHub) -> None:
    owner = open_hub.client(open_hub.add_user("hider"))
    push(owner, "hidden", visibility="PRIVATE")
    nobody = Browser(open_hub)
    pages = [nobody.get(f"/dashboard/environments/hider/{name}") for name in ("hidden", "absent")]
    assert [page.status for page in pages] == [404, 404]
    texts = [page.answer.text.replace("hider/hidden", "").replace("hider%2Fhidden", "") for page in pages]
    assert texts[0] == texts[1].replace("hider/absent", "").replace("hider%2Fabsent", "")
    assert "Or it is private: sign in" in pages[0].text
    assert "/dashboard/sign-in?next=%2Fdashboard%2Fenvironments%2Fhider%2Fhidden" in pages[0].links


def test_what_was_typed_into_a_refused_form_stays(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("typist")
    account, teams, secrets = "/dashboard/account", "/dashboard/teams", "/dashboard/secrets"
    shown = browser.submit(account, f"{account}/profile", name="New name", email="no address", about="Lines")
    assert shown.status == 422 and shown.form(f"{account}/profile").fields["email"] == "no address"
    assert shown.form(f"{account}/profile").fields["name"] == "New name" and "Lines" in shown.text
    shown = browser.submit(account, f"{account}/name", slug="No Name")
    assert shown.form(f"{account}/name").fields["slug"] == "No Name"
    shown = browser.submit(teams, teams, slug="A B", name="Shown")
    assert (shown.form(teams).fields["slug"], shown.form(teams).fields["name"]) == ("A B", "Shown")
    shown = browser.submit(secrets, secrets, name="bad name", value="hush-hush", description="For a judge")
    assert shown.form(secrets).fields["name"] == "bad name" and "Write the value once more" in shown.text
    assert "hush-hush" not in shown.answer.text


def test_what_cannot_be_undone_takes_more_than_a_click(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("clicker")
    browser.submit("/dashboard/teams", "/dashboard/teams", slug="clickers")
    team = browser.get("/dashboard/teams/clickers").answer.text
    assert team.index("<summary>Leave") < team.index("/dashboard/teams/clickers/remove")
    secrets = "/dashboard/secrets"
    shown = browser.submit(secrets, secrets, name="A_KEY", value="x")
    delete = 'name="change" value="delete"'
    assert shown.answer.text.index("<summary>Delete<") < shown.answer.text.index(delete), (
        "the form is in what is opened"
    )
