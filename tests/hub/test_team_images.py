"""Images of teams: built, found, run, shown, changed and handed over, by whom of the team."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.images import DOCKERFILE, begin, build, create, held_context, wait
from tests.hub.pushing import put
from tests.hub.team import NO_TEAM, Team, make_team

PERSONAL = {"type": "personal"}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    yield make_team(hub)
    hub.close()


def names(client: httpx.Client, **params: Any) -> list[str]:
    answer = client.get("/images", params=params)
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert rows["totalCount"] == len(rows["data"])
    return sorted(row["fullImagePath"] for row in rows["data"])


def change(client: httpx.Client, source: dict[str, Any], dry: bool = False, **wanted: Any) -> dict[str, Any]:
    """What came of one change."""
    body = {"mode": "explicit", "dryRun": dry, "updates": [{"source": source, "set": wanted}]}
    (row,) = client.patch("/images", json=body).json()["results"]
    return row


def of_team(team: Team, name: str, tag: str = "latest") -> dict[str, Any]:
    return {"owner": {"type": "team", "teamId": team.id}, "name": name, "tag": tag}


def test_all_of_the_team_have_it_and_nobody_else(team: Team) -> None:
    begun = begin(team["mel"], "tool", "v1", team_id=team.id)
    assert (begun["fullImagePath"], begun["teamId"]) == ("prime/makers/tool:v1", team.id)
    done = build(team["mel"], "tool", "v1", team_id="makers")
    assert done["status"] == "COMPLETED" and done["fullImagePath"] == "prime/makers/tool:v1"
    for name in ("olga", "ada", "mel", "max"):
        client = team[name]
        (row,) = client.get("/images", params={"teamId": team.id, "search": "makers/tool"}).json()["data"]
        assert (row["ownerType"], row["teamId"], row["visibility"]) == ("team", team.id, "PRIVATE")
        assert names(client) == [], "what is personal only"
        assert client.get("/images/tool/v1", params={"teamId": team.id}).json()["digest"] == done["imageDigest"]
        assert client.get("/images/makers/tool/v1").json()["fullImagePath"] == "prime/makers/tool:v1"
        assert client.get(f"/images/build/{done['id']}").json()["status"] == "COMPLETED"
        assert client.get(f"/images/build/{done['id']}/logs").json()["complete"] is True
    for reference in (
        "makers/tool:v1",
        f"prime/team-{team.id}/tool:v1",
        f"{team.id}/tool:v1",
        f"x@{done['imageDigest']}",
    ):
        box = create(team["max"], reference)
        assert box["status"] == "RUNNING", reference
        team["max"].delete(f"/sandbox/{box['id']}")
    stan = team["stan"]
    for path in ("makers/tool/v1", f"{team.id}/tool/v1", "tool/v1", f"build/{done['id']}", f"build/{done['id']}/logs"):
        assert stan.get(f"/images/{path}").status_code == 404, path
    for reference in ("makers/tool:v1", f"prime/team-{team.id}/tool:v1", f"x@{done['imageDigest']}"):
        assert stan.post("/sandbox", json={"name": "x", "docker_image": reference}).status_code == 404, reference

    def asked(word: str) -> list[tuple[int, str]]:
        answers = [
            stan.post("/images/build", json={"image_name": "tool", "team_id": word}),
            stan.get("/images", params={"teamId": word}),
            stan.get("/images/tool/v1", params={"teamId": word}),
            stan.delete("/images/tool/v1", params={"teamId": word}),
        ]
        return [(answer.status_code, answer.text.replace(word, "TEAM")) for answer in answers]

    assert asked(team.id) == asked(NO_TEAM) and [status for status, _ in asked(team.id)] == [404] * 4
    row = change(stan, of_team(team, "tool", "v1"), visibility="PUBLIC")
    assert row["error"]["code"] == "NOT_FOUND"


def test_who_changes_what(team: Team) -> None:
    build(team["mel"], "lens", team_id=team.id)
    source = {"reference": "prime/makers/lens:latest"}
    row = change(team["max"], source, visibility="PUBLIC")
    assert row["error"]["code"] == "FORBIDDEN" and "is mel's in makers" in row["error"]["message"]
    refused = team["max"].post("/images/build", json={"image_name": "lens", "team_id": team.id, "visibility": "PUBLIC"})
    assert refused.status_code == 403 and "Image lens:latest is mel's in makers" in refused.json()["detail"]
    assert team["max"].delete("/images/lens/latest", params={"teamId": team.id}).status_code == 403
    assert build(team["max"], "lens", team_id=team.id)["status"] == "COMPLETED", "every member pushes"
    for name in ("mel", "ada", "olga"):
        shown = change(team[name], of_team(team, "lens"), visibility="PUBLIC")
        assert shown["success"] and shown["after"]["owner"] == {"type": "team", "teamId": team.id}
        assert team["stan"].get("/images/makers/lens/latest").status_code == 200
        assert change(team[name], source, visibility="PRIVATE")["success"]
        assert team["stan"].get("/images/makers/lens/latest").status_code == 404
    assert change(team["ada"], of_team(team, "lens"), tag="v2")["after"]["tag"] == "v2"
    assert team["mel"].delete("/images/lens/v2", params={"teamId": team.id}).status_code == 200
    assert names(team["mel"], teamId=team.id, search="lens") == []


def test_a_build_of_the_team_is_cancelled_by_who_began_it_or_manages(team: Team) -> None:
    begun = begin(team["mel"], "slow", team_id=team.id)["build_id"]
    assert team["max"].post(f"/images/build/{begun}/cancel").status_code == 403
    assert team["max"].post(f"/images/build/{begun}/start").status_code == 403, "it would run by mel's trust"
    assert team["stan"].post(f"/images/build/{begun}/cancel").status_code == 404
    assert team["ada"].post(f"/images/build/{begun}/cancel").json()["status"] == "CANCELLED"


def test_a_build_of_who_has_left_names_nothing(team: Team, tmp_path: Path) -> None:
    tim = team.add("tim")
    build(team["mel"], "mels", team_id=team.id)
    begun = {name: begin(tim, name, team_id=team.id) for name in ("tims", "mels")}
    for one in begun.values():
        assert put(one["upload_url"], held_context(tmp_path / "gate")).is_success
        assert tim.post(f"/images/build/{one['build_id']}/start", json={"context_uploaded": True}).is_success
    team.remove("tim")
    (tmp_path / "gate").unlink()
    done = [wait(team["ada"], one["build_id"]) for one in begun.values()]
    assert [one["status"] for one in done] == ["FAILED", "FAILED"]
    assert "has left the team" in done[0]["errorMessage"]
    (row,) = team["mel"].get("/images", params={"teamId": team.id, "search": "tims"}).json()["data"]
    assert row["status"] == "FAILED", "the build that failed is all there is"
    nothing = team["mel"].post("/sandbox", json={"name": "x", "docker_image": "prime/makers/tims:latest"})
    assert nothing.status_code == 404
    mels = team["mel"].get("/images/mels/latest", params={"teamId": team.id}).json()
    assert mels["digest"] not in {one["imageDigest"] for one in done}


def test_from_a_person_to_the_team_and_back(team: Team) -> None:
    files = {"Dockerfile": DOCKERFILE + "ENV MOVED=1\n"}
    done = build(team["mel"], "moved", files=files)
    to_team = {"owner": {"type": "team", "teamId": team.id}}
    source = {"owner": PERSONAL, "name": "moved", "tag": "latest"}
    dry = change(team["mel"], source, dry=True, **to_team)
    assert (dry["before"]["owner"], dry["after"]["owner"]) == (PERSONAL, to_team["owner"])
    assert "prime/mel/moved:latest" in names(team["mel"])
    assert change(team["mel"], source, owner={"type": "team", "teamId": NO_TEAM})["error"]["code"] == "NOT_FOUND"
    assert change(team["mel"], source, owner={"type": "team"})["error"]["code"] == "INVALID"
    assert change(team["mel"], source, **to_team)["success"]
    assert "prime/mel/moved:latest" not in names(team["mel"])
    assert "prime/makers/moved:latest" in names(team["max"], teamId=team.id)
    assert team["max"].get(f"/images/build/{done['id']}").status_code == 200, "its log goes along"
    box = create(team["max"], "makers/moved")
    assert box["status"] == "RUNNING" and box["imageDigest"] == done["imageDigest"]
    team["max"].delete(f"/sandbox/{box['id']}")
    build(team["mel"], "moved")
    assert change(team["mel"], source, **to_team)["error"]["code"] == "CONFLICT"
    assert change(team["max"], of_team(team, "moved"), owner=PERSONAL)["error"]["code"] == "FORBIDDEN"
    assert change(team["ada"], of_team(team, "moved"), owner=PERSONAL, name="taken")["success"]
    assert names(team["ada"]) == ["prime/ada/taken:latest"]
    # Nobody else of the team has it any more, by no name and by no digest.
    for reference in ("makers/moved", "ada/taken", f"x@{done['imageDigest']}"):
        gone = team["max"].post("/sandbox", json={"name": "x", "docker_image": reference})
        assert gone.status_code == 404, (reference, gone.text)
    assert create(team["ada"], "taken")["imageDigest"] == done["imageDigest"]


def test_what_one_built_is_not_built_again_for_the_team(team: Team) -> None:
    same = {"context_digest": "sha256:" + "7" * 64}
    build(team["mel"], "same", **same)
    assert begin(team["mel"], "same", team_id=team.id, **same)["cached"] is True
    row = team["max"].get("/images/same/latest", params={"teamId": team.id}).json()
    assert row["digest"] == team["mel"].get("/images/same/latest").json()["digest"]
    # What another member says that it was built of is not taken for granted.
    assert begin(team["max"], "same", team_id=team.id, **same)["cached"] is False


def test_there_are_no_images_of_a_platform(team: Team) -> None:
    build(team["max"], "mine")
    assert names(team["max"], ownerScope="platform") == []
    assert "prime/max/mine:latest" in names(team["max"])


def test_a_team_with_images_is_not_deleted(team: Team) -> None:
    stan = team["stan"]
    assert stan.post("/teams", json={"slug": "stans", "name": "S"}).is_success
    build(stan, "kept", team_id="stans")
    assert "still has images" in stan.delete("/teams/stans").json()["detail"]
    assert stan.delete("/images/kept/latest", params={"teamId": "stans"}).status_code == 200
    assert stan.delete("/teams/stans").status_code == 204
