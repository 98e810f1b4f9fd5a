"""Secrets and variables: kept sealed, shown by name only, and given to the sandboxes of those who may publish."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.images import Gateway, build, create
from tests.hub.pushing import Push, push
from tests.hub.test_spares import spares
from tests.support import databases

SECRET = "hunter-2-hunter-2"


class Stage:
    """A Hub with an environment `game` that has an image, secrets and variables; ada owns it, bob is in her team."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.tokens = {name: hub.add_user(name) for name in ("ada", "bob", "eve")}
        self.ada, self.bob, self.eve = (hub.client(token) for token in self.tokens.values())
        assert self.ada.post("/teams", json={"slug": "crew", "name": "Crew"}).is_success
        assert self.ada.post("/teams/crew/members", json={"user": "bob", "role": "member"}).is_success
        assert build(self.ada, "game", visibility="PUBLIC")["status"] == "COMPLETED"
        self.digest = self.ada.get("/images").json()["data"][0]["digest"]
        self.id = push(self.ada, "game", files=self.manifest()).environment_id
        self.secret = self.set("secrets", "API_KEY", SECRET)
        self.set("variables", "LEVEL", "3")

    def manifest(self, digest: str | None = None) -> dict[str, bytes]:
        text = f'{{"image": "prime/ada/game:latest", "image_digest": "{digest or self.digest}"}}'
        return {"proj/.build.json": text.encode()}

    def set(self, kind: str, name: str, value: str, **more: Any) -> str:
        answer = self.ada.post(f"/environmentshub/{self.id}/{kind}", json={"name": name, "value": value, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["id"]

    def inside(self, client: httpx.Client, image: str = "ada/game:latest", **more: Any) -> dict[str, str]:
        """What a sandbox of `client` has of the environment."""
        box = create(client, image, **more)
        assert box["status"] == "RUNNING", box
        assert SECRET not in str(box)
        shown = Gateway(self.hub, box["gatewayAuth"]).execute("env").json()["stdout"]
        client.delete(f"/sandbox/{box['id']}")
        pairs = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        return {name: pairs[name] for name in ("API_KEY", "LEVEL", "SHARED", "GREETING") if name in pairs}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--allow-foreign-images",))
    yield Stage(hub)
    hub.close()


GIVEN = {"API_KEY": SECRET, "LEVEL": "3", "GREETING": "hello"}
NOTHING = {"GREETING": "hello"}


def test_the_owners_sandbox_has_them(stage: Stage) -> None:
    for named in ("ada/game", "Ada/Game@0.1.0", "game"):
        assert stage.inside(stage.ada, environment=named) == GIVEN, named


def test_who_starts_it_has_the_last_word(stage: Stage) -> None:
    mine = {"environment_vars": {"LEVEL": "9"}, "secrets": {"API_KEY": "other"}}
    assert stage.inside(stage.ada, environment="ada/game", **mine) == {**GIVEN, "LEVEL": "9", "API_KEY": "other"}


def test_nobody_else_has_them(stage: Stage) -> None:
    assert stage.inside(stage.eve, environment="ada/game") == NOTHING, "a stranger plays the public environment"
    assert stage.inside(stage.bob, environment="game") == NOTHING
    assert stage.inside(stage.ada) == NOTHING, "not asked for"
    for named in ("eve/game", "ada/other", "/", "", "ada/", "a/b/c"):
        assert stage.inside(stage.ada, environment=named) == NOTHING, named


def test_another_image_does_not_get_them(stage: Stage) -> None:
    build(stage.eve, "trap", visibility="PUBLIC", files={"server.py": "import time\ntime.sleep(60)\n"})
    assert stage.inside(stage.ada, "eve/trap:latest", environment="ada/game") == NOTHING
    build(stage.ada, "own", files={"server.py": "import time\ntime.sleep(61)\n"})
    assert stage.inside(stage.ada, "own:latest", environment="ada/game") == NOTHING, "of no version"
    # Nor by an environment of the stranger's that names the image, or is a fork.
    push(stage.eve, "game", "0.1.0", files={**stage.manifest(), "eve.py": b"x = 1\n"})
    assert stage.inside(stage.eve, environment="game") == NOTHING
    assert stage.inside(stage.eve, environment="ada/game") == NOTHING


def test_a_token_that_cannot_publish_gets_none_and_goes_into_none(stage: Stage) -> None:
    def token(*scopes: str) -> httpx.Client:
        areas = dict(scope.split(":") for scope in scopes)
        made = stage.ada.post("/tokens", json={"name": "narrow", "scopes": areas})
        assert made.is_success, made.text
        return stage.hub.client(made.json()["data"]["token"])

    narrow = token("sandboxes:write", "environments:read", "images:read")
    assert stage.inside(narrow, environment="ada/game") == NOTHING
    assert stage.inside(token("sandboxes:write", "environments:write"), environment="ada/game") == GIVEN
    box = create(stage.ada, "ada/game:latest", environment="ada/game", idempotency_key="once")
    assert box["environment"] == "ada/game"
    refused = narrow.post(f"/sandbox/{box['id']}/auth")
    assert refused.status_code == 403 and "environments:write" in refused.json()["detail"]
    again = {"name": "x", "docker_image": "ada/game:latest", "idempotency_key": "once"}
    assert narrow.post("/sandbox", json=again).status_code == 403
    stage.ada.delete(f"/sandbox/{box['id']}")


def test_a_team_has_what_its_environment_has(stage: Stage) -> None:
    one = Push(stage.bob, "team-game", files=stage.manifest())
    answer = stage.bob.post("/environmentshub/resolve", json={"name": "team-game", "team_slug": "crew"})
    one.environment_id = answer.json()["data"]["id"]
    for step in one.steps()[1:]:
        answer = step() or answer
        assert answer.is_success, answer.text
    secrets = f"/environmentshub/{one.environment_id}/secrets"
    assert stage.bob.post(secrets, json={"name": "API_KEY", "value": "x"}).status_code == 403, "a member publishes only"
    assert stage.ada.post(secrets, json={"name": "API_KEY", "value": SECRET}).status_code == 200
    assert [row["name"] for row in stage.bob.get(secrets).json()["data"]] == ["API_KEY"]
    assert stage.inside(stage.bob, environment="crew/team-game") == {**NOTHING, "API_KEY": SECRET}
    assert stage.inside(stage.eve, environment="crew/team-game") == NOTHING
    assert stage.ada.delete("/teams/crew/members/bob").is_success
    assert stage.inside(stage.bob, environment="crew/team-game") == NOTHING, "from the moment on"
    assert stage.bob.get(secrets).status_code == 403


def test_the_accounts_own_are_for_those_that_are_linked(stage: Stage) -> None:
    own = stage.ada.post("/secrets/", json={"name": "SHARED", "value": "everywhere"}).json()["data"]
    assert "SHARED" not in stage.inside(stage.ada, environment="ada/game")
    link = f"/environmentshub/{stage.id}/secrets/link/{own['id']}"
    for _ in range(2):
        assert stage.ada.post(link).status_code == 200
    assert stage.inside(stage.ada, environment="ada/game")["SHARED"] == "everywhere"
    rows = stage.ada.get(f"/environmentshub/{stage.id}/secrets").json()["data"]
    assert [(row["name"], row["source"]) for row in rows] == [("API_KEY", "environment"), ("SHARED", "global")]
    assert stage.ada.patch(f"/secrets/{own['id']}", json={"value": "new"}).status_code == 200
    assert stage.inside(stage.ada, environment="ada/game")["SHARED"] == "new"
    # What is the environment's own goes before.
    mine = stage.set("secrets", "SHARED", "own")
    assert stage.inside(stage.ada, environment="ada/game")["SHARED"] == "own"
    assert stage.ada.delete(f"/environmentshub/{stage.id}/secrets/{mine}").status_code == 204
    assert stage.ada.delete(link).status_code == 204
    assert stage.ada.delete(link).status_code == 404
    hers = stage.eve.post("/secrets/", json={"name": "SHARED", "value": "eve's"}).json()["data"]
    for client, secret in ((stage.ada, hers["id"]), (stage.eve, own["id"])):
        assert client.post(f"/environmentshub/{stage.id}/secrets/link/{secret}").status_code in (403, 404)
        assert client.get(f"/secrets/{secret}").status_code == 404
    of_team = stage.ada.post("/secrets/", json={"name": "CREWS", "value": "x", "teamId": "crew"}).json()["data"]
    refused = stage.ada.post(f"/environmentshub/{stage.id}/secrets/link/{of_team['id']}")
    assert refused.status_code == 403 and "is no secret of ada" in refused.json()["detail"]
    assert [row["name"] for row in stage.ada.get("/secrets/", params={"teamId": "crew"}).json()["data"]] == ["CREWS"]
    assert stage.eve.get("/secrets/", params={"teamId": "crew"}).status_code == 404
    assert stage.ada.delete(f"/secrets/{own['id']}").status_code == 204


def test_a_transfer_takes_secrets_along_and_cuts_links(stage: Stage) -> None:
    one = push(stage.ada, "walking", files=stage.manifest())
    own = stage.ada.post("/secrets/", json={"name": "PERSONAL", "value": "x"}).json()["data"]["id"]
    base = f"/environmentshub/{one.environment_id}/secrets"
    stage.ada.post(base, json={"name": "API_KEY", "value": SECRET})
    stage.ada.post(f"{base}/link/{own}")
    done = stage.ada.post("/environmentshub/ada/walking/transfer", json={"to": "crew"}).json()["data"]
    assert done["links_cut"] == 1
    assert [row["name"] for row in stage.ada.get(base).json()["data"]] == ["API_KEY"]
    assert stage.inside(stage.ada, environment="crew/walking") == {**NOTHING, "API_KEY": SECRET}


def test_a_fork_and_a_deleted_environment_have_none(stage: Stage) -> None:
    one = push(stage.ada, "copied", files=stage.manifest())
    stage.ada.post(f"/environmentshub/{one.environment_id}/secrets", json={"name": "API_KEY", "value": SECRET})
    fork = stage.eve.post("/environmentshub/ada/copied/fork", json={}).json()["data"]
    assert stage.eve.get(f"/environmentshub/{fork['environment_id']}/secrets").json()["data"] == []
    assert stage.inside(stage.eve, environment="eve/copied") == NOTHING
    assert stage.ada.delete("/environmentshub/ada/copied").status_code == 204
    assert stage.inside(stage.ada, environment="ada/copied") == NOTHING
    push(stage.ada, "copied", "0.2.0", files=stage.manifest())
    assert stage.inside(stage.ada, environment="ada/copied") == NOTHING, "a new one begins with none"


def test_values_are_nowhere_to_be_read(stage: Stage) -> None:
    shown = [
        stage.ada.get(f"/environmentshub/{stage.id}/secrets"),
        stage.ada.patch(f"/environmentshub/{stage.id}/secrets/{stage.secret}", json={"description": "a key"}),
        stage.ada.get("/environmentshub/ada/game/@latest"),
        stage.ada.get("/sandbox", params={"per_page": 100}),
    ]
    box = create(stage.ada, "ada/game:latest", environment="ada/game", start_command="exit 3")
    shown += [stage.ada.get(f"/sandbox/{box['id']}{rest}") for rest in ("", "/logs", "/error-context")]
    assert all(answer.is_success and SECRET not in answer.text for answer in shown)
    assert "description" in shown[1].text and "a key" in shown[0].request.url.path + shown[1].text
    assert SECRET not in stage.hub.log
    files = [path for path in stage.hub.data_dir.rglob("*") if path.is_file()]
    assert files and not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_what_cannot_be_set(stage: Stage) -> None:
    path = f"/environmentshub/{stage.id}/secrets"
    for body, status, words in (
        ({"name": "lower", "value": "x"}, 422, "capital letters"),
        ({"name": "1ST", "value": "x"}, 422, "capital letters"),
        ({"name": "API_KEY", "value": "x"}, 409, "already a secret named API_KEY"),
        ({"name": "LEVEL", "value": "x"}, 409, "already a variable named LEVEL"),
        ({"name": "LONG", "value": "x" * 40_000}, 422, "at most 32768 bytes"),
        ({"name": "NUL", "value": "a\0b"}, 422, "NUL"),
        ({"name": "TOLD", "value": "x", "description": "a\nb"}, 422, "one line"),
    ):
        refused = stage.ada.post(path, json=body)
        assert refused.status_code == status and words in refused.json()["detail"], refused.text
    assert stage.ada.patch(f"{path}/{stage.secret}", json={}).status_code == 422
    assert stage.ada.patch(f"{path}/no-such", json={"value": "x"}).status_code == 404
    assert stage.ada.post("/secrets/", json={"name": "FILE", "value": "x", "isFile": True}).status_code == 422
    for client, status in ((stage.eve, 403), (stage.hub.client(), 401)):
        for method, rest, body in (
            ("GET", "secrets", None),
            ("POST", "secrets", {"name": "X", "value": "x"}),
            ("PATCH", f"secrets/{stage.secret}", {"value": "x"}),
            ("DELETE", f"secrets/{stage.secret}", None),
            ("GET", "variables", None),
            ("POST", "variables", {"name": "X", "value": "x"}),
        ):
            answer = client.request(method, f"/environmentshub/{stage.id}/{rest}", json=body)
            assert answer.status_code == status, (method, rest, answer.text)


def test_variables(stage: Stage) -> None:
    path = f"/environmentshub/{stage.id}/variables"
    made = stage.ada.post(path, json={"name": "SPEED", "value": "1", "description": "how fast"}).json()["data"]
    assert (made["value"], made["description"]) == ("1", "how fast")
    changed = stage.ada.patch(f"{path}/{made['id']}", json={"value": "", "name": "PACE"}).json()["data"]
    assert (changed["name"], changed["value"], changed["description"]) == ("PACE", "", "how fast")
    assert [row["name"] for row in stage.ada.get(path).json()["data"]] == ["LEVEL", "PACE"]
    assert stage.ada.delete(f"{path}/{made['id']}").status_code == 204
    assert stage.ada.delete(f"{path}/{made['id']}").status_code == 404


def test_spares_with_secrets_are_for_the_account_that_had_them(start_hub: Any) -> None:
    hub = start_hub("--warm-spares", "1", "--allow-foreign-images")
    stage = Stage(hub)
    create(stage.ada, "ada/game:latest", environment="ada/game")
    (spare,) = spares(hub, 1, stage.ada)
    hers = create(stage.eve, "ada/game:latest", environment="ada/game")
    assert hers["id"] != spare
    assert "API_KEY" not in Gateway(hub, hers["gatewayAuth"]).execute("env").json()["stdout"]
    for _ in range(5):
        create(stage.ada, "ada/game:latest", environment="ada/game")  # what was asked for last is kept ready
        (spare,) = spares(hub, 1, stage.ada, stage.eve)  # for a moment still the one for her
        if create(stage.ada, "ada/game:latest", environment="ada/game")["id"] == spare:
            break
    else:
        raise AssertionError("no spare was given to whom it was made for")
    (spare,) = spares(hub, 1, stage.ada, stage.eve)
    stage.ada.patch(f"/environmentshub/{stage.id}/secrets/{stage.secret}", json={"value": "rotated"})
    changed = create(stage.ada, "ada/game:latest", environment="ada/game")
    assert changed["id"] != spare
    assert "API_KEY=rotated" in Gateway(hub, changed["gatewayAuth"]).execute("env").json()["stdout"]


def test_a_hub_with_another_key_says_so(start_hub: Any) -> None:
    hub = start_hub("--allow-foreign-images")
    stage = Stage(hub)
    hub.stop()
    (hub.data_dir / "secret.key").write_text("0" * 64)
    if databases.on_postgres():
        # Another Hub of this database may have the right one: this one does not even start.
        with pytest.raises(AssertionError, match="This Hub has another secret key than the Hubs that use its database"):
            hub.start()
        return
    hub.start()
    ada = hub.client(stage.tokens["ada"])
    refused = ada.post("/sandbox", json={"name": "x", "docker_image": "ada/game:latest", "environment": "ada/game"})
    assert refused.status_code == 409 and "secret API_KEY of ada/game cannot be read" in refused.json()["detail"]
    assert ada.post("/sandbox", json={"name": "x", "docker_image": "ada/game:latest"}).status_code == 200
    ada.patch(f"/environmentshub/{stage.id}/secrets/{stage.secret}", json={"value": SECRET})
    fresh = Stage.__new__(Stage)
    fresh.hub = hub
    assert fresh.inside(ada, environment="ada/game") == GIVEN
