"""Sandboxes of teams: whose they are, who uses and who ends them, in whose quota; and what who has left still has: nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import HubFactory, RunningHub
from tests.hub.images import Gateway, build, create
from tests.hub.pushing import Push
from tests.hub.team import NO_TEAM, Team, make_team

FROM_ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    found = make_team(hub)
    for name in ("mel", "max", "ada"):
        assert build(found[name])["status"] == "COMPLETED"
    assert build(found["mel"], "shared", team_id=found.id)["status"] == "COMPLETED"
    yield found
    hub.close()


def ids(client: httpx.Client, **params: Any) -> list[str]:
    """Which sandboxes a list has."""
    answer = client.get("/sandbox", params={"is_active": True, **params})
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["sandboxes"]]


def delete_many(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.request("DELETE", "/sandbox", json=body)


def test_it_belongs_to_the_team_and_all_of_it_use_it(team: Team) -> None:
    by_id = create(team["mel"], "shared", team_id=team.id)
    by_name = create(team["ada"], "prime/makers/shared:latest", team_id="Makers")
    assert (by_id["teamId"], by_id["userId"]) == (team.id, team.ids["mel"])
    assert (by_name["teamId"], by_name["userId"]) == (team.id, team.ids["ada"])
    own = create(team["mel"])
    assert (own["teamId"], own["userId"]) == (None, team.ids["mel"])
    boxes = [by_name["id"], by_id["id"]]
    for name in ("olga", "ada", "mel", "max"):
        client = team[name]
        assert ids(client, team_id=team.id) == ids(client, team_id="makers") == boxes
        assert ids(client) == ([own["id"]] if name == "mel" else []), "what is personal only"
        auth = client.post(f"/sandbox/{by_id['id']}/auth").json()
        assert auth["user_ns"] == name
        assert Gateway(team.hub, auth).execute("echo $GREETING").json()["stdout"] == "hello\n"
        assert client.get(f"/sandbox/{by_id['id']}").json()["status"] == "RUNNING"
        assert client.post("/sandbox/status:batchGet", json={"sandbox_ids": boxes}).json()["errors"] == []
        port = client.post(f"/sandbox/{by_id['id']}/expose", json={"port": 8000}, headers=FROM_ELSEWHERE).json()
        assert httpx.get(f"{port['url']}/", trust_env=False).json()["greeting"] == "hello"
        exposed = client.get("/sandbox/expose/all").json()["exposures"]
        assert [row["sandbox_id"] for row in exposed] == [by_id["id"]]
    for word in (team.ids["mel"], "mel"):
        assert ids(team["ada"], team_id=team.id, user_id=word) == [by_id["id"]]
    assert ids(team["ada"], team_id=team.id, user_id="stan") == ids(team["ada"], user_id="mel") == []
    # A bare name that the team has no image of is one's own.
    assert create(team["mel"], "tiny", team_id=team.id)["status"] == "RUNNING"
    deleted = delete_many(team["mel"], sandbox_ids=[own["id"], by_id["id"], by_name["id"]]).json()
    assert deleted["succeeded"] == [own["id"], by_id["id"]]
    assert deleted["failed"] == [
        {
            "sandbox_id": by_name["id"],
            "error": f"Sandbox {by_name['id']} is ada's in makers; only they and the team's admins and owners may change "
            "or delete it, and mel is none of these.",
        }
    ]
    assert delete_many(team["olga"], team_id=team.id, all_users=True).json()["failed"] == []
    assert ids(team["max"], team_id=team.id) == []


def test_a_team_of_others_is_as_one_that_is_not_there(team: Team) -> None:
    stan = team["stan"]

    def asked(word: str) -> list[tuple[int, str]]:
        answers = [
            stan.post("/sandbox", json={"name": "x", "docker_image": "shared", "team_id": word}),
            stan.get("/sandbox", params={"team_id": word}),
            delete_many(stan, labels=["x"], team_id=word),
            delete_many(stan, all_users=True, team_id=word),
            delete_many(stan, user_id="mel", team_id=word),
        ]
        return [(answer.status_code, answer.text.replace(word, "TEAM")) for answer in answers]

    absent = asked(NO_TEAM)
    assert asked(team.id) == absent and [status for status, _ in absent] == [404] * 5
    assert asked("makers") == asked("nobody")


def test_who_ends_what(team: Team) -> None:
    def many(name: str, client: str, **more: Any) -> list[str]:
        answer = delete_many(team[client], team_id=team.id, **more)
        assert answer.status_code == 200, answer.text
        gone = answer.json()["succeeded"]
        return sorted(key for key, box in boxes.items() if box in gone)

    def make() -> dict[str, str]:
        made = [("mel", "a"), ("mel", "b"), ("max", "a")]
        return {
            f"{name}-{label}": create(team[name], "shared", team_id=team.id, labels=[label])["id"]
            for name, label in made
        }

    boxes = make()
    refused = team["max"].delete(f"/sandbox/{boxes['mel-a']}")
    assert refused.status_code == 403 and "is mel's in makers" in refused.json()["detail"]
    for body in ({"all_users": True}, {"user_id": team.ids["mel"]}, {"user_id": "mel", "labels": ["a"]}):
        refused = delete_many(team["max"], team_id=team.id, **body)
        assert refused.status_code == 403 and "takes an admin or owner" in refused.json()["detail"], body
    both = delete_many(team["ada"], team_id=team.id, user_id="mel", all_users=True)
    assert both.status_code == 422 and "either user_id or all_users" in both.json()["detail"]
    # One's own, where nothing else is said.
    assert many("max", "max", labels=["a"]) == ["max-a"]
    assert many("mel", "mel", user_id=team.ids["mel"], labels=["b"]) == ["mel-b"]
    assert many("ada", "ada", labels=["a"]) == [], "nothing of hers"
    assert many("ada", "ada", user_id="mel") == ["mel-a"]
    boxes = make()
    assert many("ada", "ada", all_users=True, labels=["a"]) == ["max-a", "mel-a"]
    assert team["ada"].delete(f"/sandbox/{boxes['mel-b']}").status_code == 200
    for body in ({}, {"team_id": team.id}, {"team_id": team.id, "sandbox_ids": [], "all_users": True}):
        assert delete_many(team["ada"], **body).status_code == 422, "not everything for want of a word"


def test_who_leaves_has_nothing_of_it_any_more(team: Team) -> None:
    fred = team.add("fred")
    box = create(team["mel"], "shared", team_id=team.id)
    its = f"/sandbox/{box['id']}"
    auth = fred.post(f"{its}/auth").json()
    url = fred.post(f"{its}/expose", json={"port": 8000}, headers=FROM_ELSEWHERE).json()["url"]
    inside, mels = Gateway(team.hub, auth), Gateway(team.hub, box["gatewayAuth"])
    assert inside.execute("true").status_code == mels.execute("true").status_code == 200
    assert httpx.get(f"{url}/", trust_env=False).status_code == 200
    team.remove("fred")
    assert inside.execute("true").status_code == 401
    connect = f"{auth['gateway_url']}/fred/{box['id']}/command_session.CommandSession/Start"
    headers = {"Content-Type": "application/connect+proto", "Authorization": f"Bearer {auth['token']}"}
    assert "unauthenticated" in httpx.post(connect, headers=headers, content=b"\0\0\0\0\0", trust_env=False).text
    assert httpx.get(f"{url}/", trust_env=False).status_code == 404
    for method, path in (("GET", ""), ("POST", "/auth"), ("GET", "/logs"), ("GET", "/expose"), ("DELETE", "")):
        assert fred.request(method, its + path).status_code == 404, path
    assert fred.get("/sandbox", params={"team_id": team.id}).status_code == 404
    assert fred.get("/sandbox/expose/all").json()["exposures"] == []
    (error,) = fred.post("/sandbox/status:batchGet", json={"sandbox_ids": [box["id"]]}).json()["errors"]
    assert error["code"] == "NOT_FOUND"
    # A token of somebody else's sandbox does not become one's own by another name before it.
    forged = {**auth, "token": f"{team.ids['mel']}.{auth['token'].partition('.')[2]}"}
    assert Gateway(team.hub, forged).execute("true").status_code == 401
    assert mels.execute("true").status_code == 200
    assert team["mel"].delete(its).status_code == 200


def test_the_same_key_is_the_same_sandbox_for_one_member_and_owner(team: Team) -> None:
    body = {"name": "x", "docker_image": "prime/makers/shared:latest", "idempotency_key": uuid.uuid4().hex}

    def made(name: str, **more: str) -> str:
        answer = team[name].post("/sandbox", json={**body, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    found = {
        (name, of): made(name, **({"team_id": of} if of else {})) for name in ("mel", "max") for of in ("", team.id)
    }
    assert len(set(found.values())) == 4
    assert made("mel", team_id="makers") == found["mel", team.id] and made("mel") == found["mel", ""]
    for (name, _), box in found.items():
        team[name].delete(f"/sandbox/{box}")


def test_a_team_with_sandboxes_is_not_deleted(team: Team) -> None:
    mel = team["mel"]
    made = mel.post("/teams", json={"slug": "brief", "name": "Brief"}).json()["data"]["teamId"]
    box = create(mel, team_id="brief")
    refused = mel.delete("/teams/brief")
    assert refused.status_code == 409
    assert refused.json()["detail"] == "brief still has sandboxes that run; delete them, or hand them over, first."
    assert mel.delete(f"/sandbox/{box['id']}").status_code == 200
    assert mel.delete("/teams/brief").status_code == 204
    assert mel.get(f"/sandbox/{box['id']}").status_code == 404
    assert mel.post("/sandbox", json={"name": "x", "docker_image": "tiny", "team_id": made}).status_code == 404


def test_the_quota_is_the_teams_own(start_hub: HubFactory) -> None:
    hub = start_hub("--account-sandboxes", "1", "--allow-foreign-images")
    team = make_team(hub)
    build(team["mel"], visibility="PUBLIC")
    own = create(team["mel"])
    first = create(team["mel"], team_id=team.id)
    assert own["status"] == first["status"] == "RUNNING"
    body = {"name": "x", "docker_image": "mel/tiny", "team_id": team.id}
    waits = team["max"].post("/sandbox", json=body).json()
    assert waits["status"] == "PENDING"
    assert waits["pendingReason"].startswith("The team has 1 of at most 1 sandboxes, and 0 of the team's are before")
    team["mel"].delete(f"/sandbox/{first['id']}")
    assert team["max"].get(f"/sandbox/{waits['id']}", params={"wait": 20}).json()["status"] == "RUNNING"


def test_it_is_given_what_its_teams_environment_has(team: Team) -> None:
    def publish(owner: dict[str, str], image: str, digest: str) -> str:
        manifest = f'{{"image": "{image}", "image_digest": "{digest}"}}'.encode()
        one = Push(team["mel"], "game", files={"proj/.build.json": manifest})
        made = team["mel"].post("/environmentshub/resolve", json={"name": "game", **owner}).json()["data"]
        one.environment_id = made["id"]
        for step in one.steps()[1:]:
            answer = step()
            assert answer is None or answer.is_success, answer.text
        return one.environment_id

    row = team["mel"].get("/images/shared/latest", params={"teamId": team.id}).json()
    of_team = publish({"team_id": team.id}, row["fullImagePath"], row["digest"])
    own = publish({}, "prime/mel/tiny:latest", team["mel"].get("/images/tiny/latest").json()["digest"])
    for environment, client in ((of_team, "ada"), (own, "mel")):
        secret = {"name": "API_KEY", "value": f"of {environment}"}
        assert team[client].post(f"/environmentshub/{environment}/secrets", json=secret).is_success

    def inside(image: str, environment: str, **more: str) -> str:
        box = create(team["mel"], image, environment=environment, **more)
        shown = Gateway(team.hub, box["gatewayAuth"]).execute("echo $API_KEY").json()["stdout"]
        team["mel"].delete(f"/sandbox/{box['id']}")
        return shown.strip()

    assert inside("prime/makers/shared:latest", "makers/game", team_id=team.id) == f"of {of_team}"
    assert inside("prime/makers/shared:latest", "makers/game") == f"of {of_team}", "hers to use, as it was"
    assert inside("prime/mel/tiny:latest", "mel/game") == f"of {own}"
    body = {"name": "x", "docker_image": "prime/mel/tiny:latest", "environment": "mel/game", "team_id": team.id}
    refused = team["mel"].post("/sandbox", json=body)
    assert refused.status_code == 409
    assert "mel/game has secrets or variables that are not makers's" in refused.json()["detail"]


def test_one_of_elsewhere_does_not_go_in_where_nothing_is_walled_off(start_hub: HubFactory) -> None:
    """A team's sandbox on a runtime that does not isolate runs as the Hub's user: for those of this machine only."""
    hub = start_hub("--sign-up", "open")
    team = make_team(hub)
    build(team["mel"], "shared", team_id=team.id)
    box = create(team["mel"], "shared", team_id=team.id)
    hub.sql("UPDATE accounts SET local = false WHERE slug = 'max'")
    refused = team["max"].post(f"/sandbox/{box['id']}/auth")
    assert refused.status_code == 403 and "only accounts made on its own machine" in refused.json()["detail"]
    # Nor does one of this machine run there what somebody of elsewhere has built.
    hub.sql("UPDATE accounts SET local = false WHERE slug = 'mel'")
    body = {"name": "x", "docker_image": "prime/makers/shared:latest", "team_id": team.id}
    refused = team["ada"].post("/sandbox", json=body)
    assert refused.status_code == 403 and "runs only your own images" in refused.json()["detail"]
