"""`prime env`: looking at what is published and changing it, as a user does."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

from tests.cli.conftest import PRIME, Prime
from tests.cli.folders import README, write_environment
from tests.conftest import RunningHub


@pytest.fixture
def published(author: Prime) -> str:
    """`OWNER/my-env`, versions 0.1.0 and 0.1.1."""
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    author.ok("env", "push", "my-env", "--auto-bump")
    return f"{author.name}/my-env"


def told(prime: Prime, *args: str) -> object:
    return json.loads(prime.ok(*args, "--output", "json"))


def test_looking(author: Prime, published: str) -> None:
    assert told(author, "env", "status", published)["latest_version"]["semantic_version"] == "0.1.1"
    shown = author.ok("env", "status", published)
    assert "Newest" in shown and "0.1.1" in shown and "PUBLIC" in shown
    rows = told(author, "env", "versions", published)["versions"]
    assert [row["version"] for row in rows] == ["0.1.1", "0.1.0"]
    assert told(author, "env", "version", "list", published)["versions"] == rows
    table = author.ok("env", "versions", published)
    assert rows[0]["sha256"][:12] in table and rows[0]["sha256"] not in table
    assert rows[0]["sha256"] in author.ok("env", "version", "ls", published, "--full-hashes")
    assert author.ok("env", "inspect", published, "README.md") == README.format(name="my-env")
    assert "data/" in author.ok("env", "inspect", f"{published}@0.1.0")
    assert told(author, "env", "inspect", published, "data")["kind"] == "directory"
    cut = author("env", "inspect", published, "README.md", "--max-bytes", "4")
    assert cut.stdout == "# my" and "--max-bytes shows more" in cut.stderr
    assert "0.1.0" in author.ok("env", "info", published, "-v", "0.1.0")
    assert "There is no environment" in author.fails("env", "status", f"{author.name}/none")


def test_usage(author: Prime, published: str) -> None:
    nobody = author("env", "usage", published)
    assert nobody.returncode == 0 and nobody.stdout == ""
    assert f"Nobody has installed it yet.\nInstall it with: prime env install {published}\n" in nobody.stderr
    for version, target in (("0.1.0", "one"), ("0.1.0", "two"), ("0.1.1", "three")):
        author.ok("env", "pull", f"{published}@{version}", "-t", target)
    shown = author.ok("env", "usage", published).splitlines()
    assert [line.split() for line in shown[1:3]] == [["Installs", "0", "0", "0"], ["Pulls", "3", "3", "3"]]
    assert shown[4].split() == ["DAY", "INSTALLS", "PULLS"] and shown[5].split()[1:] == ["0", "3", "█" * 30]
    one = told(author, "env", "usage", f"{published}@0.1.1", "--days", "7")
    assert isinstance(one, dict) and one["totals"]["all_time"] == {"installs": 0, "pulls": 1} and len(one["days"]) == 7
    assert "There is no version" in author.fails("env", "usage", f"{published}@9.9.9")


def test_yank_and_unyank(author: Prime, published: str) -> None:
    done = author.ok("env", "yank", f"{published}@0.1.1", "--reason", "wrong rewards")
    assert done == f"✓ Yanked {published}@0.1.1\n"
    assert told(author, "env", "status", published)["latest_version"]["semantic_version"] == "0.1.0"
    assert "wrong rewards" in author.ok("env", "versions", published)
    assert "0.1.1 (yanked: wrong rewards)" in author.ok("env", "info", f"{published}@0.1.1")
    assert told(author, "env", "unyank", published, "0.1.1")["yanked"] is False
    assert told(author, "env", "status", published)["latest_version"]["semantic_version"] == "0.1.1"
    assert "Which version is meant?" in author.fails("env", "yank", published)
    assert "names a version already" in author.fails("env", "yank", f"{published}@0.1.0", "0.1.1")


def test_visibility(author: Prime, published: str, module_hub: RunningHub) -> None:
    stranger = author.user("stranger", PRIME_API_BASE_URL=module_hub.url)
    assert author.ok("env", "visibility", published, "private") == f"✓ {published} is PRIVATE\n"
    assert "There is no environment" in stranger.fails("env", "info", published)
    assert told(author, "env", "visibility", published, "PUBLIC")["visibility"] == "PUBLIC"
    assert stranger.ok("env", "info", published)


def test_a_version_is_deleted_after_a_question(author: Prime, published: str) -> None:
    asked = author.answering("n\n", "env", "version", "delete", published, "0.1.0")
    assert asked.returncode == 1 and f"Delete {published}@0.1.0 for good?" in asked.stderr
    content = told(author, "env", "versions", published)["versions"][1]["sha256"]
    done = author.answering("y\n", "env", "version", "delete", published, content[:12])
    assert done.stdout == f"✓ Version 0.1.0 deleted successfully from {published}\n"
    assert "There is no version" in author.fails("env", "version", "delete", published, content[:12], "--force")
    folder = author.cwd / "environments" / "my_env" / "pyproject.toml"
    folder.write_text(folder.read_text().replace("0.1.1", "0.1.0"))
    error = author.fails("env", "push", "my-env")
    assert error.splitlines()[0] == "Error: Version 0.1.0 already exists" and "never used twice" in error


def test_an_environment_is_deleted_when_its_name_is_typed(author: Prime, published: str) -> None:
    wrong = author.answering("my-env\n", "env", "delete", published)
    assert wrong.returncode == 1 and f"That is not {published}; nothing was done." in wrong.stderr
    done = author.answering(f"{published}\n", "env", "delete", published)
    assert done.stdout == f"✓ Environment {published} deleted successfully\n" and published in done.stderr
    assert "There is no environment" in author.fails("env", "delete", published, "--yes")


def test_forks_stars_and_transfers(author: Prime, published: str, module_hub: RunningHub) -> None:
    token = module_hub.add_user(f"bob-{author.name[-8:]}")
    bob = author.user(f"bob-{author.name[-8:]}", PRIME_API_BASE_URL=module_hub.url, PRIME_API_KEY=token)
    assert bob.ok("fork", published) == f"✓ Forked {published} to {bob.name}/my-env\n"
    assert f"Forked from   {published}@0.1.1" in bob.ok("env", "status", f"{bob.name}/my-env")
    assert "already has an environment" in bob.fails("env", "fork", published)
    assert bob.ok("env", "star", published) == f"✓ Starred {published} (1 star)\n"
    assert [row["environment"] for row in told(bob, "env", "list", "--starred")["environments"]] == [published]
    first = told(author, "env", "list", "--sort", "stars", "--num", "1")["environments"][0]
    assert (first["environment"], first["stars"]) == (published, 1)
    assert told(bob, "env", "unstar", published) == {"starred": False, "stars": 0}
    assert told(bob, "env", "list", "--starred")["environments"] == []
    team = f"team-{author.name[-8:]}"
    me = module_hub.client(json.loads((author.home / ".prime" / "config.json").read_text())["api_key"])
    assert me.post("/teams", json={"slug": team, "name": "Team"}).is_success
    asked = author.answering("n\n", "env", "transfer", published, team)
    assert asked.returncode == 1 and f"Make {team} the owner of {published}?" in asked.stderr
    moved = author.ok("env", "transfer", published, team, "--yes")
    assert moved == f"✓ Transferred {published} to {team}/my-env\n"
    write_environment(author.cwd / "environments", version="0.2.0")
    assert f"/{team}/my-env" in author.ok("env", "push", "my-env", "--team", team, "--visibility", "PRIVATE")
    assert told(author, "env", "status", f"{team}/my-env")["visibility"] == "PRIVATE"
    assert "either --owner or --team" in author.fails("env", "push", "my-env", "--team", team, "--owner", "x", code=2)


def test_secrets_and_variables(author: Prime, published: str) -> None:
    made = author("env", "secret", "create", published, "-n", "API_KEY", "--value-stdin", stdin="hunter-2\n")
    assert made.stdout == f"✓ Created secret API_KEY for {published}\n"
    assert "hunter-2" not in made.stdout + made.stderr
    assert "already a secret named API_KEY" in author.fails(
        "env", "secret", "create", published, "-n", "API_KEY", "-v", "x"
    )
    rows = told(author, "env", "secret", "list", published)
    assert [row["name"] for row in rows] == ["API_KEY"] and "hunter-2" not in json.dumps(rows)
    author.ok("env", "secret", "update", published, "--id", rows[0]["id"], "-v", "other", "-d", "for the judge")
    assert "for the judge" in author.ok("env", "secret", "list", published)
    author.ok("secret", "create", "-n", "SHARED", "-v", "x")
    assert author.ok("env", "secret", "link", published, "SHARED") == f"✓ Linked {published} to SHARED\n"
    assert "global" in author.ok("env", "secret", "list", published)
    assert "not linked to SHARED any more" in author.ok("env", "secret", "unlink", published, "SHARED")
    assert "There is no secret SHARED" in author.fails("env", "secret", "unlink", published, "SHARED")
    assert [row["name"] for row in told(author, "secret", "list")] == ["SHARED"]
    author.ok("secret", "update", "-n", "SHARED", "-v", "y")
    assert author.ok("secret", "delete", "-n", "SHARED", "-y") == "✓ Deleted secret SHARED of your account\n"
    assert "No secrets found." in author("secret", "list").stderr
    kept = author.answering("n\n", "env", "secret", "delete", published, "-n", "API_KEY")
    assert kept.returncode == 1 and kept.stderr.endswith("Aborted; nothing was done.\n")
    author.ok("env", "secret", "delete", published, "-n", "API_KEY", "-y")
    assert "either --name or --id" in author.fails("env", "secret", "delete", published, "-y", code=2)
    author.ok("env", "var", "create", published, "-n", "LEVEL", "-v", "3")
    assert told(author, "env", "var", "update", published, "-n", "LEVEL", "-v", "4")["value"] == "4"
    assert "LEVEL  4" in author.ok("env", "var", "list", published)
    assert "Nothing is to be changed." in author.fails("env", "var", "update", published, "-n", "LEVEL")
    author.ok("env", "var", "delete", published, "-n", "LEVEL", "--yes")
    assert told(author, "env", "var", "list", published) == []
    assert "capital letters" in author.fails("env", "var", "create", published, "-n", "low", "-v", "x")
    assert "no terminal to ask" in author.fails("env", "secret", "create", published, "-n", "ASKED")


def test_a_secret_that_is_typed_is_not_shown(author: Prime, published: str) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [PRIME, "env", "secret", "create", published, "-n", "TYPED"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=author.cwd,
        env=author.environment(),
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"Value of TYPED: " not in seen:
        seen += os.read(ours, 1024)
    os.write(ours, b"hunter-3\n")
    try:
        while part := os.read(ours, 1024):
            seen += part
    except OSError:  # the end of a terminal
        pass
    os.close(ours)
    assert child.wait() == 0 and b"hunter-3" not in seen and b"Created secret TYPED" in seen


@pytest.mark.parametrize(
    "command",
    [
        *("list", "info", "status", "inspect", "usage", "versions", "version list", "version delete", "yank", "unyank"),
        *("visibility", "delete", "fork", "star", "unstar", "transfer", "push"),
        *(f"secret {verb}" for verb in ("list", "create", "update", "delete", "link", "unlink")),
        *(f"var {verb}" for verb in ("list", "create", "update", "delete")),
    ],
)
def test_help_has_examples(prime: Prime, command: str) -> None:
    shown = prime.ok("env", *command.split(), "--help")
    assert "Examples:\n" in shown and f"prime env {command}" in shown


def test_the_words_complete(prime: Prime) -> None:
    def completed(line: str, word: str) -> str:
        return prime.ok(_PRIME_COMPLETE="complete_bash", COMP_WORDS=f"{line} {word}", COMP_CWORD=str(len(line.split())))

    assert completed("prime env", "ya").split() == ["yank"]
    assert set(completed("prime env secret", "").split()) >= {"list", "create", "update", "delete", "link", "unlink"}
    assert completed("prime env version", "del").split() == ["delete"]
    assert "PRIVATE" in completed("prime env visibility a/b", "PRI")
