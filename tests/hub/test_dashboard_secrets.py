"""The pages of secrets and variables, and those of owners."""

from __future__ import annotations

import pytest

from tests.conftest import RunningHub
from tests.hub.browsing import Browser, Page, dump
from tests.hub.people import Person, person
from tests.hub.pushing import push

SECRETS, OWNERS = "/dashboard/secrets", "/dashboard/owners"


@pytest.fixture(scope="module")
def ada(module_hub: RunningHub) -> Person:
    return person(module_hub, "ada")


@pytest.fixture(scope="module")
def bob(module_hub: RunningHub) -> Person:
    return person(module_hub, "bob")


@pytest.fixture(scope="module")
def crew(ada: Person, bob: Person) -> str:
    """Ada's team, of which bob is a member."""
    made = ada.api.post("/teams", json={"slug": "crew", "name": "The Crew"})
    assert made.is_success, made.text
    assert ada.api.post("/teams/crew/members", json={"user": "bob"}).is_success
    return "crew"


def act(who: Person, page: str, change: str, having: dict[str, str] | None = None, **fields: str) -> Page:
    """Send the form that makes this change."""
    return who.browser.submit(page, page.partition("?")[0], {"change": change, **(having or {})}, **fields)


def test_secrets_of_an_account(module_hub: RunningHub, ada: Person) -> None:
    assert "prime secret create -n API_KEY" in ada.browser.get(SECRETS).text
    done = act(ada, SECRETS, "add", name="HF_TOKEN", value="one-value", description="to read")
    assert done.status == 200 and "is not shown again" in done.text and "HF_TOKEN to read" in done.text
    assert "one-value" not in done.answer.text
    for name, value, words in (
        ("HF_TOKEN", "two-value", "already a secret named HF_TOKEN"),
        ("lower", "two-value", "use capital letters"),
        ("EMPTY", "", "Write the value of the secret."),
    ):
        refused = act(ada, SECRETS, "add", name=name, value=value, description="kept <words>")
        assert refused.status in (409, 422) and words in refused.text
        assert refused.form(SECRETS, change="add").fields["name"] == name
        assert "two-value" not in refused.answer.text
    row = ada.api.get("/secrets/").json()["data"][0]
    fields = ada.browser.get(SECRETS).form(SECRETS, change="replace").fields
    assert fields["id"] == row["id"] and "value" not in fields
    done = act(ada, SECRETS, "replace", value="line one\r\nline two\r\n")
    assert "has its new value" in done.text
    assert ada.api.get("/secrets/").json()["data"][0]["updatedAt"] > row["updatedAt"]
    assert act(ada, SECRETS, "replace", value="").status == 422
    assert "line one" not in dump(module_hub)
    gone = act(ada, SECRETS, "delete")
    assert "The secret is deleted." in gone.text and "HF_TOKEN" not in gone.text
    assert ada.browser.post(SECRETS, change="drop", proof=ada.browser.proof).status == 422


def test_secrets_of_a_team(ada: Person, bob: Person, crew: str) -> None:
    address = f"{SECRETS}?team=crew"
    done = act(ada, address, "add", name="SHARED", value="x")
    assert "Secrets of crew" in done.text and "SHARED" in done.text
    assert "SHARED" not in ada.browser.get(SECRETS).text
    seen = bob.browser.get(address)
    assert "SHARED" in seen.text and "You are a member" in seen.text
    assert [form for form in seen.forms if form.action == SECRETS] == []
    row = ada.api.get("/secrets/", params={"teamId": "crew"}).json()["data"][0]
    for change in ("replace", "delete"):
        fields = {"id": row["id"], "change": change, "value": "y", "team": "crew", "proof": bob.browser.proof}
        assert bob.browser.post(SECRETS, **fields).status == 403
    fields = {"change": "add", "name": "MINE", "value": "y", "team": "crew", "proof": bob.browser.proof}
    assert bob.browser.post(SECRETS, **fields).status == 403


def test_what_an_environment_gives(ada: Person, bob: Person) -> None:
    pushed = push(ada.api, "giving")
    page = "/dashboard/environments/ada/giving"
    assert f"{page}/secrets" in ada.browser.get(f"{page}/settings").links
    assert bob.browser.get(f"{page}/secrets").status == 403
    secrets = f"{page}/secrets"
    empty = ada.browser.get(secrets)
    assert "prime env secret create ada/giving" in empty.text and "prime env var create ada/giving" in empty.text
    assert f"{page}/settings" in empty.links
    done = act(ada, secrets, "add", name="JUDGE_KEY", value="hush-hush")
    assert "is not shown again" in done.text and "JUDGE_KEY" in done.text and "hush-hush" not in done.answer.text
    again = act(ada, secrets, "set", name="JUDGE_KEY", value="3", description="how hard")
    assert again.status == 409 and again.form(secrets, change="set").fields["name"] == "JUDGE_KEY"
    assert again.form(secrets, change="add").fields["name"] == ""
    done = act(ada, secrets, "set", name="LEVEL", value="3 < 4\r\n and so on", description="how hard")
    assert "The variable is set" in done.text and "LEVEL how hard 3 < 4 and so on" in done.text.replace(
        "hard3", "hard 3"
    )
    environment = f"/environmentshub/{pushed.environment_id}"
    assert ada.api.get(f"{environment}/variables").json()["data"][0]["value"] == "3 < 4\n and so on"
    assert "new value" in act(ada, secrets, "change", value="4").text
    assert ada.api.get(f"{environment}/variables").json()["data"][0]["value"] == "4"
    assert "new value" in act(ada, secrets, "replace", value="other").text
    kept = ada.api.post("/secrets/", json={"name": "WIDE_KEY", "value": "x"}).json()["data"]
    linked = act(ada, secrets, "link")
    assert "gets that secret now" in linked.text and linked.form(secrets, change="unlink", id=kept["id"])
    names = [row["name"] for row in ada.api.get(f"{environment}/secrets").json()["data"]]
    assert names == ["JUDGE_KEY", "WIDE_KEY"]
    assert "not get that secret any more" in act(ada, secrets, "unlink").text
    assert "The secret is deleted" in act(ada, secrets, "delete").text
    assert "The variable is deleted" in act(ada, secrets, "clear").text
    assert ada.browser.post(secrets, change="drop", proof=ada.browser.proof).status == 422
    # To those who may not see the environment, it is not there.
    assert ada.api.patch("/environmentshub/ada/giving", json={"visibility": "PRIVATE"}).is_success
    hidden, missing = bob.browser.get(secrets), bob.browser.get(secrets.replace("giving", "none"))
    assert hidden.status == missing.status == 404 and hidden.text.replace("giving", "none") == missing.text
    assert bob.browser.post(secrets, change="add", name="A", value="b", proof=bob.browser.proof).status == 404


def test_a_long_value_and_a_wrong_proof(ada: Person) -> None:
    push(ada.api, "proofs")
    secrets = "/dashboard/environments/ada/proofs/secrets"
    refused = act(ada, secrets, "add", name="LONG", value="x" * 33_000)
    assert refused.status == 422 and "at most 32768 bytes" in refused.text
    for address in (secrets, SECRETS):
        assert ada.browser.post(address, change="add", name="A", value="b", proof="x").status == 403


def test_an_owners_page(module_hub: RunningHub, bob: Person, crew: str) -> None:
    nobody, cleo = Browser(module_hub), person(module_hub, "cleo")
    push(cleo.api, "open-env", metadata={"description": "Open <to> all"})
    push(cleo.api, "closed-env", visibility="PRIVATE")
    told = {"name": "Cleo Patra", "about": "First line\nsecond <line>"}
    cleo.browser.submit("/dashboard/account", "/dashboard/account/profile", **told)
    page = nobody.get(f"{OWNERS}/cleo")
    for words in ("Cleo Patra cleo", "second <line>", "open-env", "Open <to> all", f"{module_hub.url}/cleo/simple/"):
        assert words in page.text, words
    assert "closed-env" not in page.text and "1 environment" in page.text and "Edit" not in page.text
    own = cleo.browser.get(f"{OWNERS}/cleo")
    assert "closed-env" in own.text and "2 environments" in own.text and "Edit your profile" in own.text
    assert f"{OWNERS}/cleo" in nobody.get("/").links
    assert f"{OWNERS}/cleo" in nobody.get("/dashboard/environments/cleo/open-env").links
    # Of whom there is nothing to be seen, nothing is told to those who are nobody here; of a team, to nobody outside.
    assert_alike(nobody, "bob", "nobodys")
    assert_alike(nobody, "crew", "nobodys")
    assert_alike(cleo.browser, "crew", "nobodys")
    assert "nothing of bob here" in cleo.browser.get(f"{OWNERS}/bob").text
    assert "prime env push my-env" in bob.browser.get(f"{OWNERS}/bob").text
    of_team = bob.browser.get(f"{OWNERS}/crew")
    assert "The Crew" in of_team.text and "2 members" in of_team.text and "--team crew" in of_team.text


def test_a_team_that_shows_something(module_hub: RunningHub, ada: Person, bob: Person, crew: str) -> None:
    push(ada.api, "of-team")
    assert ada.api.post("/environmentshub/ada/of-team/transfer", json={"to": "crew"}).is_success
    nobody = Browser(module_hub)
    seen = nobody.get(f"{OWNERS}/crew")
    assert "of-team" in seen.text and "The Crew" in seen.text and "member" not in seen.text
    assert "2 members" in bob.browser.get(f"{OWNERS}/crew").text


def assert_alike(browser: Browser, hidden: str, missing: str) -> None:
    """Two owners of whom the same is told: that there is nobody."""
    pages = [browser.get(f"{OWNERS}/{slug}") for slug in (hidden, missing)]
    assert [page.status for page in pages] == [404, 404]
    assert pages[0].text.replace(hidden, missing) == pages[1].text


def test_an_owner_with_a_former_name_and_many_environments(module_hub: RunningHub, ada: Person) -> None:
    push(ada.api, "first-of-many")
    ada.browser.submit("/dashboard/account", "/dashboard/account/name", slug="ada-two")
    for slug in ("ada", "Ada-Two"):
        assert str(ada.browser.get(f"{OWNERS}/{slug}").answer.url).endswith(f"{OWNERS}/ada-two")
    shown = ("owner_id", "visibility", "description", "tags", "latest_version_id", "stars", "created_at", "updated_at")
    columns = ", ".join(shown)
    for number in range(25):
        module_hub.sql(
            f"INSERT INTO environments (id, name, normalized_name, {columns}) SELECT :id, :name, :name, {columns} "
            "FROM environments WHERE name = 'first-of-many'",
            id=f"{number:024}",
            name=f"one-of-many-{number}",
        )
        words = "name, short, readme, marks"
        module_hub.sql(
            f"INSERT INTO search_documents (environment_id, {words}) SELECT :id, {words} FROM search_documents WHERE "
            "environment_id = (SELECT id FROM environments WHERE name = 'first-of-many')",
            id=f"{number:024}",
        )
    page = ada.browser.get(f"{OWNERS}/ada-two")
    assert f"{OWNERS}/ada-two?page=2" in page.links and page.text.count("v0.1.0") == 24
    rest = ada.browser.get(f"{OWNERS}/ada-two?page=2")
    assert f"{OWNERS}/ada-two" in rest.links and "one-of-many" in rest.text
    assert "There are only 2 pages" in ada.browser.get(f"{OWNERS}/ada-two?page=3").text
