"""`prime env`: changing what is published."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from prime_cli.asking import confirm, typed
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out

app = command_app("Change environments.")

OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
EnvArg = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="An environment of yours, or of a team's.")]
VersionArg = Annotated[
    str | None, typer.Argument(metavar="VERSION", help="The number, or the start of the content hash (8 characters).")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")]


class Visibility(StrEnum):
    """Who sees an environment on the Hub."""

    public = "PUBLIC"
    private = "PRIVATE"


def _done(output: Format, data: dict[str, Any], sentence: str) -> None:
    if output is Format.json:
        out.json(data)
    else:
        out.success(sentence)


@app.command(
    epilog=examples(
        "prime env yank alice/my-env@0.1.0",
        'prime env yank alice/my-env 0.1.0 --reason "rewards are wrong; use 0.1.1"',
    )
)
def yank(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="Which version.")],
    version: VersionArg = None,
    reason: Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Why; installers show it.")] = "",
    output: OutputFormat = Format.table,
) -> None:
    """Take a version back without deleting it. It is installed only where somebody asks for exactly this number."""
    from prime_cli.environments import managing

    reference = managing.one_version(env, version)
    data = managing.yank(reference, reason)
    _done(output, data, f"Yanked {managing.owner_name(data, reference)}@{data['version']}")


@app.command(epilog=examples("prime env unyank alice/my-env@0.1.0"))
def unyank(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="Which version.")],
    version: VersionArg = None,
    output: OutputFormat = Format.table,
) -> None:
    """Undo a yank."""
    from prime_cli.environments import managing

    reference = managing.one_version(env, version)
    data = managing.unyank(reference)
    _done(output, data, f"{managing.owner_name(data, reference)}@{data['version']} is not yanked any more")


@app.command(
    epilog=examples("prime env visibility alice/my-env PRIVATE", "prime env visibility alice/my-env public -o json")
)
def visibility(
    env: EnvArg,
    value: Annotated[
        Visibility, typer.Argument(metavar="PUBLIC|PRIVATE", case_sensitive=False, help="Everybody, or you only.")
    ],
    output: OutputFormat = Format.table,
) -> None:
    """Open an environment to all, or to you and your team alone."""
    from prime_cli.environments import managing
    from prime_cli.environments.naming import named

    reference = named(env)
    data = managing.set_visibility(reference, value.value)
    _done(output, data, f"{managing.owner_name(data, reference)} is {data['visibility']}")


@app.command(epilog=examples("prime env delete alice/my-env", "prime env delete alice/my-env --yes"))
def delete(env: EnvArg, yes: YesOption = False, output: OutputFormat = Format.table) -> None:
    """Delete an environment for good. All versions, their files, secrets and variables go; its numbers stay used."""
    from prime_cli.environments import managing
    from prime_cli.environments.naming import named

    reference = named(env)
    name = f"{reference.owner}/{reference.name}"
    typed(f"This deletes {name} with all its versions for good. Type {name} to go on:", name, yes)
    managing.delete(reference)
    _done(output, {"environment": name, "deleted": True}, f"Environment {name} deleted successfully")


def delete_version(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="Which version.")],
    version: VersionArg = None,
    yes: YesOption = False,
    output: OutputFormat = Format.table,
) -> None:
    """Delete one version for good. Its number is never given again; 'prime env yank' takes it back without deleting."""
    from prime_cli.environments import managing

    reference = managing.one_version(env, version)
    confirm(f"Delete {reference} for good?", yes)
    data = managing.delete_version(reference)
    name = managing.owner_name(data, reference)
    _done(output, data, f"Version {data['version']} deleted successfully from {name}")


ForkArg = Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="Any environment that you may see.")]
TeamOption = Annotated[
    str | None, typer.Option("--team", "-t", metavar="NAME", help="For this team. [the configured one, or yourself]")
]
FORK_HELP = """Copy an environment into your account, to change it there. A fork of a private one is private.

Neither secrets nor variables are copied."""


def fork(env: ForkArg, team: TeamOption = None, output: OutputFormat = Format.table) -> None:
    from prime_cli.environments import managing
    from prime_cli.environments.naming import named

    reference = named(env)
    data = managing.fork(reference, team)
    if output is Format.table:
        out.note(f"Fetch it with: prime env pull {data['slug']}")
    _done(output, data, f"Forked {reference.owner}/{reference.name} to {data['slug']}")


app.command(
    help=FORK_HELP, epilog=examples("prime env fork alice/my-env", "prime env fork alice/my-env@0.1.0 --team my-team")
)(fork)


@app.command(epilog=examples("prime env star alice/my-env", "prime env list --starred"))
def star(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Any environment that you may see.")],
    output: OutputFormat = Format.table,
) -> None:
    """Star an environment, so that it is found again."""
    from prime_cli.environments import managing
    from prime_cli.environments.naming import named

    reference = named(env)
    data = managing.star(reference, starred=True)
    _done(output, data, f"Starred {reference} ({_stars(data['stars'])})")


@app.command(epilog=examples("prime env unstar alice/my-env"))
def unstar(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="An environment that you have starred.")],
    output: OutputFormat = Format.table,
) -> None:
    """Take a star back."""
    from prime_cli.environments import managing
    from prime_cli.environments.naming import named

    reference = named(env)
    data = managing.star(reference, starred=False)
    _done(output, data, f"Took the star of {reference} back ({_stars(data['stars'])})")


def _stars(count: int) -> str:
    return f"{count} star{'' if count == 1 else 's'}"


@app.command(
    epilog=examples(
        "prime env transfer alice/my-env my-team         # from alice to a team of hers",
        "prime env transfer my-team/my-env alice --yes   # and back",
    )
)
def transfer(
    env: EnvArg,
    to: Annotated[str, typer.Argument(metavar="OWNER", help="A team of yours, or your own account.")],
    yes: YesOption = False,
    output: OutputFormat = Format.table,
) -> None:
    """Give an environment to a team, or take it from there. Its address changes; who installed it keeps what they have.

    Versions, stars, variables and the environment's own secrets go along. Links to account-wide secrets are cut.
    """
    from prime_cli.environments import managing
    from prime_cli.environments.naming import named

    reference = named(env)
    confirm(f"Make {to} the owner of {reference.owner}/{reference.name}?", yes)
    data = managing.transfer(reference, to)
    if data.get("links_cut"):
        out.warning(f"Links to {data['links_cut']} account-wide secrets of {data['former_owner']} were cut.")
    _done(output, data, f"Transferred {reference.owner}/{reference.name} to {managing.owner_name(data, reference)}")
