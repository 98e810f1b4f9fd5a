"""Teams: each role and each action, by the API and by the pages."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.browsing import PASSWORD, Browser
from tests.hub.pushing import Push

ROLES = ("owner", "admin", "member", "stranger", "nobody")


class People:
    """Accounts, made once."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.names = {role: f"{role}-{secrets.token_hex(3)}" for role in (*ROLES[:-1], "other", "second", "fresh")}
        self.clients = {role: hub.client(hub.add_user(name)) for role, name in self.names.items()}
        self.clients["nobody"] = hub.client()


@pytest.fixture(scope="module")
def people(module_hub: RunningHub) -> People:
    return People(module_hub)


class Team:
    """A team with somebody of each role, their clients, and others to act upon."""

    def __init__(self, people: People) -> None:
        self.hub, self.names, self.clients = people.hub, people.names, people.clients
        self.slug = f"team-{secrets.token_hex(4)}"
        made = self.clients["owner"].post("/teams", json={"slug": self.slug, "name": "Team T"})
        assert made.status_code == 201, made.text
        self.id = made.json()["data"]["teamId"]
        for role, name in (("admin", "admin"), ("member", "member"), ("member", "other"), ("admin", "second")):
            self.add(name, role)

    def add(self, name: str, role: str) -> None:
        body = {"user": self.names[name], "role": role}
        assert self.clients["owner"].post(f"/teams/{self.id}/members", json=body).status_code == 201

    def roles(self) -> dict[str, str]:
        rows = self.clients["owner"].get(f"/teams/{self.id}/members").json()["data"]
        return {row["userName"]: row["role"] for row in rows}


@pytest.fixture
def team(people: People) -> Iterator[Team]:
    made = Team(people)
    yield made
    for client in made.clients.values():
        client.delete(f"/teams/{made.id}")


def test_the_wire_is_the_official_commands(team: Team) -> None:
    assert re.fullmatch(r"c[a-z0-9]{24}", team.id)
    rows = team.clients["admin"].get("/user/teams", params={"offset": 0, "limit": 100}).json()
    row = next(one for one in rows["data"] if one["teamId"] == team.id)
    assert set(row) == {"teamId", "name", "slug", "role", "createdAt"}
    assert (row["teamId"], row["name"], row["slug"], row["role"]) == (team.id, "Team T", team.slug, "admin")
    beyond = team.clients["admin"].get("/user/teams", params={"offset": rows["total_count"]}).json()
    assert beyond == {"data": [], "total_count": rows["total_count"]}
    members = team.clients["member"].get(f"/teams/{team.id}/members").json()["data"]
    assert [member["role"] for member in members] == ["owner", "admin", "admin", "member", "member"]
    assert set(members[0]) >= {"userId", "userName", "userEmail", "role", "joinedAt"}
    assert team.clients["member"].get(f"/teams/{team.slug.upper()}").json()["data"]["teamId"] == team.id
    data = team.clients["member"].get("/user/whoami", params={"teamId": team.id}).json()["data"]
    assert (data["slug"], data["team"]["role"]) == (team.names["member"], "member")
    assert team.clients["stranger"].get("/user/whoami", params={"teamId": team.id}).status_code == 404


ALLOWED = {
    "see": "owner admin member",
    "members": "owner admin member",
    "add a member": "owner admin",
    "add an admin": "owner",
    "add an owner": "owner",
    "remove a member": "owner admin",
    "remove an admin": "owner",
    "make an admin": "owner",
    "make an owner": "owner",
    "make a member": "owner",
    "name": "owner admin",
    "slug": "owner",
    "delete": "owner",
}


@pytest.mark.parametrize("action", ALLOWED)
@pytest.mark.parametrize("role", ROLES)
def test_each_role_and_each_action(team: Team, role: str, action: str) -> None:
    names, path = team.names, f"/teams/{team.id}"
    asked: dict[str, tuple[str, str, dict[str, str] | None]] = {
        "see": ("GET", path, None),
        "members": ("GET", f"{path}/members", None),
        "remove a member": ("DELETE", f"{path}/members/{names['other']}", None),
        "remove an admin": ("DELETE", f"{path}/members/{names['second']}", None),
        "make an admin": ("PATCH", f"{path}/members/{names['other']}", {"role": "admin"}),
        "make an owner": ("PATCH", f"{path}/members/{names['other']}", {"role": "owner"}),
        "make a member": ("PATCH", f"{path}/members/{names['second']}", {"role": "member"}),
        "name": ("PATCH", path, {"name": "Another name"}),
        "slug": ("PATCH", path, {"slug": f"{team.slug}-new"}),
        "delete": ("DELETE", path, None),
    }
    if action.startswith("add"):
        word = action.rpartition(" ")[2]
        asked[action] = ("POST", f"{path}/members", {"user": names["fresh"], "role": word})
    before = team.roles()
    method, address, body = asked[action]
    answer = team.clients[role].request(method, address, json=body)
    if role in ALLOWED[action].split():
        assert answer.status_code in (200, 201, 204), answer.text
        return
    expected = {"nobody": 401, "stranger": 404}.get(role, 403)
    assert answer.status_code == expected, answer.text
    assert team.roles() == before
    if expected == 403:
        needed = "an owner" if ALLOWED[action] == "owner" else "an admin or owner"
        assert answer.json()["detail"] == (
            f"{names[role]} is {'an' if role == 'admin' else 'a'} {role} of {team.slug}; this takes {needed}."
        )
    if expected == 404:
        unknown = team.clients[role].request(method, address.replace(team.id, "c" + "0" * 24), json=body)
        assert unknown.json()["detail"].replace("c" + "0" * 24, team.id) == answer.json()["detail"]


def test_everybody_may_leave_but_the_last_owner(team: Team) -> None:
    for role in ("admin", "member"):
        left = team.clients[role].delete(f"/teams/{team.id}/members/{team.names[role]}")
        assert left.status_code == 204
        assert team.clients[role].get(f"/teams/{team.id}").status_code == 404
    owner = team.clients["owner"]
    mine = f"/teams/{team.id}/members/{team.names['owner']}"
    for answer in (owner.delete(mine), owner.patch(mine, json={"role": "member"})):
        assert answer.status_code == 409 and "needs an owner" in answer.json()["detail"]
    owner.patch(f"/teams/{team.id}/members/{team.names['other']}", json={"role": "owner"})
    assert owner.delete(mine).status_code == 204
    assert team.clients["other"].get(f"/teams/{team.id}").json()["data"]["role"] == "owner"


def test_two_owners_who_leave_at_once(team: Team) -> None:
    team.clients["owner"].patch(f"/teams/{team.id}/members/{team.names['other']}", json={"role": "owner"})

    def leave(role: str) -> int:
        return team.clients[role].delete(f"/teams/{team.id}/members/{team.names[role]}").status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leave, ("owner", "other"))) == [204, 409]


def test_what_cannot_be(team: Team) -> None:
    owner = team.clients["owner"]

    def refused(answer: httpx.Response, status: int, words: str) -> None:
        assert answer.status_code == status and words in answer.json()["detail"], answer.text

    refused(owner.post("/teams", json={"slug": team.slug}), 409, "already an account named")
    refused(owner.post("/teams", json={"slug": team.names["member"]}), 409, "already an account named")
    refused(owner.post("/teams", json={"slug": "Bad"}), 422, "lower-case")
    refused(owner.post(f"/teams/{team.id}/members", json={"user": "no-such"}), 404, "no account named 'no-such'")
    refused(owner.post(f"/teams/{team.id}/members", json={"user": team.slug}), 404, "no account named")
    refused(owner.post(f"/teams/{team.id}/members", json={"user": team.names["member"]}), 409, "already")
    refused(owner.post(f"/teams/{team.id}/members", json={"user": "x", "role": "king"}), 422, "is no role")
    refused(owner.patch(f"/teams/{team.id}/members/no-such", json={"role": "admin"}), 404, "no member")
    refused(owner.delete(f"/teams/{team.id}/members/{team.names['stranger']}"), 404, "no member")
    assert team.hub.client(team.hub.token).patch("/user/slug", json={"slug": team.slug}).status_code == 409


def test_a_team_with_something_is_not_deleted_and_its_name_stays(team: Team) -> None:
    owner = team.clients["owner"]
    resolved = owner.post("/environmentshub/resolve", json={"name": "teams-env", "team_slug": team.slug}).json()["data"]
    assert resolved["owner"]["name"] == team.slug
    assert push_for(team) == 200
    refused = owner.delete(f"/teams/{team.id}")
    assert refused.status_code == 409 and "still has environments" in refused.json()["detail"]
    assert owner.delete(f"/environmentshub/{team.slug}/teams-env").status_code in (200, 204)
    assert owner.delete(f"/teams/{team.id}").status_code == 204
    assert owner.get(f"/teams/{team.id}").status_code == 404
    assert team.id not in owner.get("/user/teams").text
    assert team.clients["stranger"].post("/teams", json={"slug": team.slug}).status_code == 409


class TeamPush(Push):
    """A push into a team."""

    team = ""

    def resolve(self) -> httpx.Response:
        answer = self.client.post("/environmentshub/resolve", json={"name": self.name, "team_id": self.team})
        if answer.is_success:
            self.environment_id = answer.json()["data"]["id"]
        return answer


def push_for(team: Team) -> int:
    """A whole push into the team, by a member."""
    one = TeamPush(team.clients["member"], "teams-env")
    one.team = team.id
    return one.run().status_code


def test_an_empty_teams_name_is_free_again(team: Team) -> None:
    assert team.clients["owner"].delete(f"/teams/{team.slug}").status_code == 204
    assert team.clients["stranger"].post("/teams", json={"slug": team.slug}).status_code == 201


def test_who_is_put_out_sees_nothing_any_more(team: Team) -> None:
    body = {"name": "private-env", "team_id": team.id, "visibility": "PRIVATE"}
    assert team.clients["member"].post("/environmentshub/resolve", json=body).status_code == 200
    team.clients["owner"].delete(f"/teams/{team.id}/members/{team.names['member']}")
    assert team.clients["member"].post("/environmentshub/resolve", json=body).status_code == 404


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory):
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


def test_a_team_by_the_pages(open_hub: RunningHub) -> None:
    boss, hand = Browser(open_hub), Browser(open_hub)
    boss.sign_up("boss")
    hand.sign_up("hand", name="Handy <b>Hand</b>")
    page = boss.submit("/dashboard/teams", "/dashboard/teams", slug="works", name="The works")
    assert page.answer.url.path == "/dashboard/teams/works" and "The works" in page.text
    assert boss.submit("/dashboard/teams", "/dashboard/teams", slug="works").status == 409
    assert hand.get("/dashboard/teams/works").status == 404
    missing = boss.submit(page, "/dashboard/teams/works/members", user="no-such")
    assert missing.status == 404 and "no account named 'no-such'" in missing.text
    page = boss.submit(page, "/dashboard/teams/works/members", user="hand", role="member")
    assert "Handy <b>Hand</b>" in page.text
    shown = hand.get("/dashboard/teams/works")
    assert [form.action for form in shown.forms if "works" in form.action] == ["/dashboard/teams/works/remove"]
    hand_id = next(form.fields["user"] for form in shown.forms if form.action.endswith("/remove"))
    forged = hand.post("/dashboard/teams/works/role", user=hand_id, role="owner", proof=hand.proof)
    assert forged.status == 403 and "this takes an owner" in forged.text
    page = boss.submit(page, "/dashboard/teams/works/role", {"user": hand_id}, role="admin")
    assert "The role is changed." in page.text
    renamed = hand.submit(
        "/dashboard/teams/works", "/dashboard/teams/works/settings", name="Works of art", about="Two\nlines"
    )
    assert "Works of art" in renamed.text and "slug" not in renamed.form("/dashboard/teams/works/settings").fields
    page = boss.submit(
        "/dashboard/teams/works", "/dashboard/teams/works/settings", slug="artworks", name="Art", about=""
    )
    assert page.answer.url.path == "/dashboard/teams/artworks"
    wrong = boss.submit(page, "/dashboard/teams/artworks/delete", confirm="artwork")
    assert wrong.status == 422 and "Type the team's name, artworks, to delete it." in wrong.text
    left = hand.submit("/dashboard/teams/artworks", "/dashboard/teams/artworks/remove", {"user": hand_id})
    assert "You have left the team." in left.text and "artworks" not in left.text
    gone = boss.submit("/dashboard/teams/artworks", "/dashboard/teams/artworks/delete", confirm="artworks")
    assert "The team is deleted." in gone.text and "You are in no team." in gone.text
    assert PASSWORD not in open_hub.log
