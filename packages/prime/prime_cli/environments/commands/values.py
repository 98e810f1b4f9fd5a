"""`prime env secret` and `prime env var`: what an environment gives to its sandboxes.

A secret goes in and is never shown again; best by --value-stdin or the prompt, since a shell remembers what was typed.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from prime_cli.asking import confirm
from prime_cli.environments import values
from prime_cli.environments.values import Place, of
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out

secret_app = command_app("Keep secrets of an environment, which its sandboxes get.")
variable_app = command_app("Keep variables of an environment, which its sandboxes get.")

EnvArg = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="An environment of yours, or of a team's.")]
NameOption = Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="Capital letters, digits and '_'.")]
WhichOption = Annotated[str | None, typer.Option("--name", "-n", metavar="NAME", help="Which one.")]
IdOption = Annotated[str | None, typer.Option("--id", metavar="ID", help="Which one, by its id.")]
ValueOption = Annotated[str | None, typer.Option("--value", "-v", metavar="TEXT", help="The value. [asked for]")]
StdinOption = Annotated[bool, typer.Option("--value-stdin", help="Read the value from standard input.")]
AboutOption = Annotated[str | None, typer.Option("--description", "-d", metavar="TEXT", help="What it is for.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")]
OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


def list_values(place: Place, output: Format, columns: dict[str, str]) -> None:
    """Print what is there."""
    rows = values.all_of(place)
    if output is Format.json:
        out.json(rows)
    elif rows:
        out.table(list(columns), [[row.get(key) for key in columns.values()] for row in rows])
    else:
        out.note(f"No {place.kind}s found.")


def create_value(place: Place, name: str, value: str | None, stdin: bool, about: str | None, output: Format) -> None:
    """Store a new one, with a value that was given or is asked for."""
    given = values.given_value(value, stdin, secret=place.kind == "secret", ask=True, name=name)
    _show(values.create(place, name, given or "", about), output, f"Created {place.kind} {name} for {place}")


def update_value(
    place: Place,
    name: str | None,
    row_id: str | None,
    value: str | None,
    stdin: bool,
    about: str | None,
    output: Format,
) -> None:
    """Change one."""
    _which(name, row_id)
    secret = place.kind == "secret"
    given = values.given_value(value, stdin, secret=secret, ask=secret and about is None, name=name or row_id)
    fields = {key: field for key, field in (("value", given), ("description", about)) if field is not None}
    row = values.update(place, name, row_id, fields)
    _show(row, output, f"Updated {place.kind} {row['name']} of {place}")


def delete_value(place: Place, name: str | None, row_id: str | None, yes: bool, output: Format) -> None:
    """Delete one, after asking."""
    _which(name, row_id)
    confirm(f"Delete {place.kind} {name or row_id} of {place}?", yes)
    gone = values.delete(place, name, row_id)
    _show({"deleted": gone}, output, f"Deleted {place.kind} {gone} of {place}")


def _which(name: str | None, row_id: str | None) -> None:
    if (name is None) == (row_id is None):
        raise typer.BadParameter("say which one, with either --name or --id")


def _show(data: dict[str, Any], output: Format, sentence: str) -> None:
    if output is Format.json:
        out.json(data)
    else:
        out.success(sentence)


SECRETS = {"NAME": "name", "SOURCE": "source", "DESCRIPTION": "description", "CHANGED": "updatedAt", "ID": "id"}
VARIABLES = {"NAME": "name", "VALUE": "value", "DESCRIPTION": "description", "CHANGED": "updatedAt", "ID": "id"}


@secret_app.command("list", epilog=examples("prime env secret list alice/my-env"))
def secret_list(env: EnvArg, output: OutputFormat = Format.table) -> None:
    """List the names of an environment's secrets, linked ones too."""
    list_values(of("secret", env), output, SECRETS)


@secret_app.command(
    "create",
    epilog=examples(
        "prime env secret create alice/my-env -n API_KEY                  # asks for the value",
        "prime env secret create alice/my-env -n API_KEY --value-stdin < key.txt",
    ),
)
def secret_create(
    env: EnvArg,
    name: NameOption,
    value: ValueOption = None,
    value_stdin: StdinOption = False,
    description: AboutOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Store a secret for an environment."""
    create_value(of("secret", env), name, value, value_stdin, description, output)


@secret_app.command(
    "update", epilog=examples("prime env secret update alice/my-env -n API_KEY --value-stdin < key.txt")
)
def secret_update(
    env: EnvArg,
    name: WhichOption = None,
    row_id: IdOption = None,
    value: ValueOption = None,
    value_stdin: StdinOption = False,
    description: AboutOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Give a secret another value or description. Sandboxes that run keep the old one."""
    update_value(of("secret", env), name, row_id, value, value_stdin, description, output)


@secret_app.command("delete", epilog=examples("prime env secret delete alice/my-env -n API_KEY --yes"))
def secret_delete(
    env: EnvArg,
    name: WhichOption = None,
    row_id: IdOption = None,
    yes: YesOption = False,
    output: OutputFormat = Format.table,
) -> None:
    """Delete a secret of an environment."""
    delete_value(of("secret", env), name, row_id, yes, output)


SecretArg = Annotated[str, typer.Argument(metavar="SECRET", help="The account-wide secret, by name or id.")]


@secret_app.command(
    "link", epilog=examples("prime secret create -n HF_TOKEN", "prime env secret link alice/my-env HF_TOKEN")
)
def secret_link(env: EnvArg, secret: SecretArg, output: OutputFormat = Format.table) -> None:
    """Let an environment have an account-wide secret of its owner, too."""
    place = of("secret", env)
    row = values.link(place, secret, linked=True)
    _show(row, output, f"Linked {place} to {row['name']}")


@secret_app.command("unlink", epilog=examples("prime env secret unlink alice/my-env HF_TOKEN"))
def secret_unlink(env: EnvArg, secret: SecretArg, output: OutputFormat = Format.table) -> None:
    """Cut that link."""
    place = of("secret", env)
    row = values.link(place, secret, linked=False)
    _show(row, output, f"{place} is not linked to {row['name']} any more")


@variable_app.command("list", epilog=examples("prime env var list alice/my-env --output json"))
def variable_list(env: EnvArg, output: OutputFormat = Format.table) -> None:
    """List an environment's variables."""
    list_values(of("variable", env), output, VARIABLES)


@variable_app.command("create", epilog=examples("prime env var create alice/my-env -n LEVEL -v 3"))
def variable_create(
    env: EnvArg,
    name: NameOption,
    value: ValueOption = None,
    value_stdin: StdinOption = False,
    description: AboutOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Set a variable of an environment."""
    create_value(of("variable", env), name, value, value_stdin, description, output)


@variable_app.command("update", epilog=examples("prime env var update alice/my-env -n LEVEL -v 4"))
def variable_update(
    env: EnvArg,
    name: WhichOption = None,
    row_id: IdOption = None,
    value: ValueOption = None,
    value_stdin: StdinOption = False,
    description: AboutOption = None,
    output: OutputFormat = Format.table,
) -> None:
    """Give a variable another value or description."""
    update_value(of("variable", env), name, row_id, value, value_stdin, description, output)


@variable_app.command("delete", epilog=examples("prime env var delete alice/my-env -n LEVEL --yes"))
def variable_delete(
    env: EnvArg,
    name: WhichOption = None,
    row_id: IdOption = None,
    yes: YesOption = False,
    output: OutputFormat = Format.table,
) -> None:
    """Delete a variable of an environment."""
    delete_value(of("variable", env), name, row_id, yes, output)
