"""`prime config`: the file `~/.prime/config.json`, variables that override it, saved contexts (protocols/hub.md §1).

The file is shared with the official command. A key is bound to the address it was saved with, so changing the address
says what becomes of the key.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer

from prime_cli.asking import confirm
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, masked, out
from prime_core.errors import ConfigError, NotFound

app = command_app("See and change the configuration, save and use contexts.")

# What `config view` shows: name → (field of the file, variables that override it, best first)
SHOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "Hub": ("base_url", ("PRIME_API_BASE_URL", "PRIME_BASE_URL")),
    "Pages": ("frontend_url", ("PRIME_FRONTEND_URL",)),
    "API key": ("api_key", ("PRIME_API_KEY",)),
    "User": ("user_name", ()),
    "User ID": ("user_id", ("PRIME_USER_ID",)),
    "Team ID": ("team_id", ("PRIME_TEAM_ID",)),
    "Inference": ("inference_url", ("PRIME_INFERENCE_URL",)),
}


@app.command(epilog=examples("prime config view", "prime config view --output json"))
def view(output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table) -> None:
    """Show the configuration in force. Variables come first, then the context, then the file. Keys are masked."""
    from prime_core.config import ConfigFile, load_config

    config = load_config()
    values: dict[str, str | None] = {field: getattr(config, field) for field, _ in SHOWN.values()}
    values["api_key"] = masked(config.api_key)
    if output is Format.json:
        out.json({"context": config.context or _current(), **values, "file": str(ConfigFile().path)})
        return
    shown: dict[str, Any] = {"Context": config.context or _current()}
    for name, (field, variables) in SHOWN.items():
        source = next((variable for variable in variables if os.environ.get(variable, "").strip()), None)
        value = values[field] or ("this machine's own" if field == "base_url" else None)
        shown[name] = f"{value}  (from {source})" if value and source else value
    out.fields({**shown, "File": ConfigFile().path})


def _current() -> str:
    from prime_core.config import DEFAULT_CONTEXT, ConfigFile

    return str(ConfigFile().read().get("current_environment") or DEFAULT_CONTEXT)


@app.command("set-api-key", epilog=examples("prime config set-api-key KEY", "prime config set-api-key < key.txt"))
def set_api_key(
    key: Annotated[
        str | None, typer.Argument(help="The key; left out, it is read from standard input or a hidden prompt.")
    ] = None,
) -> None:
    """Save an API key for the configured Hub. `prime login` does the same and checks the key first."""
    import sys

    from prime_core.config import ConfigFile, load_config
    from prime_core.connection import connect

    if key is None:
        key = typer.prompt("API key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    key = (key or "").strip()
    if not key:
        raise ConfigError(
            "No API key was given.", "Run 'prime config set-api-key KEY', or 'prime logout' to forget the saved one."
        )
    file, config = ConfigFile(), load_config()
    # The key is bound to an address; with none configured that is this machine's own Hub, which so gets written down.
    url = config.base_url or connect(require_auth=False, announce=out.note).base_url
    file.update(api_key=key, base_url=url, user_id=None, user_name=None, team_id=None, team_name=None, team_role=None)
    out.data(f"API key {masked(key)} configured successfully!")
    out.note(f"It is for {url} only; 'prime whoami' checks it.")


@app.command("set-base-url", epilog=examples("prime config set-base-url https://hub.example.org"))
def set_base_url(url: Annotated[str, typer.Argument(help="The Hub's address, with or without /api/v1.")]) -> None:
    """Set the Hub's address. A key that was saved for another address is kept as a context and not sent to this one."""
    from prime_core.config import ACCOUNT_FIELDS, ConfigFile, clean_base_url

    _check_url(url)
    file = ConfigFile()
    saved, clean = file.read(), clean_base_url(url)
    before = clean_base_url(saved.get("base_url"))
    fields: dict[str, Any] = {"base_url": clean}
    if before != clean:
        fields |= dict.fromkeys(("frontend_url", *ACCOUNT_FIELDS))
        file.update()  # raises under a temporary context, before anything is kept
        if saved.get("api_key") and before:
            out.note(f"The login to {before} is kept as context '{file.contexts().keep(saved)}'.")
    file.update(**fields)
    out.data(f"Base URL set to: {url}")
    if not file.read().get("api_key"):
        out.note("Run 'prime login' to log in there.")


@app.command("set-frontend-url", epilog=examples("prime config set-frontend-url https://hub.example.org"))
def set_frontend_url(url: Annotated[str, typer.Argument(help="Address of the Hub's pages, for links.")]) -> None:
    """Set the address of the Hub's pages. Links begin with it, where it is not the Hub's own."""
    from prime_core.config import ConfigFile, clean_base_url

    _check_url(url)
    ConfigFile().update(frontend_url=clean_base_url(url))
    out.data(f"Frontend URL set to: {url}")


@app.command("set-inference-url", epilog=examples("prime config set-inference-url http://127.0.0.1:8000/v1"))
def set_inference_url(url: Annotated[str, typer.Argument(help="An OpenAI-compatible address, used as it is.")]) -> None:
    """Set the address of the inference service."""
    from prime_core.config import ConfigFile

    _check_url(url)
    ConfigFile().update(inference_url=url.strip())
    out.data(f"Inference URL set to: {url}")


@app.command("set-team-id", epilog=examples("prime config set-team-id cm1234567890abcdefghijklm"))
def set_team_id(team_id: Annotated[str, typer.Argument(help="The team's id; '' for none.")]) -> None:
    """Act for a team. What is pushed without --owner, and what is started, belongs to it."""
    from prime_cli.commands.teams import my_teams
    from prime_core.config import ConfigFile

    team_id = team_id.strip()
    if team_id and not re.fullmatch(r"c[a-z0-9]{24}", team_id):
        raise ConfigError(
            f"'{team_id}' is not a team's id.", "An id is a 'c' and 24 lower-case letters and digits; '' removes it."
        )
    if not team_id:
        ConfigFile().update(team_id=None, team_name=None, team_role=None)
        out.data("Team ID removed.")
        return
    ConfigFile().update()  # raises under a temporary context, before the Hub is asked
    rows = my_teams()
    row = next((one for one in rows if one.get("teamId") == team_id), None)
    if row is None:
        known = ", ".join(f"{one['slug']} ({one['teamId']})" for one in rows)
        raise NotFound(f"You are in no team with the id {team_id}.", 404, hint=f"Your teams: {known or 'none'}.")
    ConfigFile().update(team_id=team_id, team_name=row.get("name"), team_role=row.get("role"))
    out.data(f"Team ID set to: {team_id}")
    out.note(f"That is {row.get('name')} ({row.get('slug')}), where you are {row.get('role')}.")


@app.command("remove-team-id", epilog=examples("prime config remove-team-id"))
def remove_team_id() -> None:
    """Act for yourself again."""
    from prime_core.config import ConfigFile

    ConfigFile().update(team_id=None, team_name=None, team_role=None)
    out.data("Team ID removed.")


@app.command(epilog=examples("prime config save team-hub"))
def save(name: Annotated[str, typer.Argument(help="Letters, digits, '-' and '_'.")]) -> None:
    """Save the configuration under a name. `prime -c NAME` and `prime config use NAME` take it from there."""
    from prime_core.config import ConfigFile

    ConfigFile().contexts().save(name)
    out.success(f"Saved context '{name}'")


@app.command(
    epilog=examples("prime config use team-hub", "prime config use production   # nothing set: this machine's own Hub")
)
def use(name: Annotated[str, typer.Argument(help="A saved context.")]) -> None:
    """Make a saved context the configuration. The login it replaces is kept as a context too."""
    from prime_core.config import ConfigFile

    file = ConfigFile()
    contexts, saved = file.contexts(), file.read()
    contexts.read(name)
    file.update()
    if saved.get("api_key") and not _is_saved(saved):
        out.note(f"The login it replaces is kept as context '{contexts.keep(saved)}'.")
    contexts.use(name)
    out.success(f"Using context '{name}'")


def _is_saved(fields: dict[str, Any]) -> bool:
    """Whether a context with this Hub and key exists."""
    from prime_core.config import ConfigFile

    contexts = ConfigFile().contexts()
    saved = [contexts.read(name) for name in contexts.list()]
    return any(all(one.get(field) == fields.get(field) for field in ("base_url", "api_key")) for one in saved)


@app.command(epilog=examples("prime config delete team-hub"))
def delete(name: Annotated[str, typer.Argument(help="A saved context.")]) -> None:
    """Delete a saved context, with the key in it."""
    from prime_core.config import ConfigFile

    ConfigFile().contexts().delete(name)
    out.success(f"Deleted context '{name}'")


@app.command(epilog=examples("prime config envs", "prime config envs --output json"))
def envs(output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table) -> None:
    """List the saved contexts; the one in use has a star."""
    from prime_core.config import ConfigFile

    contexts = ConfigFile().contexts()
    current = os.environ.get("PRIME_CONTEXT", "").strip() or _current()
    rows = [(name, contexts.read(name)) for name in contexts.list()]
    if output is Format.json:
        out.json(
            [
                {
                    "name": name,
                    "current": name == current,
                    "base_url": fields.get("base_url"),
                    "user_name": fields.get("user_name"),
                }
                for name, fields in rows
            ]
        )
        return
    out.table(
        ["", "NAME", "HUB", "USER"],
        [
            [
                "*" if name == current else "",
                name,
                fields.get("base_url") or "this machine's own",
                fields.get("user_name"),
            ]
            for name, fields in rows
        ],
    )


@app.command(epilog=examples("prime config reset --yes"))
def reset(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Empty the configuration. Without key and address this machine's own Hub is meant. Saved contexts stay."""
    from prime_core.config import ConfigFile

    file = ConfigFile()
    confirm(f"Empty {file.path}?", yes)
    file.update(**dict.fromkeys(file.read()))
    out.success("Configuration emptied")


def _check_url(url: str) -> None:
    from prime_core.config import is_http_url

    if not is_http_url(url):
        raise ConfigError(
            f"'{url}' is not an http(s) URL.", "Give it with its scheme, for example https://hub.example.org."
        )
