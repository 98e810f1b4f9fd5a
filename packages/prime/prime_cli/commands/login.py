"""`prime login`, `logout` and `whoami`: which account, on which Hub.

A key is tried against its Hub (`GET /user/whoami`, protocols/hub.md §2.2) before it is saved, and saved with the Hub's
address, since a key belongs to one Hub.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out
from prime_core.errors import APIError, ConfigError, NotAuthenticated, NotFound, Unauthorized

login_app = command_app("Log in to a Hub.", group=False)
logout_app = command_app("Forget the login.", group=False)
whoami_app = command_app("Show the account and the Hub in use.", group=False)


@login_app.command(
    epilog=examples(
        "prime login                                    # this machine's own Hub, started when needed",
        "prime login --base-url https://hub.example.org # opens a browser, where you approve it",
        "prime login --base-url URL --headless          # prints the address to open anywhere",
        "prime login --base-url URL --token-stdin < key.txt",
    )
)
def login(
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Log in to the Hub at this address.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no browser; the address can be opened on any machine.")
    ] = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read an API key from standard input, unseen at a terminal.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="This machine's own Hub, whatever is configured.")] = False,
    max_concurrent_sandboxes: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The key shall not have more sandboxes at once.")
    ] = None,
    max_sandbox_creations_per_hour: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Nor make more of them within an hour.")
    ] = None,
    max_sandbox_cpu_cores: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Nor give them more processors together.")
    ] = None,
) -> None:
    """Log in to a Hub: without options to the configured one, else to this machine's own, which asks for nothing.

    At another Hub you approve the login in a browser; or give an API key by --token-stdin or PRIME_API_KEY. The key is
    checked before it is saved. An earlier login to another Hub is kept as a saved context.
    """
    from prime_core.config import ConfigFile, clean_base_url, is_http_url, load_config
    from prime_core.connection import is_own_hub

    if local and base_url:
        raise typer.BadParameter("give either --local or --base-url, not both")
    temporary = os.environ.get("PRIME_CONTEXT", "").strip()
    if temporary:
        raise ConfigError(f"Temporary context '{temporary}' is read-only.", "Run it again without -c/PRIME_CONTEXT.")
    config = load_config()
    url = None if local else clean_base_url(base_url) or config.base_url
    if url and not is_http_url(url):
        raise ConfigError(f"The Hub's address '{url}' is not an http(s) URL.", "Give it as --base-url https://HOST.")
    own = url is None or is_own_hub(url)
    frontend = None if base_url or local or own else config.frontend_url
    limits = {
        "maxConcurrentSandboxes": max_concurrent_sandboxes,
        "maxSandboxCreationsPerHour": max_sandbox_creations_per_hour,
        "maxSandboxCpuCores": max_sandbox_cpu_cores,
    }
    asked = {name: amount for name, amount in limits.items() if amount is not None}
    if token_stdin:
        url = url or _own_hub()[0]
        key = _read_key(url)
    elif own:
        if asked:
            raise typer.BadParameter("limits are for another Hub's key; 'prime tokens create' makes lesser ones here")
        url, key = _own_hub()
    else:
        key = _key_of_another(str(url), frontend, headless, asked)
    user = _whoami(str(url), key)
    kept = ConfigFile().login(str(url), key, user, frontend)
    if kept:
        out.note(f"The earlier login is kept as context '{kept}' ('prime config use {kept}' goes back to it).")
    out.success(f"Logged in to {url} as {user.get('slug') or user.get('name')}")
    _say_teams(str(url), key)
    if os.environ.get("PRIME_API_KEY", "").strip() not in ("", key):
        out.warning("PRIME_API_KEY is set to another key, and is used instead of the saved one as long as it is set.")


def _own_hub() -> tuple[str, str]:
    """Address of this machine's own Hub, started when needed, and the token of its owner."""
    from prime_core import local_hub
    from prime_core.errors import LocalHubError

    address = local_hub.ensure_running(announce=out.note)
    token = local_hub.owner_token(address.data_dir)
    if token is None:
        raise LocalHubError(
            f"The owner's token of the Hub at {address.url} cannot be read from {address.data_dir / 'owner.token'}.",
            "Run it as the user who started that Hub, or give a key with --token-stdin.",
        )
    return address.url, token


def _read_key(url: str) -> str:
    """An API key from standard input; at a terminal it is asked for and not shown."""
    if sys.stdin.isatty():
        key = typer.prompt(f"API key for {url}", hide_input=True, err=True).strip()
    else:
        key = sys.stdin.read().strip()
    if not key:
        raise NotAuthenticated(
            "Standard input held no API key.", "Pipe the key in: prime login --base-url URL --token-stdin < key.txt"
        )
    return key


def _key_of_another(url: str, frontend: str | None, headless: bool, limits: dict[str, int]) -> str:
    """The key for another Hub: PRIME_API_KEY, else one that somebody approves in a browser."""
    key = os.environ.get("PRIME_API_KEY", "").strip()
    if key and not headless:
        return key
    if not headless and not sys.stdin.isatty():
        raise NotAuthenticated(
            f"An API key is needed to log in to {url}, and there is no terminal to ask at.",
            f"Pipe the key in: prime login --base-url {url} --token-stdin < key.txt\n"
            f"Or approve it in a browser anywhere: prime login --base-url {url} --headless",
        )
    from prime_cli.challenge import log_in

    return log_in(url, frontend or url, headless, limits)


def _whoami(url: str, key: str | None, team_id: str | None = None) -> dict[str, Any]:
    from prime_core.api import APIClient

    with APIClient(url, key) as client:
        data = client.get("/user/whoami", {"teamId": team_id}).get("data")
    if not isinstance(data, dict):
        raise APIError(f"{url} answered whoami without an account, so it may not be a Hub.", hint="Check the address.")
    return data


def _say_teams(url: str, key: str) -> None:
    """Which teams one may act for; a Hub that does not tell is none the worse."""
    from prime_core.api import APIClient

    try:
        with APIClient(url, key) as client:
            rows = client.get("/user/teams", {"limit": 100}).get("data")
    except APIError:
        return
    slugs = [str(row.get("slug")) for row in rows or [] if isinstance(row, dict)]
    if slugs:
        out.note(f"You are in {', '.join(slugs)}; 'prime switch {slugs[0]}' acts for a team.")


@logout_app.command(epilog=examples("prime logout", "prime logout --revoke   # the key ends, too"))
def logout(
    revoke: Annotated[bool, typer.Option("--revoke", help="End the API key at its Hub, too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", hidden=True)] = False,
) -> None:
    """Forget the saved API key and account. The Hub's address and saved contexts stay; so does the key, without --revoke."""
    from prime_core.config import ConfigFile

    file = ConfigFile()
    if revoke:
        file.update()  # raises under a temporary context, before anything is revoked
        _revoke()
    if file.logout():
        out.success("Logged out, and the API key is revoked." if revoke else "Logged out.")
        if not revoke:
            out.note("The API key itself still holds; 'prime tokens revoke', or 'logout --revoke' next time, ends one.")
    else:
        out.note("There was no login.")
    if os.environ.get("PRIME_API_KEY", "").strip():
        out.warning("PRIME_API_KEY is set, and is used as long as it is set.")


def _revoke() -> None:
    """End the saved key at the Hub that it was saved for, whatever variables say."""
    from prime_core.api import APIClient
    from prime_core.config import load_config
    from prime_core.connection import connect

    ignored = ("PRIME_API_KEY", "PRIME_API_BASE_URL", "PRIME_BASE_URL")
    saved = load_config({name: value for name, value in os.environ.items() if name not in ignored})
    if not saved.api_key:
        return
    connection = connect(announce=out.note, config=saved)
    with APIClient(connection.base_url, connection.api_key) as client:
        try:
            client.delete("/tokens/current")
        except Unauthorized:
            out.note("The Hub did not know the key any more.")


@whoami_app.command(epilog=examples("prime whoami", "prime whoami --output json", "prime -c team-hub whoami"))
def whoami(
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table,
) -> None:
    """Show the account that the key belongs to, what the key may do, the team in force, and the Hub."""
    from prime_core.connection import connect

    connection = connect(announce=out.note)
    try:
        user = _whoami(connection.base_url, connection.api_key, connection.team_id)
    except NotFound as error:
        error.hint = "Run 'prime switch personal' to act for yourself, or 'prime teams list' to see your teams."
        raise
    if output is Format.json:
        out.json({**user, "base_url": connection.base_url})
        return
    team = user.get("team") or {}
    limits = {**(user.get("account_limits") or {}), **(user.get("key_limits") or {})}
    out.fields(
        {
            "Username": user.get("slug"),
            "Name": user.get("name"),
            "Email": user.get("email"),
            "User ID": user.get("id"),
            "Team": f"{team.get('name')} ({team.get('slug')}), {team.get('role')}" if team else None,
            "Team ID": team.get("teamId"),
            "Key may": _scope(user.get("scope")),
            "Limits": ", ".join(f"{name}={value}" for name, value in limits.items()) or None,
            "Hub": connection.base_url,
        }
    )


def _scope(scope: object) -> str:
    """`environments:read, images:write`; everything without a scope."""
    if not isinstance(scope, dict):
        return "do everything"
    areas = [
        f"{area}:{'write' if level.get('write') else 'read'}"
        for area, level in scope.items()
        if isinstance(level, dict) and (level.get("read") or level.get("write"))
    ]
    return ", ".join(areas) or "do nothing"
