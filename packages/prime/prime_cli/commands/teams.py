"""`prime teams` and `prime switch`: the teams of this account, and for which of them commands act."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prime_cli.asking import confirm
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out
from prime_core.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from prime_core.api import APIClient

app = command_app("Teams: who is in them, who may do what.")
switch_app = command_app("Act for a team, or for yourself.", group=False)

PAGE = 100
PERSONAL = "personal"
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
TeamArg = Annotated[str, typer.Argument(metavar="TEAM", help="The team's name or id.")]
UserArg = Annotated[str, typer.Argument(metavar="USER", help="The account's name.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")]


class Role(StrEnum):
    """A place in a team: members publish, admins also manage what is there, owners also rule."""

    owner = "owner"
    admin = "admin"
    member = "member"


def _client() -> APIClient:
    from prime_core.api import APIClient
    from prime_core.connection import connect

    connection = connect(announce=out.note)
    return APIClient(connection.base_url, connection.api_key)


def _all(client: APIClient) -> list[dict[str, Any]]:
    """Every team of the account."""
    found: list[dict[str, Any]] = []
    while True:
        rows = client.get("/user/teams", {"offset": len(found), "limit": PAGE}).get("data") or []
        found += [row for row in rows if isinstance(row, dict)]
        if len(rows) < PAGE:
            return found


def my_teams() -> list[dict[str, Any]]:
    """Every team of the account in force. Raises APIError and its kinds."""
    with _client() as client:
        return _all(client)


@switch_app.command(epilog=examples("prime switch my-team", "prime switch personal"))
def switch(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="A team's name or id; 'personal' for yourself.")],
) -> None:
    """Act for a team from now on: what is pushed without --owner belongs to it. `personal` goes back."""
    from prime_core.config import ConfigFile

    if os.environ.get("PRIME_TEAM_ID", "").strip():
        raise ConfigError("PRIME_TEAM_ID is set, and decides for which team commands act.", "Unset it to switch.")
    file = ConfigFile()
    file.update()  # raises under a temporary context, before the Hub is asked
    if team.strip().lower() == PERSONAL:
        file.update(team_id=None, team_name=None, team_role=None)
        out.data("Switched to personal account.")
        return
    with _client() as client:
        rows = _all(client)
    word = team.strip()
    row = next((one for one in rows if word == one.get("teamId") or word.lower() == str(one.get("slug")).lower()), None)
    if row is None:
        known = ", ".join(str(one.get("slug")) for one in rows)
        raise NotFound(f"You are in no team '{team}'.", 404, hint=f"Your teams: {known or 'none'}.")
    file.update(team_id=row["teamId"], team_name=row.get("name"), team_role=row.get("role"))
    out.data(f"Switched to team '{row.get('name')}'.")


@app.command("list", epilog=examples("prime teams list", "prime teams list --output json"))
def list_(output: OutputOption = Format.table) -> None:
    """List your teams; the one that commands act for has a star."""
    from prime_core.config import load_config

    with _client() as client:
        rows = _all(client)
    if output is Format.json:
        out.json(rows)
        return
    if not rows:
        out.note("You are in no team. 'prime teams create NAME' makes one.")
        return
    current = load_config().team_id
    columns = ["", "TEAM", "NAME", "ROLE", "ID"]
    shown = [
        ["*" if current in (row["teamId"], row["slug"]) else "", row["slug"], row["name"], row["role"], row["teamId"]]
        for row in rows
    ]
    out.table(columns, shown)


@app.command(epilog=examples("prime teams members my-team", "prime teams members my-team --output json"))
def members(team: TeamArg, output: OutputOption = Format.table) -> None:
    """List who is in a team."""
    with _client() as client:
        rows = client.get(f"/teams/{_path(team)}/members").get("data") or []
    if output is Format.json:
        out.json(rows)
        return
    shown = [
        [row.get("userName"), row.get("name"), row.get("role"), row.get("userEmail"), str(row.get("joinedAt"))[:10]]
        for row in rows
    ]
    out.table(["USER", "NAME", "ROLE", "EMAIL", "SINCE"], shown)


@app.command(epilog=examples("prime teams create my-team", "prime teams create my-team --name 'My team'"))
def create(
    slug: Annotated[str, typer.Argument(metavar="TEAM", help="Lower-case letters, digits and inner '-'.")],
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="A name for people.")] = "",
    output: OutputOption = Format.table,
) -> None:
    """Make a team, which you own."""
    with _client() as client:
        row = client.post("/teams", {"slug": slug, "name": name})["data"]
    if output is Format.json:
        out.json(row)
        return
    out.success(f"Made the team {row['slug']} ({row['teamId']})")
    out.note(f"'prime teams add {row['slug']} USER' adds somebody, 'prime switch {row['slug']}' acts for it.")


@app.command(epilog=examples("prime teams add my-team ada", "prime teams add my-team ada --role admin"))
def add(
    team: TeamArg, user: UserArg, role: Annotated[Role, typer.Option("--role", help="What they may do.")] = Role.member
) -> None:
    """Add somebody to a team. Admins add members, owners anybody."""
    with _client() as client:
        row = client.post(f"/teams/{_path(team)}/members", {"user": user, "role": role.value})["data"]
    out.success(f"{row['userName']} is {_a(row['role'])} of {team}")


@app.command(epilog=examples("prime teams role my-team ada admin"))
def role(
    team: TeamArg, user: UserArg, role: Annotated[Role, typer.Argument(metavar="ROLE", help="owner, admin or member.")]
) -> None:
    """Give a member another role. Only owners may."""
    with _client() as client:
        row = client.patch(f"/teams/{_path(team)}/members/{_path(user)}", {"role": role.value})["data"]
    out.success(f"{row['userName']} is {_a(row['role'])} of {team}")


@app.command(epilog=examples("prime teams remove my-team ada"))
def remove(team: TeamArg, user: UserArg, yes: YesOption = False) -> None:
    """Remove somebody from a team. What they published in it stays."""
    confirm(f"Remove {user} from {team}?", yes)
    with _client() as client:
        client.delete(f"/teams/{_path(team)}/members/{_path(user)}")
    out.success(f"{user} is out of {team}")


@app.command(epilog=examples("prime teams leave my-team"))
def leave(team: TeamArg, yes: YesOption = False) -> None:
    """Leave a team. What you published in it stays."""
    confirm(f"Leave {team}?", yes)
    with _client() as client:
        row = client.get(f"/teams/{_path(team)}")["data"]
        me = client.get("/user/whoami")["data"]["id"]
        client.delete(f"/teams/{row['teamId']}/members/{me}")
    out.success(f"You have left {row['slug']}")
    _forget(row)


@app.command(epilog=examples("prime teams delete my-team"))
def delete(team: TeamArg, yes: YesOption = False) -> None:
    """Delete a team that has no environments, images and secrets. Only owners may."""
    with _client() as client:
        row = client.get(f"/teams/{_path(team)}")["data"]
        confirm(f"Delete the team {row['slug']}?", yes)
        client.delete(f"/teams/{row['teamId']}")
    out.success(f"Deleted the team {row['slug']}")
    _forget(row)


def _a(role: str) -> str:
    return f"{'a' if role == 'member' else 'an'} {role}"


def _path(word: str) -> str:
    from urllib.parse import quote

    return quote(word.strip(), safe="")


def _forget(row: dict[str, Any]) -> None:
    """Act for oneself again where this team was in force."""
    from prime_core.config import ConfigFile

    file = ConfigFile()
    if file.read().get("team_id") == row["teamId"] and not os.environ.get("PRIME_CONTEXT", "").strip():
        file.update(team_id=None, team_name=None, team_role=None)
        out.note("You act for yourself again.")
