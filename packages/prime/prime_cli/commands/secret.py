"""`prime secret`: secrets of an account or a team, which its environments can be linked to."""

from __future__ import annotations

from typing import Annotated

import typer

from prime_cli.environments.commands.values import (
    AboutOption,
    IdOption,
    NameOption,
    OutputFormat,
    StdinOption,
    ValueOption,
    WhichOption,
    YesOption,
    create_value,
    delete_value,
    list_values,
    update_value,
)
from prime_cli.environments.values import Place
from prime_cli.groups import command_app, examples
from prime_cli.output import Format

app = command_app("Keep secrets that several of your environments use ('prime env secret link').")

TeamOption = Annotated[str | None, typer.Option("--team", "-t", metavar="NAME", help="Of this team.")]
COLUMNS = {"NAME": "name", "DESCRIPTION": "description", "CHANGED": "updatedAt", "ID": "id"}


@app.command("list", epilog=examples("prime secret list", "prime secret list --team my-team"))
def list_(team: TeamOption = None, output: OutputFormat = Format.table) -> None:
    """List the names of your secrets, or of a team's."""
    list_values(Place("secret", team=team), output, COLUMNS)


@app.command(
    "create",
    epilog=examples("prime secret create -n HF_TOKEN", "prime secret create -n HF_TOKEN --value-stdin < key.txt"),
)
def create(
    name: NameOption,
    value: ValueOption = None,
    value_stdin: StdinOption = False,
    description: AboutOption = None,
    team: TeamOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Store a secret that your environments can be linked to. Only those that are linked get it."""
    create_value(Place("secret", team=team), name, value, value_stdin, description, output)


@app.command("update", epilog=examples("prime secret update -n HF_TOKEN --value-stdin < key.txt"))
def update(
    name: WhichOption = None,
    row_id: IdOption = None,
    value: ValueOption = None,
    value_stdin: StdinOption = False,
    description: AboutOption = None,
    team: TeamOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Give a secret another value or description."""
    update_value(Place("secret", team=team), name, row_id, value, value_stdin, description, output)


@app.command("delete", epilog=examples("prime secret delete -n HF_TOKEN --yes"))
def delete(
    name: WhichOption = None,
    row_id: IdOption = None,
    yes: YesOption = False,
    team: TeamOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Delete a secret, and with it the links to it."""
    delete_value(Place("secret", team=team), name, row_id, yes, output)
