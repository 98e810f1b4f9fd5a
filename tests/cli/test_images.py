"""`prime images`, and the image of an OpenEnv environment on its way to the Hub (builds need a package index)."""

from __future__ import annotations

import json

import pytest

from tests.cli.folders import write_openenv

pytestmark = [pytest.mark.index, pytest.mark.slow, pytest.mark.timeout(300)]


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
    assert shown[0].split() == ["IMAGE", "STATUS", "SIZE", "CREATED"]
    assert shown[1].split()[:2] == [f"prime/{author.name}/my-game:v1", "Ready"]


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
