"""`prime config`: the file, the variables over it, contexts."""

from __future__ import annotations

import json

import pytest

KEY = "prime_0123456789abcdefghijWXYZ"


def config_of(prime) -> dict:
    return json.loads((prime.home / ".prime" / "config.json").read_text())


@pytest.fixture
def hub_user(prime):
    """A user whose configuration names a Hub that need not be there."""
    prime.ok("config", "set-base-url", "http://127.0.0.1:9/api/v1")
    prime.ok("config", "set-api-key", KEY)
    return prime


def test_set_and_view(hub_user):
    assert config_of(hub_user)["base_url"] == "http://127.0.0.1:9"
    shown = json.loads(hub_user.ok("config", "view", "--output", "json"))
    assert shown["base_url"] == shown["frontend_url"] == "http://127.0.0.1:9"
    assert shown["api_key"] == "prime_***WXYZ"
    hub_user.ok("config", "set-frontend-url", "https://pages.example.org/")
    hub_user.ok("config", "set-inference-url", "http://127.0.0.1:8000/v1")
    shown = json.loads(hub_user.ok("config", "view", "--output", "json"))
    assert shown["frontend_url"] == "https://pages.example.org"
    assert shown["inference_url"] == "http://127.0.0.1:8000/v1"


def test_a_key_is_never_printed(hub_user):
    done = hub_user("config", "set-api-key", KEY)
    assert done.stdout == "API key prime_***WXYZ configured successfully!\n"
    for args in [("view",), ("view", "-o", "json"), ("envs",), ("envs", "-o", "json")]:
        shown = hub_user("config", *args)
        assert shown.returncode == 0
        assert KEY not in shown.stdout + shown.stderr


def test_a_key_can_come_from_standard_input(hub_user):
    hub_user.ok("config", "set-api-key", stdin=KEY[::-1] + "\n")
    assert config_of(hub_user)["api_key"] == KEY[::-1]
    assert "No API key was given" in hub_user.fails("config", "set-api-key", stdin="\n")


def test_variables_win_and_are_named(hub_user):
    shown = hub_user.ok("config", "view", PRIME_API_BASE_URL="http://127.0.0.1:10", PRIME_API_KEY="x" * 20)
    assert "http://127.0.0.1:10  (from PRIME_API_BASE_URL)" in shown
    assert "xxxxxx***xxxx  (from PRIME_API_KEY)" in shown
    shown = hub_user.ok("config", "view", PRIME_BASE_URL="http://127.0.0.1:11/api/v1/")
    assert "http://127.0.0.1:11  (from PRIME_BASE_URL)" in shown
    assert "***WXYZ" not in shown


def test_another_address_leaves_the_key_behind_as_a_context(hub_user):
    done = hub_user("config", "set-base-url", "http://127.0.0.1:10")
    assert done.stdout == "Base URL set to: http://127.0.0.1:10\n"
    assert "The login to http://127.0.0.1:9 is kept as context '127-0-0-1-9'." in done.stderr
    assert "api_key" not in config_of(hub_user)
    hub_user.ok("config", "use", "127-0-0-1-9")
    assert config_of(hub_user)["api_key"] == KEY
    # The same address again changes nothing.
    hub_user.ok("config", "set-base-url", "http://127.0.0.1:9/")
    assert config_of(hub_user)["api_key"] == KEY


def test_contexts_are_saved_used_listed_and_deleted(hub_user):
    assert hub_user.ok("config", "save", "work") == "✓ Saved context 'work'\n"
    assert (hub_user.home / ".prime" / "environments" / "work.json").stat().st_mode & 0o777 == 0o600
    hub_user.ok("config", "use", "production")
    assert "base_url" not in config_of(hub_user)
    hub_user.ok("config", "use", "work")
    rows = {row["name"]: row for row in json.loads(hub_user.ok("config", "envs", "--output", "json"))}
    assert rows["work"] == {"name": "work", "current": True, "base_url": "http://127.0.0.1:9", "user_name": None}
    assert not rows["production"]["current"]
    assert "* " in hub_user.ok("config", "envs")
    assert hub_user.ok("config", "delete", "work") == "✓ Deleted context 'work'\n"
    assert "Unknown context 'work'" in hub_user.fails("config", "delete", "work")


def test_using_a_context_keeps_a_login_that_is_saved_nowhere(hub_user):
    done = hub_user("config", "use", "production")
    assert "The login it replaces is kept as context '127-0-0-1-9'." in done.stderr
    hub_user.ok("config", "use", "127-0-0-1-9")
    assert config_of(hub_user)["api_key"] == KEY
    assert "kept" not in hub_user("config", "use", "production").stderr


def test_names_of_contexts(hub_user):
    assert "is reserved" in hub_user.fails("config", "save", "production")
    assert "is not allowed" in hub_user.fails("config", "save", "../up")


def test_team_id(author):
    author.ok("teams", "create", f"t-{author.name}", "--name", "The Team")
    (row,) = json.loads(author.ok("teams", "list", "-o", "json"))
    team = row["teamId"]
    done = author("config", "set-team-id", team)
    assert (done.returncode, done.stdout) == (0, f"Team ID set to: {team}\n")
    assert f"That is The Team (t-{author.name}), where you are owner." in done.stderr
    saved = config_of(author)
    assert (saved["team_id"], saved["team_name"], saved["team_role"]) == (team, "The Team", "owner")
    assert "is not a team's id" in author.fails("config", "set-team-id", "my-team")
    other = "c" + "a1" * 12
    error = author.fails("config", "set-team-id", other)
    assert error == f"Error: You are in no team with the id {other}.\nYour teams: t-{author.name} ({team}).\n"
    assert config_of(author)["team_id"] == team
    author.ok("config", "remove-team-id")
    assert not {"team_id", "team_name", "team_role"} & config_of(author).keys()
    author.ok("config", "set-team-id", team)
    assert author.ok("config", "set-team-id", "") == "Team ID removed.\n"
    assert "team_id" not in config_of(author)


def test_reset_asks_unless_told(hub_user):
    done = hub_user.answering("n\n", "config", "reset")
    assert done.returncode == 1
    assert config_of(hub_user)["api_key"] == KEY
    hub_user.ok("config", "reset", "--yes")
    assert config_of(hub_user) == {}


def test_a_broken_file_is_a_sentence_with_its_name(hub_user):
    path = hub_user.home / ".prime" / "config.json"
    path.write_text("{")
    error = hub_user.fails("config", "view")
    assert error.startswith("Error: ")
    assert str(path) in error


@pytest.mark.parametrize("command", ["set-base-url", "set-frontend-url", "set-inference-url"])
def test_an_address_needs_its_scheme(prime, command):
    assert "is not an http(s) URL" in prime.fails("config", command, "hub.example.org")
