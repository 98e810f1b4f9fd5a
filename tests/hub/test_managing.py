"""Changing what is published: yanking, deleting, visibility, transfers, forks, stars; who may, and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import Push, push
from tests.support import stores


class Person:
    """An account of the module's Hub, and its client."""

    def __init__(self, hub: RunningHub, name: str) -> None:
        self.name = name
        self.token = hub.add_user(name)
        self.api = hub.client(self.token)


@pytest.fixture(scope="module")
def people(module_hub: RunningHub) -> dict[str, Person]:
    """ada owns the team crew, bob is a member and eve a stranger."""
    found = {name: Person(module_hub, name) for name in ("ada", "bob", "eve")}
    assert found["ada"].api.post("/teams", json={"slug": "crew", "name": "Crew"}).is_success
    assert found["ada"].api.post("/teams/crew/members", json={"user": "bob", "role": "member"}).is_success
    return found


def at(owner: str, name: str, rest: str = "") -> str:
    return f"/environmentshub/{owner}/{name}{rest}"


def numbers(client: httpx.Client, owner: str, name: str) -> list[str]:
    answer = client.get(at(owner, name, "/versions"))
    return [row["version"] for row in answer.json()["data"]["versions"]] if answer.is_success else []


def latest(client: httpx.Client, owner: str, name: str) -> str:
    return client.get(at(owner, name, "/@latest")).json()["data"]["semantic_version"]


def blobs(hub: RunningHub) -> set[str]:
    return {key.rpartition("/")[2] for key in stores.keys(hub.data_dir) if key.startswith("sha256/")}


def in_team(client: httpx.Client, name: str, **more: Any) -> Push:
    """A push for the team crew."""
    one = Push(client, name, **more)
    answer = client.post("/environmentshub/resolve", json={"name": name, "team_slug": "crew"})
    one.environment_id = answer.json()["data"]["id"]
    for step in one.steps()[1:]:
        answer = step() or answer
        assert answer.is_success, answer.text
    return one


def test_a_yanked_version_is_no_longer_the_newest(module_hub: RunningHub, people: dict[str, Person]) -> None:
    ada = people["ada"]
    push(ada.api, "yanked", "0.1.0", metadata={"description": "first"})
    push(ada.api, "yanked", "0.2.0", metadata={"description": "second"})
    for reason in ("wrong  rewards", "wrong rewards; use 0.1.0"):
        done = ada.api.put(at("ada", "yanked", "/@0.2.0/yank"), json={"reason": reason})
        assert done.status_code == 200 and done.json()["data"]["yanked"] is True
    assert latest(ada.api, "ada", "yanked") == "0.1.0"
    exact = ada.api.get(at("ada", "yanked", "/@0.2.0")).json()["data"]
    assert (exact["yanked"], exact["yanked_reason"]) == (True, "wrong rewards; use 0.1.0")
    assert ada.api.get(at("ada", "yanked", "/status")).json()["data"]["description"] == "first"
    rows = ada.api.get(at("ada", "yanked", "/versions")).json()["data"]["versions"]
    assert [(row["version"], row["yanked"]) for row in rows] == [("0.2.0", True), ("0.1.0", False)]
    for _ in range(2):
        assert ada.api.delete(at("ada", "yanked", "/@0.2.0/yank")).json()["data"]["yanked"] is False
    assert latest(ada.api, "ada", "yanked") == "0.2.0"
    long = ada.api.put(at("ada", "yanked", "/@0.2.0/yank"), json={"reason": "x" * 600})
    assert long.status_code == 422 and "one line" in long.json()["detail"]
    vague = ada.api.put(at("ada", "yanked", "/@latest/yank"), json={})
    assert vague.status_code == 422 and "by its number" in vague.json()["detail"]


def test_a_deleted_number_is_never_used_again(module_hub: RunningHub, people: dict[str, Person]) -> None:
    ada = people["ada"]
    push(ada.api, "gone", "0.1.0")
    newer = push(ada.api, "gone", "0.2.0", files={"more.py": b"x = 2\n"})
    by_hash = ada.api.delete(at("ada", "gone", f"/@{newer.content_hash[:8]}"))
    assert by_hash.status_code == 200 and by_hash.json()["data"]["version"] == "0.2.0"
    again = ada.api.delete(at("ada", "gone", f"/@{newer.content_hash[:8]}"))
    assert again.status_code == 404 and newer.content_hash[:8] in again.json()["detail"]
    assert latest(ada.api, "ada", "gone") == "0.1.0" and numbers(ada.api, "ada", "gone") == ["0.1.0"]
    assert ada.api.delete(at("ada", "gone", f"/@{newer.content_hash[:7]}")).status_code == 404
    for spelling, files in (("0.2.0", {"more.py": b"x = 2\n"}), ("0.2", {"more.py": b"x = 3\n"})):
        one = Push(ada.api, "gone", spelling, files=files)
        one.resolve()
        refused = one.prepare_wheel()
        assert refused.status_code == 409
        assert f"Version {spelling} already exists" in refused.json()["detail"]
        assert "content hash" in refused.json()["detail"] and "never used twice" in refused.json()["detail"]
    push(ada.api, "gone", "0.3.0", files={"more.py": b"x = 2\n"})
    # Not either after all of it was deleted.
    assert ada.api.delete(at("ada", "gone")).status_code == 204
    assert ada.api.delete(at("ada", "gone")).status_code == 404
    one = Push(ada.api, "gone", "0.1.0")
    assert one.resolve().json()["data"]["created"] is True
    assert one.prepare_wheel().status_code == 409
    push(ada.api, "gone", "0.4.0")


def test_the_last_version_gone_leaves_nothing_to_see_and_can_be_deleted(people: dict[str, Person]) -> None:
    ada, eve = people["ada"], people["eve"]
    push(ada.api, "emptied")
    assert ada.api.delete(at("ada", "emptied", "/@0.1.0")).status_code == 200
    for client in (ada.api, eve.api):
        assert client.get(at("ada", "emptied", "/status")).status_code == 404
    assert eve.api.delete(at("ada", "emptied")).status_code == 404
    assert ada.api.delete(at("ada", "emptied")).status_code == 204


def test_only_what_nothing_else_needs_is_removed(hub: RunningHub) -> None:
    ada = hub.client(hub.add_user("ada"))
    kept = push(hub.api, "kept")
    fork = ada.post(at(hub.owner, "kept", "/fork"), json={})
    assert fork.status_code == 200
    other = push(hub.api, "kept", "0.2.0", files={"more.py": b"x = 2\n"})
    assert len(blobs(hub)) == 4
    assert hub.api.delete(at(hub.owner, "kept", "/@0.2.0")).status_code == 200
    assert len(blobs(hub)) == 2, "both files of 0.2.0 went"
    assert hub.api.delete(at(hub.owner, "kept")).status_code == 204
    detail = ada.get(at("ada", "kept", "/@latest")).json()["data"]
    assert ada.get(detail["wheel_url"], follow_redirects=True).content == kept.wheel
    assert ada.get(detail["package_url"], follow_redirects=True).content == kept.archive != other.archive
    assert ada.delete("/environmentshub/" + fork.json()["data"]["environment_id"]).status_code == 204
    assert blobs(hub) == set()


def test_an_image_may_be_deleted_once_no_version_needs_it(module_hub: RunningHub) -> None:
    from tests.hub.images import build

    api = module_hub.api
    state = build(api, "needed")
    digest = api.get("/images", params={"search": "needed"}).json()["data"][0]["digest"]
    assert state["status"] == "COMPLETED" and digest
    manifest = f'{{"image": "prime/{module_hub.owner}/needed:latest", "image_digest": "{digest}"}}'.encode()
    push(api, "needs-image", files={"proj/.build.json": manifest})
    refused = api.delete("/images/needed/latest")
    assert refused.status_code == 409 and "needs-image@0.1.0" in refused.json()["detail"]
    assert api.delete(at(module_hub.owner, "needs-image", "/@0.1.0")).status_code == 200
    assert api.delete("/images/needed/latest").is_success


def test_visibility(module_hub: RunningHub, people: dict[str, Person]) -> None:
    ada, eve = people["ada"], people["eve"]
    push(ada.api, "curtain")
    assert eve.api.get(at("ada", "curtain", "/@latest")).status_code == 200
    hidden = ada.api.patch(at("ada", "curtain"), json={"visibility": "private"})
    assert hidden.json()["data"]["visibility"] == "PRIVATE"
    assert eve.api.get(at("ada", "curtain", "/@latest")).status_code == 404
    assert eve.api.patch(at("ada", "curtain"), json={"visibility": "PUBLIC"}).status_code == 404
    bad = ada.api.patch(at("ada", "curtain"), json={"visibility": "SECRET"})
    assert bad.status_code == 422 and "PUBLIC or PRIVATE" in bad.json()["detail"]
    ada.api.patch(at("ada", "curtain"), json={"visibility": "PUBLIC"})
    assert eve.api.get(at("ada", "curtain", "/@latest")).status_code == 200


def test_who_may_change_what(people: dict[str, Person]) -> None:
    ada, bob, eve = people["ada"], people["bob"], people["eve"]
    one = in_team(bob.api, "shared")
    changes = [
        ("PUT", at("crew", "shared", "/@0.1.0/yank"), {}),
        ("DELETE", at("crew", "shared", "/@0.1.0/yank"), None),
        ("DELETE", at("crew", "shared", "/@0.1.0"), None),
        ("PATCH", at("crew", "shared"), {"visibility": "PRIVATE"}),
        ("POST", at("crew", "shared", "/transfer"), {"to": "crew"}),
        ("DELETE", at("crew", "shared"), None),
        ("DELETE", f"/environmentshub/{one.environment_id}", None),
    ]
    for method, path, body in changes:
        assert bob.api.request(method, path, json=body).status_code == 403, (method, path)
        member = bob.api.request(method, path, json=body).json()["detail"]
        assert "this takes the role admin or owner" in member
        assert eve.api.request(method, path, json=body).status_code == 403, (method, path)
    in_team(bob.api, "shared", version="0.2.0")
    ada.api.patch(at("crew", "shared"), json={"visibility": "PRIVATE"})
    for method, path, body in changes:
        answer = eve.api.request(method, path, json=body)
        assert answer.status_code == 404, (method, path)
        missing = eve.api.request(method, path.replace("shared", "no-such"), json=body).json()["detail"]
        assert answer.json()["detail"].replace("shared", "no-such") == missing
    assert bob.api.get(at("crew", "shared", "/@latest")).status_code == 200
    assert ada.api.delete(at("crew", "shared")).status_code == 204


def test_a_transfer_there_and_back(people: dict[str, Person]) -> None:
    ada, bob, eve = people["ada"], people["bob"], people["eve"]
    first = push(ada.api, "moved")
    eve.api.put(at("ada", "moved", "/star"))
    done = ada.api.post(at("ada", "moved", "/transfer"), json={"to": "crew"})
    assert done.status_code == 200 and done.json()["data"]["owner"] == {"name": "crew"}
    assert ada.api.get(at("ada", "moved", "/@latest")).status_code == 404
    found = bob.api.get(at("crew", "moved", "/@latest")).json()["data"]
    assert (found["stars"], found["id"]) == (1, first.environment_id)
    assert bob.api.get(found["wheel_url"], follow_redirects=True).content == first.wheel
    # Under neither address can 0.1.0 be published again.
    again = Push(ada.api, "moved", files={"other.py": b"x = 1\n"})
    again.resolve()
    assert again.prepare_wheel().status_code == 409
    taken = ada.api.post(at("crew", "moved", "/transfer"), json={"to": "ada"})
    assert taken.status_code == 409 and "ada already has an environment 'moved'" in taken.json()["detail"]
    assert ada.api.delete(at("ada", "moved")).status_code == 204
    assert ada.api.post(at("crew", "moved", "/transfer"), json={"to": "ada"}).status_code == 200
    assert numbers(eve.api, "ada", "moved") == ["0.1.0"]
    for to, status in (("ada", 409), ("eve", 403), ("no-such-team", 403)):
        assert ada.api.post(at("ada", "moved", "/transfer"), json={"to": to}).status_code == status, to


def test_a_number_that_was_another_version_there_is_not_overwritten(people: dict[str, Person]) -> None:
    ada = people["ada"]
    in_team(ada.api, "reborn", files={"one.py": b"x = 1\n"})
    assert ada.api.delete(at("crew", "reborn")).status_code == 204
    push(ada.api, "reborn", files={"two.py": b"x = 2\n"})
    refused = ada.api.post(at("ada", "reborn", "/transfer"), json={"to": "crew"})
    assert refused.status_code == 409 and "had another version 0.1.0 once" in refused.json()["detail"]
    assert numbers(ada.api, "ada", "reborn") == ["0.1.0"]


def test_a_fork_is_the_forkers_own(people: dict[str, Person]) -> None:
    ada, bob, eve = people["ada"], people["bob"], people["eve"]
    source = push(ada.api, "origin", "0.1.0")
    push(ada.api, "origin", "0.2.0")
    done = eve.api.post(at("ada", "origin", "/fork"), json={"version": "0.1.0"}).json()["data"]
    assert (done["success"], done["owner"]["name"], done["slug"]) == (True, "eve", "eve/origin")
    detail = bob.api.get(at("eve", "origin", "/@latest")).json()["data"]
    assert (detail["id"], detail["version_id"]) == (done["environment_id"], done["version_id"])
    assert detail["forked_from"] == {"owner": "ada", "name": "origin", "version": "0.1.0"}
    assert bob.api.get(detail["package_url"], follow_redirects=True).content == source.archive
    assert bob.api.get(detail["wheel_url"], follow_redirects=True).content == source.wheel
    twice = eve.api.post(at("ada", "origin", "/fork"), json={})
    assert twice.status_code == 409 and "eve already has an environment 'origin'" in twice.json()["detail"]
    assert ada.api.post(at("ada", "origin", "/fork"), json={}).status_code == 409
    push(eve.api, "origin", "0.2.0", files={"hers.py": b"x = 1\n"})
    assert numbers(ada.api, "ada", "origin") == ["0.2.0", "0.1.0"]
    team = bob.api.post(at("ada", "origin", "/fork"), json={"team_slug": "crew"}).json()["data"]
    assert team["slug"] == "crew/origin"
    assert eve.api.post(at("ada", "origin", "/fork"), json={"team_slug": "crew"}).status_code == 404


def test_a_fork_of_a_private_environment_is_private_and_names_it_to_nobody_else(people: dict[str, Person]) -> None:
    ada, bob, eve = people["ada"], people["bob"], people["eve"]
    in_team(ada.api, "inner")
    ada.api.patch(at("crew", "inner"), json={"visibility": "PRIVATE"})
    assert eve.api.post(at("crew", "inner", "/fork"), json={}).status_code == 404
    done = bob.api.post(at("crew", "inner", "/fork"), json={}).json()["data"]
    assert done["visibility"] == "PRIVATE"
    assert eve.api.get(at("bob", "inner", "/@latest")).status_code == 404
    assert bob.api.get(at("bob", "inner", "/status")).json()["data"]["forked_from"]["owner"] == "crew"
    bob.api.patch(at("bob", "inner"), json={"visibility": "PUBLIC"})
    shown = eve.api.get(at("bob", "inner", "/@latest"))
    assert shown.status_code == 200 and shown.json()["data"]["forked_from"] is None and "crew" not in shown.text
    ada.api.delete(at("crew", "inner"))
    assert eve.api.get(at("bob", "inner", "/status")).json()["data"]["forked_from"] is None


def test_stars(module_hub: RunningHub, people: dict[str, Person]) -> None:
    ada, bob, eve = people["ada"], people["bob"], people["eve"]
    for name in ("liked-little", "liked-much", "unliked"):
        push(ada.api, name, metadata={"tags": ["liking"]})
    for _ in range(2):
        assert eve.api.put(at("ada", "liked-much", "/star")).json()["data"] == {"starred": True, "stars": 1}
    assert bob.api.put(at("ada", "liked-much", "/star")).json()["data"]["stars"] == 2
    eve.api.put(at("ada", "liked-little", "/star"))

    def listed(client: httpx.Client, **params: Any) -> list[tuple[str, int]]:
        rows = client.get("/environmentshub/", params={"tags": "liking", "sort_by": "stars", **params})
        assert rows.status_code == 200, rows.text
        return [(row["name"], row["stars"]) for row in rows.json()["data"]]

    everything = [("liked-much", 2), ("liked-little", 1), ("unliked", 0)]
    assert listed(eve.api) == listed(module_hub.client()) == everything
    assert listed(eve.api, sort_order="asc") == everything[::-1]
    assert listed(bob.api, starred_only=True) == everything[:1]
    assert listed(eve.api, starred_only=True) == everything[:2]
    for _ in range(2):
        assert eve.api.delete(at("ada", "liked-much", "/star")).json()["data"] == {"starred": False, "stars": 1}
    assert eve.api.put(at("ada", "no-such", "/star")).status_code == 404
    assert module_hub.client().put(at("ada", "unliked", "/star")).status_code == 401
    assert module_hub.client().get("/environmentshub/", params={"starred_only": True}).status_code == 401
    ada.api.patch(at("ada", "liked-little"), json={"visibility": "PRIVATE"})
    assert listed(eve.api, starred_only=True) == []
    assert eve.api.put(at("ada", "liked-little", "/star")).status_code == 404


def test_whether_a_push_can_go_on_is_told_before_it_begins(module_hub: RunningHub, people: dict[str, Person]) -> None:
    ada, bob, eve = people["ada"], people["bob"], people["eve"]
    push(ada.api, "asked")
    in_team(bob.api, "asked-too")

    def ask(client: httpx.Client, **body: Any) -> tuple[int, str]:
        answer = client.post("/environmentshub/check", json=body)
        return answer.status_code, answer.text

    assert ask(ada.api, name="asked", semantic_version="0.2.0")[0] == 200
    status, text = ask(ada.api, name="Asked", semantic_version="0.1")
    assert status == 409 and "Version 0.1 already exists" in text
    assert ask(eve.api, name="asked", semantic_version="0.1.0")[0] == 200, "that is another environment, eve's own"
    assert ask(eve.api, name="asked", semantic_version="0.2.0", owner_slug="ada")[0] == 403
    assert ask(eve.api, name="x", semantic_version="0.1.0", team_slug="crew")[0] == 404
    assert ask(bob.api, name="asked-too", semantic_version="0.2.0", team_slug="crew")[0] == 200
    closing = {"name": "asked-too", "semantic_version": "0.2.0", "team_slug": "crew", "visibility": "PRIVATE"}
    assert ask(bob.api, **closing)[0] == 403
    assert ask(ada.api, **closing)[0] == 200
    assert ask(ada.api, name="a/b", semantic_version="0.1.0")[0] == 422
    assert ask(ada.api, name="asked", semantic_version="one")[0] == 422
    assert ask(module_hub.client(), name="asked", semantic_version="0.2.0")[0] == 401
    made = Push(eve.api, "never-resolved")
    assert ask(eve.api, name="never-resolved", semantic_version="0.1.0")[0] == 200
    assert made.resolve().json()["data"]["created"] is True


def test_a_hub_that_is_killed_between_any_two_steps(hub: RunningHub, tmp_path: Path) -> None:
    """Whatever the step: nothing is visible, and the same push goes on where it was, or begins again."""
    for stop in range(1, 7):
        for again in (False, True):
            one = Push(hub.api, f"killed-{stop}-{again}".lower())
            one.run(until=stop)
            hub.kill()
            hub.close_clients()
            hub.start()
            assert hub.client().get(at(hub.owner, one.name, "/@latest")).status_code == 404
            one.client = hub.api
            for address in ("wheel_url", "version_url"):  # the port is the same, and the signature holds
                assert not getattr(one, address) or getattr(one, address).startswith(hub.url)
            for step in one.steps()[0 if again else stop :]:
                answer = step()
                assert answer is None or answer.is_success, (stop, again, step.__name__, answer.text)
            detail = hub.client().get(at(hub.owner, one.name, "/@latest")).json()["data"]
            assert hub.client().get(detail["package_url"], follow_redirects=True).content == one.archive


def test_the_wheels_own_words_count(people: dict[str, Person]) -> None:
    ada = people["ada"]
    push(ada.api, "truthful", metadata={"python_requires": ">=2", "requires_dist": ["never-meant"], "urls": {}})
    told = ada.api.get(at("ada", "truthful", "/@latest")).json()["data"]["metadata"]
    assert (told["python_requires"], told["requires_dist"]) == (None, [])
