"""`prime images`, and the image of an OpenEnv environment on its way to the Hub (builds need a package index)."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import PRIME
from tests.cli.folders import write_openenv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PLAIN = 'FROM python:3.11-slim\nWORKDIR /app\nARG WORD=none\nENV WORD=$WORD\nCOPY start.sh .\nCMD ["sh", "start.sh"]\n'


@pytest.fixture
def plain(author) -> Path:
    """A context that needs no package index."""
    folder = author.cwd / "plain"
    folder.mkdir()
    (folder / "Dockerfile").write_text(PLAIN)
    (folder / "start.sh").write_text("sleep 600\n")
    return folder


def test_push_says_what_it_did(author, plain):
    first = json.loads(author.ok("images", "push", "plain", "-c", plain, "--build-arg", "WORD=hello", "-o", "json"))
    assert (first["status"], first["cached"]) == ("COMPLETED", False)
    assert first["reference"] == f"prime/{author.name}/plain:latest" and first["digest"].startswith("sha256:")
    again = author("images", "push", "plain", "-c", plain, "--build-arg", "WORD=hello")
    assert again.stdout == f"Image: {first['reference']}\n"
    assert "Nothing has changed since it was built; --no-cache builds it anew." in again.stderr
    made = author.ok("sandbox", "create", "plain").strip()
    assert author.ok("sandbox", "exec", made, "echo $WORD") == "hello\n"
    author.ok("sandbox", "delete", made)
    assert "'WORD' is not KEY=VALUE" in author.fails("images", "push", "x", "-c", plain, "--build-arg", "WORD", code=2)


def test_a_runtime_without_registries_says_so(author):
    error = author.fails("images", "push", "tools", "--source-image", "registry.example/org/tools:v1")
    assert "Traceback" not in error and "registries" in error


def test_push_without_waiting_and_logs(author, plain):
    done = author("images", "push", "plain:v2", "-c", plain, "--no-wait")
    assert (done.returncode, done.stdout) == (0, f"Image: prime/{author.name}/plain:v2\n")
    assert "shows how it goes on" in done.stderr
    followed = author.ok("images", "logs", "plain:v2", "-f")
    assert "COPY start.sh" in followed
    row = json.loads(author.ok("images", "list", "-q", "plain:v2", "-o", "json"))[0]
    for word in ("plain:v2", f"prime/{author.name}/plain:v2", f"{author.name}/plain:v2", row["buildId"]):
        assert author.ok("images", "logs", word) == followed
    error = author.fails("images", "logs", "nothing")
    assert "There is no image 'nothing', and no build of that id." in error and "Run 'prime images list'" in error
    (plain / "Dockerfile").write_text("FROM python:3.11-slim\nCOPY not-there.txt .\n")
    author("images", "push", "plain:bad", "-c", plain, "--no-wait")
    error = author.fails("images", "logs", "plain:bad", "-f")
    assert "Image build did not complete successfully (status=failed)." in error and "not-there.txt" in error


def test_publish_and_delete(author, module_hub, plain):
    author.ok("images", "push", "plain:v1", "-c", plain)
    reference = f"prime/{author.name}/plain:v1"

    def visibility() -> str:
        return json.loads(author.ok("images", "list", "-q", "plain:v1", "-o", "json"))[0]["visibility"]

    assert visibility() == "PRIVATE"
    assert author.ok("images", "publish", "plain:v1") == "✓ Everybody on the Hub may run plain:v1\n"
    assert visibility() == "PUBLIC"
    assert author.ok("images", "unpublish", reference) == f"✓ Only its owner may run {reference}\n"
    assert visibility() == "PRIVATE"
    author.ok("images", "push", "plain:v1", "-c", plain, "--public", "--no-cache")
    assert visibility() == "PUBLIC"
    for verb in (["publish"], ["unpublish"], ["delete", "--yes"]):
        error = author.fails("images", verb[0], "nothing:v1", *verb[1:])
        assert "nothing" in error and "Run 'prime images list' to see your images." in error
    assert "Nothing was done: there is nobody to ask" in author.fails("images", "delete", "plain:v1")
    assert author.ok("images", "delete", "plain:v1", "--yes") == "✓ Deleted plain:v1\n"
    assert json.loads(author.ok("images", "list", "-o", "json")) == []


def test_an_image_that_a_sandbox_needs_stays(author, plain):
    author.ok("images", "push", "plain:v1", "-c", plain)
    made = author.ok("sandbox", "create", "plain:v1").strip()
    assert "plain:v1" in author.fails("images", "delete", "plain:v1", "--yes")
    author.ok("sandbox", "delete", made)
    author.ok("images", "delete", f"prime/{author.name}/plain:v1", "--yes")


@pytest.mark.index
def test_ctrl_c_cancels_a_build(author):
    folder = write_openenv(author.cwd / "environments") / "proj"
    child = subprocess.Popen(
        [PRIME, "images", "push", "given-up", "-c", folder, "--no-cache"],
        env=author.environment(),
        cwd=author.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    said = child.stderr.readline()
    assert said
    child.send_signal(signal.SIGINT)
    output, error = child.communicate(timeout=60)
    if child.returncode == 0:  # it was done by then
        return
    assert (child.returncode, output) == (130, "")
    assert "Interrupted; the build is cancelled." in error
    deadline = time.monotonic() + 60
    while json.loads(author.ok("images", "list", "-o", "json"))[0]["status"] not in ("CANCELLED", "COMPLETED"):
        assert time.monotonic() < deadline


@pytest.mark.index
def test_push_and_list(author):
    folder = write_openenv(author.cwd / "environments") / "proj"
    assert author("images", "list").stderr == "No images or builds found.\n"
    done = author("images", "push", "my-game:v1", "-c", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Image: prime/{author.name}/my-game:v1\n"
    assert "requirements.txt" in done.stderr  # the build log
    row = json.loads(author.ok("images", "list", "--output", "json"))[0]
    assert (row["imageName"], row["imageTag"], row["status"]) == ("my-game", "v1", "COMPLETED")
    assert row["reference"] == f"prime/{author.name}/my-game:v1"
    assert row["digest"].startswith("sha256:")
    shown = author.ok("images", "ls").splitlines()
    assert shown[0].split() == ["IMAGE", "STATUS", "SIZE", "VISIBILITY", "CREATED"]
    assert shown[1].split()[:2] == [f"prime/{author.name}/my-game:v1", "Ready"]


@pytest.mark.index
def test_a_build_that_fails(author):
    folder = write_openenv(author.cwd / "environments") / "proj"
    (folder / "Dockerfile").write_text("FROM python:3.11-slim\nWORKDIR /app\nCOPY not-there.txt .\n")
    done = author("images", "push", "my-game", "-c", folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: Image build did not complete successfully (status=failed).\n" in done.stderr
    assert "not-there.txt" in done.stderr
    row = json.loads(author.ok("images", "list", "-o", "json"))[0]
    assert row["status"] == "FAILED"
    assert "not-there.txt" in row["errorMessage"]


def test_what_cannot_be_sent(author):
    assert "There is no folder nowhere" in author.fails("images", "push", "x", "-c", "nowhere")
    assert "No Dockerfile at" in author.fails("images", "push", "x", "-c", "environments")
    assert "not NAME or NAME:TAG" in author.fails("images", "push", "a/b", code=2)


@pytest.mark.index
def test_an_openenv_environment_is_built_when_it_must_be(author, module_hub):
    """The seed's seven lines; then no build while nothing changes; then one when the project changes."""
    folder = write_openenv(author.cwd / "environments")
    proj = folder / "proj"
    done = author("env", "push", "my-game")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Building image for 'my-game' with context='./environments/my_game/proj' dockerfile='Dockerfile' "
        "image='my-game:latest'\n"
        "Image build completed with status=ready\n"
        "Wrote ./environments/my_game/proj/.build.json\n"
        "Pushing environment my-game to Environments Hub...\n"
        "Uploading package...\n"
        "Successfully published my-game v0.1.0\n"
        f"View at: {module_hub.url}/dashboard/environments/{author.name}/my-game\n"
    )
    manifest = json.loads((proj / ".build.json").read_text())
    assert manifest["image"] == f"prime/{author.name}/my-game:latest"
    info = json.loads(author.ok("env", "info", f"{author.name}/my-game", "-o", "json"))
    assert info["image"] == {"reference": manifest["image"], "digest": manifest["image_digest"]}

    assert not author.ok("env", "push", "my-game", "--auto-bump").startswith("Building")

    (proj / "server.py").write_text((proj / "server.py").read_text().replace('"reward": 1.0', '"reward": 2.0'))
    before = (proj / ".build.json").read_bytes()
    done = author("env", "push", "my-game", "--auto-bump", "--no-build")
    assert "Warning: proj/ has changed since its image was built" in done.stderr
    assert (proj / ".build.json").read_bytes() == before
    assert author.ok("env", "push", "my-game", "--auto-bump").startswith("Building image for 'my-game'")
    assert json.loads((proj / ".build.json").read_text())["context_digest"] != manifest["context_digest"]


@pytest.mark.index
def test_an_image_that_this_hub_does_not_have_is_built_there(author, module_hub):
    """A manifest that came with the folder names somebody else's image."""
    write_openenv(author.cwd / "environments")
    author.ok("env", "push", "my-game")
    bob = author.user("bob", PRIME_API_BASE_URL=module_hub.url, PRIME_API_KEY=module_hub.add_user("bob"))
    bob.ok("env", "pull", f"{author.name}/my-game")
    assert bob.ok("env", "push", "my-game", "-p", ".").startswith("Building image for 'my-game'")
    manifest = json.loads((bob.cwd / "my_game" / "proj" / ".build.json").read_text())
    assert manifest["image"] == "prime/bob/my-game:latest"


def test_nothing_is_published_when_the_build_fails(author):
    folder = write_openenv(author.cwd / "environments")
    (folder / "proj" / "Dockerfile").write_text("FROM python:3.11-slim\nWORKDIR /app\nCOPY not-there.txt .\n")
    error = author.fails("env", "push", "my-game")
    assert "Image build did not complete successfully (status=failed)." in error
    assert json.loads(author.ok("env", "list", "--mine", "-o", "json"))["total"] == 0


@pytest.mark.index
def test_an_environment_of_a_team_has_its_image_under_the_team(author, module_hub):
    folder = write_openenv(author.cwd / "environments")
    manifest = folder / "proj" / ".build.json"
    author.ok("env", "push", "my-game")
    digest = json.loads(manifest.read_text())["image_digest"]
    team = f"t-{author.name}"
    author.ok("teams", "create", team)
    done = author("env", "push", "my-game", "--team", team)
    assert done.returncode == 0 and "Image build completed with status=ready" in done.stdout, done.stderr
    told = json.loads(manifest.read_text())
    assert (told["image"], told["image_digest"]) == (f"prime/{team}/my-game:latest", digest), (
        "the same, not built again"
    )
    (row,) = json.loads(author.ok("images", "list", "--team", team, "-o", "json"))
    assert (row["reference"], row["digest"]) == (told["image"], digest)
    assert "Building" not in author.ok("env", "push", "my-game", "--team", team, "--auto-bump")
    # Also where the team is the one in force; and back.
    author.ok("switch", team)
    assert "Building" not in author.ok("env", "push", "my-game", "--auto-bump")
    author.ok("env", "push", "my-game", "--auto-bump", "--owner", author.name)
    assert json.loads(manifest.read_text())["image"] == f"prime/{author.name}/my-game:latest"
