"""The official `prime` 0.18.0, unmodified, with images and sandboxes of a real Hub (hub.md §7, rows 17 and 18)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.hub.images import DOCKERFILE, SERVER, wait
from tests.official.conftest import python_with
from tests.official.rows import Rows

pytestmark = [pytest.mark.index]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def prime(module_hub: RunningHub, home: Path) -> Iterator[Run]:
    """Run `prime …` as a user of the Hub would; checks the exit code."""
    program = python_with("prime==0.18.0").with_name("prime")
    settings = {**module_hub.environment(), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(*words: str, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(program), *words],
            env={**settings, "HOME": str(home)},
            cwd=cwd or home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    yield run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a Dockerfile."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "server.py").write_text(SERVER)
    return tmp_path


def pushed(hub: RunningHub, prime: Run, project: Path, reference: str, *options: str) -> str:
    """Push, wait until it is built; what the command said."""
    said = prime("images", "push", reference, "-c", str(project), *options).stdout
    build_id = next(line.split()[-1] for line in said.splitlines() if line.startswith("Build ID:"))
    done = wait(hub.api, build_id)
    assert done["status"] == "COMPLETED", done
    return said


def listed(prime: Run, *options: str) -> list[dict[str, object]]:
    return json.loads(prime("images", "list", "--output", "json", *options).stdout)["data"]


def test_push_list_publish_update_delete(module_hub: RunningHub, prime: Run, rows: Rows, project: Path) -> None:
    with rows(17):
        me = module_hub.owner
        said = pushed(module_hub, prime, project, "app:v1")
        assert f"Image: prime/{me}/app:v1" in said and "Build started" in said
        (row,) = listed(prime, "--search", "app")
        assert (row["imageName"], row["imageTag"], row["status"]) == ("app", "v1", "COMPLETED")
        assert (row["artifactType"], row["ownerType"], row["visibility"]) == ("VM_SANDBOX", "personal", "PRIVATE")
        assert (
            row["fullImagePath"] == f"prime/{me}/app:v1" and row["sizeBytes"] and row["createdAt"] and row["pushedAt"]
        )
        assert "Ready" in prime("images", "list").stdout
        assert listed(prime, "--search", "no-such") == []

        assert "Updated app:v1 to PUBLIC" in prime("images", "publish", "app:v1").stdout
        assert listed(prime, "-q", "app")[0]["visibility"] == "PUBLIC"
        pushed(module_hub, prime, project, "app:v1")
        assert listed(prime, "-q", "app")[0]["visibility"] == "PUBLIC"  # a tag that is there keeps what it has
        pushed(module_hub, prime, project, "app:v1", "--private")
        assert listed(prime, "-q", "app")[0]["visibility"] == "PRIVATE"
        prime("images", "publish", f"prime/{me}/app:v1")
        assert "PRIVATE" in prime("images", "unpublish", "app:v1").stdout

        assert "Dry run" in prime("images", "update", "app:v1", "--tag", "v2", "--dry-run").stdout
        assert [row["imageTag"] for row in listed(prime, "-q", "app")] == ["v1"]
        prime("images", "update", "app:v1", "--tag", "v2", "--name", "other")
        assert [(row["imageName"], row["imageTag"]) for row in listed(prime)] == [("other", "v2")]
        refused = prime("images", "update", "app:v1", "--tag", "v3", code=1)
        assert "There is no image" in refused.stdout + refused.stderr

        assert "Deleted other:v2" in prime("images", "delete", "other:v2", "--yes").stdout
        gone = prime("images", "delete", "other:v2", "--yes", code=1)
        assert "not found" in gone.stdout + gone.stderr
        pushed(module_hub, prime, project, "app:v2", "--public")
        assert listed(prime)[0]["visibility"] == "PUBLIC"
        assert "Deleted" in prime("images", "delete", f"prime/{me}/app:v2", "--yes").stdout
        assert "No images or builds found." in prime("images", "list").stdout


def test_what_cannot_be_is_said_in_a_sentence(module_hub: RunningHub, prime: Run, project: Path) -> None:
    other = prime("images", "push", "app:v1", "-c", str(project), "--arch", "arm64", code=1)
    assert "builds and runs linux/" in other.stdout + other.stderr
    source = prime("images", "push", "--source-image", "ubuntu:22.04", code=1)
    assert "takes no images from registries" in source.stdout + source.stderr
    several = prime("images", "push", "--source-image", "ghcr.io/org/a:v1,ghcr.io/org/b:v1", code=1)
    assert "registries" in several.stdout + several.stderr
    platform = prime("images", "push", "app:v1", "-c", str(project), "--platform-image", code=1)
    assert "owner's own name" in platform.stdout + platform.stderr
    team = prime("images", "update", "app:v1", "--to-team", "c" + "a" * 24, "--yes", code=1)
    assert "There is no image" in team.stdout + team.stderr


def test_push_bulk_and_update_bulk(module_hub: RunningHub, prime: Run, rows: Rows, project: Path) -> None:
    with rows(18):
        (project / "m.jsonl").write_text('{"image": "bulk:one", "context": "."}\n')
        done = prime("images", "push-bulk", "--manifest", "m.jsonl", cwd=project).stdout
        assert "1/1 builds completed" in done and "All images pushed successfully!" in done
        update = {"source": {"owner": {"type": "personal"}, "name": "bulk", "tag": "one"}, "set": {"tag": "two"}}
        missing = {**update, "source": {"reference": f"prime/{module_hub.owner}/none:one"}}
        (project / "u.jsonl").write_text(f"{json.dumps(update)}\n{json.dumps(missing)}\n")
        prime("images", "update-bulk", "-m", "u.jsonl", cwd=project, code=1)
        left = (project / "update-bulk-failures.jsonl").read_text()
        assert "none" in left and "bulk" not in left
        assert listed(prime, "-q", "bulk:two")
        prime("images", "delete", "bulk:two", "--yes")


def test_sandboxes(module_hub: RunningHub, prime: Run, project: Path, tmp_path: Path) -> None:
    me = module_hub.owner
    pushed(module_hub, prime, project, "box:v1")
    said = prime(
        *("sandbox", "create", f"prime/{me}/box:v1", "--name", "mine", "--label", "a", "--env", "GREETING=hi", "--yes")
    ).stdout
    rows = module_hub.api.get("/sandbox", params={"labels": "a"}).json()["sandboxes"]
    sandbox = str(rows[0]["id"])
    assert sandbox in said and len(rows) == 1
    deadline = time.monotonic() + 30
    while module_hub.api.get(f"/sandbox/{sandbox}").json()["status"] != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shown = json.loads(prime("sandbox", "get", sandbox, "--output", "json").stdout)
    assert shown["id"] == sandbox and shown["status"] == "RUNNING"
    assert sandbox in prime("sandbox", "list", "--output", "json").stdout
    assert "hi-2" in prime("sandbox", "run", sandbox, "--", "sh", "-c", "echo $GREETING-$((1+1))").stdout
    (tmp_path / "up.txt").write_text("content")
    prime("sandbox", "upload", sandbox, str(tmp_path / "up.txt"), "up.txt")
    prime("sandbox", "download", sandbox, "up.txt", str(tmp_path / "down.txt"))
    assert (tmp_path / "down.txt").read_text() == "content"
    assert "server is starting" in prime("sandbox", "logs", sandbox).stdout
    busy = prime("images", "delete", "box:v1", "--yes", code=1)
    assert "in use" in busy.stdout + busy.stderr
    prime("sandbox", "delete", sandbox, "--yes")
    assert module_hub.api.get(f"/sandbox/{sandbox}").json()["status"] == "TERMINATED"
    prime("images", "delete", "box:v1", "--yes")
