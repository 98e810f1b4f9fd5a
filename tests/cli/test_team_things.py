"""`prime sandbox` and `prime images` act for the team in force, and `--team` decides for one command; so does the SDK."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prime_core.connection import Connection
from prime_core.errors import NotFound
from prime_sandboxes import AsyncImageClient, CreateSandboxRequest, ImageClient, SandboxClient
from prime_sandboxes.transport import APIClient
from tests.cli.conftest import Prime
from tests.conftest import RunningHub
from tests.hub.images import DOCKERFILE, SERVER


@dataclass
class Crew:
    """A team with two members, each with a home of their own, and a folder to build an image of."""

    boss: Prime
    hand: Prime
    slug: str
    id: str
    context: Path


@pytest.fixture
def crew(author: Prime, module_hub: RunningHub) -> Iterator[Crew]:
    name = f"hand-{secrets.token_hex(4)}"
    hand = author.user("hand", PRIME_BASE_URL=module_hub.url, PRIME_API_KEY=module_hub.add_user(name))
    hand.name = name
    slug = f"crew-{secrets.token_hex(4)}"
    author.ok("teams", "create", slug)
    author.ok("teams", "add", slug, name)
    (row,) = json.loads(author.ok("teams", "list", "-o", "json"))
    context = author.cwd / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "server.py").write_text(SERVER)
    found = Crew(author, hand, slug, row["teamId"], context)
    yield found
    author("sandbox", "delete", "--all", "--all-users", "--yes", "--team", slug)


def listed(user: Prime, kind: str, *words: str, **env: str) -> list[Any]:
    return json.loads(user.ok(kind, "list", "-o", "json", *words, **env))


def test_what_is_in_force_decides_and_team_for_one_command(crew: Crew) -> None:
    boss, hand = crew.boss, crew.hand
    assert boss.ok("images", "push", "tool", "-c", crew.context) == f"Image: prime/{boss.name}/tool:latest\n"
    boss.ok("switch", crew.slug)
    assert boss.ok("images", "push", "tool", "-c", crew.context) == f"Image: prime/{crew.slug}/tool:latest\n"
    references = [row["reference"] for row in listed(boss, "images")]
    assert references == [row["reference"] for row in listed(hand, "images", "--team", crew.slug)]
    assert references == [f"prime/{crew.slug}/tool:latest"]
    assert [row["reference"] for row in listed(boss, "images", "--team", "")] == [f"prime/{boss.name}/tool:latest"]
    assert listed(hand, "images") == []
    assert hand.ok("images", "logs", "tool", "--team", crew.slug) == boss.ok("images", "logs", "tool")

    ours = boss.ok("sandbox", "create", "tool", "--name", "ours").strip()
    own = boss.ok("sandbox", "create", "tool", "--name", "own", PRIME_TEAM_ID="").strip()
    theirs = hand.ok("sandbox", "create", "tool", "--name", "theirs", PRIME_TEAM_ID=crew.id).strip()
    rows = listed(boss, "sandbox")
    assert {row["id"]: row["teamId"] for row in rows} == {theirs: crew.id, ours: crew.id}
    assert [row["id"] for row in listed(boss, "sandbox", "--team", "")] == [own]
    assert [row["id"] for row in listed(boss, "sandbox", PRIME_TEAM_ID="")] == [own]
    assert listed(hand, "sandbox") == []
    assert boss.ok("sandbox", "exec", "theirs", "--", "echo", "hi") == "hi\n", "by its name, in the team in force"
    assert hand.ok("sandbox", "exec", ours, "--", "echo", "hi") == "hi\n", "by its id from anywhere"
    assert crew.id in boss.ok("sandbox", "get", theirs)
    # What one made oneself, unless it is said otherwise.
    error = hand.fails("sandbox", "delete", "--all", "--all-users", "--yes", "--team", crew.slug)
    assert "1 of 2 sandboxes were not deleted" in error and f"is {boss.name}'s in {crew.slug}" in error
    again = hand.ok("sandbox", "create", "tool", "--team", crew.slug).strip()
    assert json.loads(boss.ok("sandbox", "delete", "--all", "--yes", "-o", "json"))["deleted"] == [ours]
    done = boss.ok("sandbox", "delete", "--all", "--user", hand.name, "--yes", "-o", "json")
    assert json.loads(done) == {"deleted": [again], "failed": {}}
    assert [row["id"] for row in listed(boss, "sandbox", "--team", "")] == [own]
    boss.ok("sandbox", "delete", own)
    assert "either --all-users or --user" in boss.fails("sandbox", "delete", own, "--all-users", code=2)

    hand.fails("images", "publish", "tool", "--team", crew.slug)
    assert boss.ok("images", "publish", "tool") == "✓ Everybody on the Hub may run tool\n"
    assert boss.ok("images", "unpublish", "tool") == "✓ Only its owner may run tool\n"
    assert "there is nobody to ask" in boss.fails("images", "transfer", "tool", "personal")
    assert "already has an image tool:latest" in boss.fails("images", "transfer", "tool", "personal", "--yes")
    boss.ok("images", "delete", "tool", "--yes")
    assert listed(boss, "images") == []
    boss.ok("images", "transfer", f"{boss.name}/tool", crew.slug, "--yes")
    assert [row["reference"] for row in listed(hand, "images", "--team", crew.id)] == [f"prime/{crew.slug}/tool:latest"]
    for words in (("images", "list"), ("sandbox", "list"), ("sandbox", "create", "tool")):
        assert "There is no team 'nobody'" in boss.fails(*words, "--team", "nobody")


def test_the_sdk_acts_for_the_team_of_its_connection(crew: Crew, module_hub: RunningHub) -> None:
    key = crew.hand.env["PRIME_API_KEY"]
    for_team = Connection(module_hub.url, module_hub.url, key, crew.id)
    with ImageClient(for_team) as images:
        assert images.build("kit", "v1", crew.context).image == f"prime/{crew.slug}/kit:v1"
        assert images.build("kit", "v1", crew.context, team_id="").image == f"prime/{crew.hand.name}/kit:v1"
        assert [item.reference for item in images.list()] == [f"prime/{crew.slug}/kit:v1"]
        assert [item.reference for item in images.list(team_id="")] == [f"prime/{crew.hand.name}/kit:v1"]
        assert images.get("kit", "v1").reference == f"prime/{crew.slug}/kit:v1"
        images.set_visibility("kit:v1", "PUBLIC")
        assert images.get("kit", "v1").visibility == "PUBLIC"
        assert images.get("kit", "v1", team_id="").visibility == "PRIVATE"
    with SandboxClient(for_team) as client:
        made = client.create(CreateSandboxRequest("x", "kit:v1", labels=["sdk"]))
        own = client.create(CreateSandboxRequest("x", "kit:v1", labels=["sdk"], team_id=""))
        assert (made.team_id, own.team_id) == (crew.id, None)
        assert [item.id for item in client.list().sandboxes] == [made.id]
        assert [item.id for item in client.list(team_id="").sandboxes] == [own.id]
        assert client.bulk_delete(labels=["sdk"]).succeeded == [made.id]
        assert client.bulk_delete(labels=["sdk"], team_id="").succeeded == [own.id]
    nobodys = Connection(module_hub.url, module_hub.url, key, "nobody")
    with SandboxClient(nobodys) as client, pytest.raises(NotFound, match="There is no team 'nobody'"):
        client.list()


async def test_an_empty_variable_is_oneself(
    crew: Crew, module_hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (crew.boss.home / ".prime" / "config.json").write_text(
        json.dumps({"base_url": module_hub.url, "api_key": crew.hand.env["PRIME_API_KEY"], "team_id": crew.id})
    )
    monkeypatch.setenv("HOME", str(crew.boss.home))
    for value, team in ((None, crew.id), ("", None), (" ", None), (crew.slug, crew.slug)):
        monkeypatch.delenv("PRIME_TEAM_ID", raising=False)
        if value is not None:
            monkeypatch.setenv("PRIME_TEAM_ID", value)
        assert APIClient().connect().team_id == team
        async with AsyncImageClient() as images:
            assert await images._transport.team(None) == team
