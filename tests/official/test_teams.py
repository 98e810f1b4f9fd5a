"""The official command and SDK, unmodified, acting for a team of a real Hub (hub.md §4, sandboxes.md §1.1)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.hub.images import DOCKERFILE, SERVER, build, create, wait
from tests.hub.team import Team, make_team
from tests.official.conftest import python_with

pytestmark = [pytest.mark.index]

Run = Callable[..., subprocess.CompletedProcess[str]]

SDK = """
import json, prime_sandboxes as ps
client = ps.SandboxClient(ps.APIClient())
box = client.create(ps.CreateSandboxRequest(name="of-team", docker_image="tool:v1", timeout_minutes=10, labels=["sdk"]))
client.wait_for_creation(box.id)
told = {"id": box.id, "team": box.team_id, "user": box.user_id}
told["listed"] = [one.id for one in client.list(exclude_terminated=True).sandboxes]
told["said"] = client.execute_command(box.id, "echo $GREETING").stdout
told["deleted"] = client.delete(box.id) is not None
told["left"] = [one.id for one in client.list(exclude_terminated=True).sandboxes]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    hub = RunningHub(tmp_path_factory.mktemp("hub"))
    yield make_team(hub)
    hub.close()


@pytest.fixture
def run(team: Team, home: Path) -> Run:
    """Run a program of the official client's environment as one of the team, for the team or (`PRIME_TEAM_ID=""`) not."""
    folder = python_with("prime==0.18.0").parent

    def act(
        program: str, *words: str, who: str = "mel", code: int = 0, **more: str
    ) -> subprocess.CompletedProcess[str]:
        token = team[who].headers["authorization"].removeprefix("Bearer ")
        settings = {**team.hub.environment(token), "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(home)}
        done = subprocess.run(
            [folder / program, *words],
            env={**settings, "PRIME_TEAM_ID": team.id, "PRIME_USER_ID": team.ids[who], **more},
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return act


@pytest.fixture
def pushed(team: Team, run: Run, tmp_path: Path) -> None:
    """`tool:v1` of the team, pushed by the official command."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "server.py").write_text(SERVER)
    said = run("prime", "images", "push", "tool:v1", "-c", str(tmp_path)).stdout
    assert "Image: prime/makers/tool:v1" in said
    build_id = next(line.split()[-1] for line in said.splitlines() if line.startswith("Build ID:"))
    assert wait(team["mel"], build_id)["status"] == "COMPLETED"


def test_the_sdk(team: Team, run: Run, pushed: None) -> None:
    told = json.loads(run("python", "-c", SDK).stdout)
    assert (told["team"], told["user"]) == (team.id, team.ids["mel"])
    assert told["listed"] == [told["id"]] and told["left"] == [] and told["deleted"]
    assert told["said"] == "hello\n"
    refused = run("python", "-c", SDK, who="stan", code=1)
    assert "HTTP 404" in refused.stderr and "There is no team" in refused.stderr


def test_images(team: Team, run: Run, pushed: None) -> None:
    (row,) = json.loads(run("prime", "images", "list", "--output", "json", who="max").stdout)["data"]
    assert (row["ownerType"], row["teamId"], row["fullImagePath"]) == ("team", team.id, "prime/makers/tool:v1")
    assert "Ready" in run("prime", "images", "list", who="max").stdout
    assert "Updated" in run("prime", "images", "publish", "tool:v1").stdout
    assert team["stan"].get("/images/makers/tool/v1").status_code == 200
    run("prime", "images", "unpublish", "tool:v1", who="ada")
    assert team["stan"].get("/images/makers/tool/v1").status_code == 404
    run("prime", "images", "publish", "tool:v1", who="max", code=1)
    build(team["mel"], "own")
    moved = run("prime", "images", "update", "prime/mel/own:latest", "--to-team", team.id, "--yes")
    assert "Updated" in moved.stdout, moved.stdout
    assert team["max"].get("/images/makers/own/latest").status_code == 200
    run("prime", "images", "delete", "own:latest", "--yes", who="max", code=1)
    assert "Deleted" in run("prime", "images", "delete", "own:latest", "--yes", who="ada").stdout
    assert "Deleted" in run("prime", "images", "delete", "prime/makers/tool:v1", "--yes").stdout


def test_sandboxes(team: Team, run: Run, pushed: None) -> None:
    mine, theirs = (create(team[who], "tool:v1", team_id=team.id)["id"] for who in ("mel", "max"))
    own = create(team["mel"], "makers/tool:v1")["id"]
    rows = json.loads(run("prime", "sandbox", "list", "--output", "json").stdout)["sandboxes"]
    assert {row["id"] for row in rows} == {mine, theirs}
    said = json.loads(run("prime", "sandbox", "get", theirs, "--output", "json").stdout)
    assert (said["team_id"], said["user_id"]) == (team.id, team.ids["max"])
    run("prime", "sandbox", "delete", "--all", "--all-users", "--yes", code=1)  # which takes an admin
    run("prime", "sandbox", "delete", "--all", "--yes")
    left = {
        row["id"]: row["status"] for row in team["mel"].get("/sandbox", params={"team_id": team.id}).json()["sandboxes"]
    }
    assert (left[mine], left[theirs]) == ("TERMINATED", "RUNNING")
    assert team["mel"].get(f"/sandbox/{own}").json()["status"] == "RUNNING"
    run("prime", "sandbox", "delete", "--all", "--all-users", "--yes", who="ada")
    assert team["max"].get(f"/sandbox/{theirs}").json()["status"] == "TERMINATED"
    team["mel"].delete(f"/sandbox/{own}")
