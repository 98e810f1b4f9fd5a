"""`prime tokens`: the API keys of this account at its Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from prime_cli.asking import confirm
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out
from prime_core.errors import NotFound, PrimeError

if TYPE_CHECKING:
    from prime_core.api import APIClient

app = command_app("API keys of your account: what programs log in with.")

OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
AREAS = "environments, images, sandboxes, evaluations, account"


def _client() -> APIClient:
    from prime_core.api import APIClient
    from prime_core.connection import connect

    connection = connect(announce=out.note)
    return APIClient(connection.base_url, connection.api_key)


@app.command("list", epilog=examples("prime tokens list", "prime tokens list --output json"))
def list_(output: OutputOption = Format.table) -> None:
    """List the keys that hold; the one in use has a star. A key itself is shown only when it is made."""
    with _client() as client:
        rows = client.get("/tokens").get("data") or []
    if output is Format.json:
        out.json(rows)
        return
    if not rows:
        out.note("There is no API key.")
        return
    out.table(
        ["", "ID", "NAME", "KEY", "MAY", "MADE", "USED", "ENDS"],
        [
            [
                "*" if row.get("current") else "",
                row["id"],
                row["name"],
                f"…{row.get('hint') or ''}",
                _scopes(row.get("scopes")),
                _day(row.get("createdAt")),
                _day(row.get("lastUsedAt")) or "never",
                _day(row.get("expiresAt")) or "never",
            ]
            for row in rows
        ],
    )


@app.command(
    epilog=examples(
        "prime tokens create laptop",
        "prime tokens create ci --scope environments:write --scope images:write --days 90",
        "prime tokens create ci --output json",
    )
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, to know it again.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", "-s", metavar="AREA:LEVEL", help=f"read or write in {AREAS}; may be repeated. [all]"),
    ] = None,
    days: Annotated[int | None, typer.Option("--days", metavar="N", min=1, help="It ends then. [never]")] = None,
    output: OutputOption = Format.table,
) -> None:
    """Make a key. It is printed once, alone on stdout; the Hub keeps a hash."""
    scopes = dict(_pair(word) for word in scope or []) or None
    with _client() as client:
        row = client.post("/tokens", {"name": name, "scopes": scopes, "days": days})["data"]
    if output is Format.json:
        out.json(row)
        return
    out.data(row["token"])
    out.note(f"This is the key '{row['name']}' ({_scopes(row.get('scopes'))}); it is shown only now.")


@app.command(epilog=examples("prime tokens revoke ci", "prime tokens revoke 3f2a9c0d1e2b3a4c5d6e7f80 --yes"))
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name where only one has it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")] = False,
) -> None:
    """End a key at once."""
    with _client() as client:
        row = _find(client.get("/tokens").get("data") or [], token)
        this = " It is the one in use here." if row.get("current") else ""
        confirm(f"Revoke the key '{row['name']}' (…{row.get('hint')})?{this}", yes)
        client.delete(f"/tokens/{row['id']}")
    out.success(f"Revoked the key '{row['name']}'")


def _find(rows: list[dict[str, Any]], word: str) -> dict[str, Any]:
    named = [row for row in rows if row["id"] == word] or [row for row in rows if row["name"] == word]
    if not named:
        raise NotFound(f"You have no API key '{word}'.", 404, hint="Run 'prime tokens list' to see those there are.")
    if len(named) > 1:
        ids = ", ".join(row["id"] for row in named)
        raise PrimeError(f"{len(named)} keys have the name '{word}': {ids}.", "Name one by its id.")
    return named[0]


def _pair(word: str) -> tuple[str, str]:
    area, colon, level = word.partition(":")
    if not colon or level not in ("read", "write"):
        raise typer.BadParameter(f"'{word}' is not AREA:read or AREA:write", param_hint="--scope")
    return area, level


def _scopes(scopes: object) -> str:
    if not isinstance(scopes, dict):
        return "everything"
    return ", ".join(f"{area}:{level}" for area, level in sorted(scopes.items()))


def _day(moment: object) -> str:
    return str(moment)[:10] if moment else ""
