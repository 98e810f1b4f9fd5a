"""`prime env`: looking up what the Hub has."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from prime_cli.environments.commands.change import Visibility, delete_version
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out

app = command_app("Look up environments.")
version_app = command_app("List and delete versions of an environment.")

OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
EnvArg = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="An environment of the Hub.")]
VersionedArg = Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="An environment of the Hub.")]


class Sort(StrEnum):
    """What a list is sorted by."""

    relevance = "relevance"
    name = "name"
    created_at = "created_at"
    updated_at = "updated_at"
    stars = "stars"


class Order(StrEnum):
    """Upwards or downwards."""

    asc = "asc"
    desc = "desc"


@app.command(
    "list",
    epilog=examples(
        "prime env list",
        "prime env list --search maths --sort stars",
        "prime env list --owner alice --output json",
        "prime env list --starred",
    ),
)
def list_(
    search: Annotated[
        str | None, typer.Option("--search", "-s", help="Words in name, owner, description, tags or README.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="NAME", help="Of this account only.")] = None,
    visibility: Annotated[
        Visibility | None, typer.Option("--visibility", case_sensitive=False, help="Only public or private ones.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", metavar="TAG", help="With this tag; may be repeated.")
    ] = None,
    sort: Annotated[
        Sort | None,
        typer.Option("--sort", help="What to sort by.", show_default="relevance of a search, else updated_at"),
    ] = None,
    order: Annotated[Order, typer.Option("--order", help="Upwards or downwards.")] = Order.desc,
    starred: Annotated[bool, typer.Option("--starred", help="Only those you have starred.")] = False,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own and your teams'.")] = False,
    limit: Annotated[
        int, typer.Option("--num", "-n", "--limit", metavar="N", min=1, max=250, help="How many a page.")
    ] = 20,
    page: Annotated[int, typer.Option("--page", "-p", metavar="N", min=1, help="Which page, from 1.")] = 1,
    output: OutputFormat = Format.table,
) -> None:
    """List the environments of the Hub that you may see."""
    from prime_cli.environments.catalogue import list_environments

    list_environments(
        out,
        search=search,
        owner=owner,
        visibility=visibility.value if visibility else None,
        tags=tag or [],
        mine=mine,
        starred=starred,
        sort=sort.value if sort else None,
        order=order.value,
        limit=limit,
        page=page,
        as_json=output is Format.json,
    )


@app.command(epilog=examples("prime env info alice/my-env", "prime env info alice/my-env@0.1.0 --output json"))
def info(
    env: VersionedArg,
    version: Annotated[
        str | None, typer.Option("--version", "-v", metavar="VERSION", help="This version, where the name has none.")
    ] = None,
    output: OutputFormat = Format.table,
) -> None:
    """Show one environment: description, tags, version, its page."""
    from prime_cli.environments.catalogue import show_environment
    from prime_cli.environments.managing import one_version
    from prime_cli.environments.naming import named

    reference = named(env) if version in (None, "latest") else one_version(env, version)
    show_environment(out, reference, as_json=output is Format.json)


@app.command(epilog=examples("prime env status alice/my-env", "prime env status alice/my-env --output json"))
def status(env: EnvArg, output: OutputFormat = Format.table) -> None:
    """Show an environment's newest version, who sees it, its stars."""
    from prime_cli.environments.looking import show_status
    from prime_cli.environments.naming import named

    show_status(out, named(env), as_json=output is Format.json)


@app.command(
    epilog=examples(
        "prime env inspect alice/my-env                    # what is at the top",
        "prime env inspect alice/my-env README.md",
        "prime env inspect alice/my-env@0.1.0 proj --output json",
    )
)
def inspect(
    env: VersionedArg,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or folder of it. [the top]")] = "",
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", metavar="N", min=1, max=500_000, help="How much of a file.")
    ] = 100_000,
    output: OutputFormat = Format.table,
) -> None:
    """Look into the published source without fetching it."""
    from prime_cli.environments.looking import inspect as look
    from prime_cli.environments.naming import named

    look(out, named(env), path, max_bytes=max_bytes, as_json=output is Format.json)


@app.command(
    epilog=examples(
        "prime env usage alice/my-env",
        "prime env usage alice/my-env@0.1.0 --days 90",
        "prime env usage alice/my-env --output json",
    )
)
def usage(
    env: VersionedArg,
    days: Annotated[int, typer.Option("--days", "-d", metavar="N", min=1, max=365, help="How many days back.")] = 30,
    output: OutputFormat = Format.table,
) -> None:
    """Show how often an environment was installed and pulled."""
    from prime_cli.environments.naming import named
    from prime_cli.environments.usage import show_usage

    show_usage(out, named(env), days=days, as_json=output is Format.json)


FullHashes = Annotated[bool, typer.Option("--full-hashes", help="All 64 characters of the content hashes.")]


def versions(env: EnvArg, full_hashes: FullHashes = False, output: OutputFormat = Format.table) -> None:
    """List an environment's versions, newest first."""
    from prime_cli.environments.looking import show_versions
    from prime_cli.environments.naming import named

    show_versions(out, named(env), full_hashes=full_hashes, as_json=output is Format.json)


app.command(epilog=examples("prime env versions alice/my-env", "prime env versions alice/my-env --output json"))(
    versions
)
version_app.command(
    "list", epilog=examples("prime env version list alice/my-env", "prime env version list alice/my-env --full-hashes")
)(versions)
version_app.command(
    "delete",
    epilog=examples("prime env version delete alice/my-env 0.1.0", "prime env version delete alice/my-env 3f2a91bc -y"),
)(delete_version)
app.add_typer(version_app, name="version")
