"""`prime teams`, `prime switch` and the team in force; `prime tokens`."""

from __future__ import annotations

import json
import secrets

import pytest

from tests.cli.conftest import Prime
from tests.conftest import RunningHub


def config_of(user: Prime) -> dict:
    return json.loads((user.home / ".prime" / "config.json").read_text())


@pytest.fixture
def boss(author: Prime) -> Prime:
    return author


@pytest.fixture
def hand(boss: Prime, module_hub: RunningHub) -> Prime:
    """Somebody else of the same Hub."""
    name = f"hand-{secrets.token_hex(4)}"
    token = module_hub.add_user(name)
    user = boss.user("hand", PRIME_BASE_URL=module_hub.url, PRIME_API_KEY=token)
    user.name = name
    return user


def test_a_team_from_beginning_to_end(boss: Prime, hand: Prime) -> None:
    team = f"team-{secrets.token_hex(3)}"
    assert boss("teams", "list").stderr.startswith("You are in no team.")
    made = boss("teams", "create", team, "--name", "Team T")
    assert made.returncode == 0 and made.stdout.startswith(f"✓ Made the team {team} (c")
    (row,) = json.loads(boss.ok("teams", "ls", "--output", "json"))
    assert (row["slug"], row["name"], row["role"], len(row["teamId"])) == (team, "Team T", "owner", 25)
    assert "There is already an account named" in boss.fails("teams", "create", team)
    assert boss.ok("teams", "add", team, hand.name) == f"✓ {hand.name} is a member of {team}\n"
    error = hand.fails("teams", "role", team, hand.name, "owner")
    assert error.startswith(f"Error: {hand.name} is a member of {team}; this takes an owner.")
    assert boss.ok("teams", "role", team, hand.name, "admin") == f"✓ {hand.name} is an admin of {team}\n"
    rows = json.loads(boss.ok("teams", "members", team, "-o", "json"))
    assert {one["userName"]: one["role"] for one in rows} == {boss.name: "owner", hand.name: "admin"}
    assert boss.fails("teams", "role", team, hand.name, "king", code=2)
    assert "needs an owner" in boss.fails("teams", "leave", team, "--yes")
    asked = boss.answering("n\n", "teams", "remove", team, hand.name)
    assert asked.returncode == 1 and f"Remove {hand.name} from {team}?" in asked.stderr
    assert hand.ok("teams", "leave", team, "-y") == f"✓ You have left {team}\n"
    assert "There is no team" in hand.fails("teams", "members", team)
    boss.ok("switch", team)
    done = boss("teams", "delete", team, "-f")
    assert done.returncode == 0 and "You act for yourself again." in done.stderr
    assert "team_id" not in config_of(boss)


def test_switch_is_the_official_commands(boss: Prime, hand: Prime, module_hub: RunningHub) -> None:
    team = f"team-{secrets.token_hex(3)}"
    boss.ok("teams", "create", team, "--name", "Team T")
    (row,) = json.loads(boss.ok("teams", "list", "-o", "json"))
    assert boss.ok("switch", team.upper()) == "Switched to team 'Team T'.\n"
    saved = config_of(boss)
    assert (saved["team_id"], saved["team_name"], saved["team_role"]) == (row["teamId"], "Team T", "owner")
    assert "* " in boss.ok("teams", "list")
    assert f"Team T ({team}), owner" in boss.ok("whoami")
    assert json.loads(boss.ok("whoami", "-o", "json"))["team"]["teamId"] == row["teamId"]
    assert boss.ok("switch", "personal") == "Switched to personal account.\n"
    assert "team_id" not in config_of(boss) and "Team" not in boss.ok("whoami")
    assert boss.ok("switch", row["teamId"]) == "Switched to team 'Team T'.\n"
    error = boss.fails("switch", "no-such")
    assert error == f"Error: You are in no team 'no-such'.\nYour teams: {team}.\n"
    assert "PRIME_TEAM_ID is set" in boss.fails("switch", "personal", PRIME_TEAM_ID=row["teamId"])
    boss.ok("config", "save", "mine")
    assert "Temporary context 'mine' is read-only." in boss.fails("-c", "mine", "switch", "personal")
    # A team that one is not in any more.
    error = hand.fails("whoami", PRIME_TEAM_ID=row["teamId"])
    assert "There is no team" in error and "prime switch personal" in error
    assert f"Team T ({team}), owner" in boss.ok("whoami", PRIME_TEAM_ID=team)
    # A login says which teams there are.
    key = config_of(boss)["api_key"]
    again = boss("login", "--base-url", module_hub.url, "--token-stdin", stdin=key)
    assert again.returncode == 0 and f"'prime switch {team}' acts for a team." in again.stderr


def test_tokens(boss: Prime, module_hub: RunningHub) -> None:
    done = boss("tokens", "create", "ci", "--scope", "environments:read", "--days", "30")
    token = done.stdout.strip()
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and token not in done.stderr
    assert "environments:read" in boss.ok("whoami", PRIME_API_KEY=token)
    refused = boss.fails("tokens", "list", PRIME_API_KEY=token)
    assert "This API key may not do that: it has the scopes environments:read" in refused
    rows = json.loads(boss.ok("tokens", "list", "-o", "json"))
    assert {row["name"]: row["current"] for row in rows} == {"ci": False, "first token": True}
    shown = boss.ok("tokens", "list")
    assert f"…{token[-4:]}" in shown and token not in shown and "environments:read" in shown
    assert boss.fails("tokens", "create", "x", "--scope", "environments", code=2)
    assert "is no scope" in boss.fails("tokens", "create", "x", "--scope", "moon:read")
    twin = json.loads(boss.ok("tokens", "create", "ci", "-o", "json"))
    assert "2 keys have the name 'ci'" in boss.fails("tokens", "revoke", "ci", "-y")
    assert boss.ok("tokens", "revoke", twin["id"], "-y") == "✓ Revoked the key 'ci'\n"
    asked = boss.answering("n\n", "tokens", "revoke", "ci")
    assert asked.returncode == 1 and "Revoke the key 'ci'" in asked.stderr
    assert boss.ok("tokens", "revoke", "ci", "-y") == "✓ Revoked the key 'ci'\n"
    assert module_hub.client(token).get("/user/whoami").status_code == 401
    assert "You have no API key 'ci'." in boss.fails("tokens", "revoke", "ci", "-y")
