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
from prime_core.errors import ConfigError, NotAuthenticated

login_app = command_app("Log in to a Hub.", group=False)
logout_app = command_app("Forget the login.", group=False)
whoami_app = command_app("Show the account and the Hub in use.", group=False)


@login_app.command(
    epilog=examples(
        "prime login                                    # this machine's own Hub, started when needed",
        "prime login --base-url https://hub.example.org # asks for an API key without showing it",
        "prime login --base-url URL --token-stdin < key.txt",
    )
)
def login(
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="Log in to the Hub at this address.")
    ] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read the API key from standard input.")] = False,
    local: Annotated[bool, typer.Option("--local", help="This machine's own Hub, whatever is configured.")] = False,
) -> None:
    """Log in to a Hub: without options to the configured one, else to this machine's own, which asks for nothing.

    For another Hub give --base-url, and an API key by --token-stdin, PRIME_API_KEY or at the prompt. The key is checked
    before it is saved. An earlier login to another Hub is kept as a saved context.
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
    if own and not token_stdin:
        url, key = _own_hub()
    else:
        url, key = url or _own_hub()[0], _read_key(token_stdin, url)
    user = _whoami(url, key)
    kept = ConfigFile().login(url, key, user, frontend)
    if kept:
        out.note(f"The earlier login is kept as context '{kept}' ('prime config use {kept}' goes back to it).")
    out.success(f"Logged in to {url} as {user.get('slug') or user.get('name')}")
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


def _read_key(token_stdin: bool, url: str | None) -> str:
    """The API key for another Hub: standard input, PRIME_API_KEY, or a prompt that does not show it."""
    if token_stdin:
        key = sys.stdin.read().strip()
        if not key:
            raise NotAuthenticated(
                "Standard input held no API key.", "Pipe the key in: prime login --base-url URL --token-stdin < key.txt"
            )
        return key
    key = os.environ.get("PRIME_API_KEY", "").strip()
    if key:
        return key
    if not sys.stdin.isatty():
        raise NotAuthenticated(
            f"An API key is needed to log in to {url}, and there is no terminal to ask for it.",
            f"Pipe the key in: prime login --base-url {url} --token-stdin < key.txt",
        )
    key = typer.prompt(f"API key for {url}", hide_input=True, err=True).strip()
    if not key:
        raise NotAuthenticated(
            "No API key was given.", "An account's key is made by the Hub's operator with 'prime hub user add NAME'."
        )
    return key


def _whoami(url: str, key: str | None) -> dict[str, Any]:
    from prime_core.api import APIClient
    from prime_core.errors import APIError

    with APIClient(url, key) as client:
        data = client.get("/user/whoami").get("data")
    if not isinstance(data, dict):
        raise APIError(f"{url} answered whoami without an account, so it may not be a Hub.", hint="Check the address.")
    return data


@logout_app.command(epilog=examples("prime logout"))
def logout() -> None:
    """Forget the saved API key and account. The Hub's address and saved contexts stay; the key itself stays valid."""
    from prime_core.config import ConfigFile

    if ConfigFile().logout():
        out.success("Logged out.")
    else:
        out.note("There was no login.")
    if os.environ.get("PRIME_API_KEY", "").strip():
        out.warning("PRIME_API_KEY is set, and is used as long as it is set.")


@whoami_app.command(epilog=examples("prime whoami", "prime whoami --output json", "prime -c team-hub whoami"))
def whoami(
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table,
) -> None:
    """Show the account that the saved key belongs to, and the Hub."""
    from prime_core.connection import connect

    connection = connect(announce=out.note)
    user = _whoami(connection.base_url, connection.api_key)
    if output is Format.json:
        out.json({**user, "base_url": connection.base_url})
        return
    out.fields(
        {
            "Username": user.get("slug"),
            "Name": user.get("name"),
            "Email": user.get("email"),
            "User ID": user.get("id"),
            "Hub": connection.base_url,
        }
    )
