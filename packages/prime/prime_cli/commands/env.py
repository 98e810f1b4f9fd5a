"""`prime env`: write, publish, pull, install and look up environments. What they do is in prime_cli.environments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prime_cli.environments.versions import Bump
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out

app = command_app("Write, publish, pull, install and look up environments.")

BASE = "./environments"
BasePath = Annotated[Path, typer.Option("--path", "-p", metavar="DIR", help="The folder that holds your environments.")]
OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


class Visibility(StrEnum):
    """Who sees an environment on the Hub."""

    public = "PUBLIC"
    private = "PRIVATE"


class Installer(StrEnum):
    """Which program installs."""

    uv = "uv"
    pip = "pip"


@app.command(
    epilog=examples("prime env init my-env", "prime env init my-game --openenv", "prime env init my-env --multi-file")
)
def init(
    name: Annotated[str, typer.Argument(help="The environment's name, for example my-env.")],
    openenv: Annotated[bool, typer.Option("--openenv", help="With an OpenEnv server in proj/.")] = False,
    multi_file: Annotated[bool, typer.Option("--multi-file", help="A package folder instead of one module.")] = False,
    path: BasePath = Path(BASE),
) -> None:
    """Make a new environment that installs, runs and scores as generated."""
    from verifiers.cli.init import create_environment

    folder = create_environment(name, path, openenv=openenv, multi_file=multi_file)
    out.success(f"Created {folder}")
    name = folder.name.replace("_", "-")  # as every later command takes it
    base = "" if path == Path(BASE) else f" -p {path}"
    steps = [f"prime env install {name}{base}", f"prime eval run {name} -m baseline/random -n 5"]
    steps = [f"vf-build {name}{base}", *steps] if openenv else steps
    out.note("Next:")
    for step in [*steps, f"prime env push {name}{base}"]:
        out.note(f"  {step}")


@app.command(
    epilog=examples(
        "prime env push my-env                      # ./environments/my_env",
        "prime env push my-env -p ~/my-environments",
        "prime env push                             # the folder you are in",
        "prime env push my-env --visibility PRIVATE",
        "prime env push my-env --auto-bump          # 0.1.0 becomes 0.1.1",
    )
)
def push(
    env: Annotated[str | None, typer.Argument(help="The environment's name; left out, the folder of --path.")] = None,
    path: Annotated[
        Path | None,
        typer.Option("--path", "-p", metavar="DIR", help=f"The folder that holds your environments. [{BASE}]"),
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", "-o", metavar="NAME", help="Publish under this account or team.")
    ] = None,
    visibility: Annotated[
        Visibility | None,
        typer.Option("--visibility", "-v", case_sensitive=False, help="Who sees it. A new environment is PUBLIC."),
    ] = None,
    auto_bump: Annotated[bool, typer.Option("--auto-bump", help="Raise the version first: 0.1.0 → 0.1.1.")] = False,
    rc: Annotated[
        bool, typer.Option("--rc", help="Raise the version to the next candidate: 0.1.0 → 0.1.0rc0.")
    ] = False,
    post: Annotated[bool, typer.Option("--post", help="Raise the post number: 0.1.0 → 0.1.0.post0.")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="Never build the image of an OpenEnv project.")] = False,
) -> None:
    """Publish an environment to the Hub. The version comes from its pyproject.toml, and is never changed afterwards.

    An OpenEnv environment's image is built when there is none, or when its files have changed since.
    """
    from prime_cli.environments.push import PushOptions
    from prime_cli.environments.push import push as publish
    from prime_core.metadata import find_environment

    if auto_bump + rc + post > 1:
        raise typer.BadParameter("give only one of --auto-bump, --rc and --post")
    bump = Bump.patch if auto_bump else Bump.rc if rc else Bump.post if post else None
    folder = (path or Path()) if env is None else find_environment(env.rpartition("/")[2], path or Path(BASE))
    publish(folder, PushOptions(owner, visibility.value if visibility else None, bump, not no_build), out)


@app.command(
    epilog=examples(
        "prime env pull alice/my-env", "prime env pull alice/my-env@0.1.0", "prime env pull alice/my-env -t ./copy"
    )
)
def pull(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="An environment of the Hub.")],
    target: Annotated[
        Path | None,
        typer.Option("--target", "-t", metavar="DIR", help="Where to; must be empty. [./environments/NAME, or ./NAME]"),
    ] = None,
) -> None:
    """Fetch an environment's source as it was published, to read it or to work on it."""
    from prime_cli.environments.pull import pull as fetch
    from prime_cli.environments.references import parse_reference

    out.success(f"Environment pulled to {fetch(parse_reference(env), target, out)}")


@app.command(
    epilog=examples(
        "prime env install my-env                # your own, from ./environments/my_env",
        "prime env install alice/my-env          # the newest of the Hub",
        "prime env install alice/my-env@0.1.0 bob/other",
        "prime env install alice/my-env --python ./venv/bin/python",
    )
)
def install(
    envs: Annotated[list[str], typer.Argument(metavar="NAME|OWNER/NAME[@VERSION]...", help="What to install.")],
    path: BasePath = Path(BASE),
    python: Annotated[
        str | None,
        typer.Option(
            "--python", metavar="PYTHON", help="Into this interpreter's environment. [the active one, or .venv]"
        ),
    ] = None,
    installer: Annotated[Installer, typer.Option("--with", help="The program that installs.")] = Installer.uv,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Raise what it needs to the newest that fits.")
    ] = False,
) -> None:
    """Install environments: your own by name, those of the Hub by OWNER/NAME. What is downloaded is checked first."""
    from prime_cli.environments.install import install as run

    run(envs, path, python, "uv" if installer is Installer.uv else "pip", upgrade, out)


@app.command(
    "list",
    epilog=examples("prime env list", "prime env list --search maths", "prime env list --owner alice --output json"),
)
def list_(
    search: Annotated[
        str | None, typer.Option("--search", "-s", help="Words in name, owner, description or tags.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="NAME", help="Of this account only.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", metavar="TAG", help="With this tag; may be repeated.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Your own only.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=250, help="How many a page.")] = 20,
    page: Annotated[int, typer.Option("--page", "-p", metavar="N", min=1, help="Which page, from 1.")] = 1,
    output: OutputFormat = Format.table,
) -> None:
    """List the environments of the Hub that you may see."""
    from prime_cli.environments.catalogue import list_environments

    list_environments(
        out,
        search=search,
        owner=owner,
        tags=tag or [],
        mine=mine,
        limit=limit,
        page=page,
        as_json=output is Format.json,
    )


@app.command(epilog=examples("prime env info alice/my-env", "prime env info alice/my-env@0.1.0 --output json"))
def info(
    env: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="An environment of the Hub.")],
    output: OutputFormat = Format.table,
) -> None:
    """Show one environment: description, tags, versions, its page, how to install it."""
    from prime_cli.environments.catalogue import show_environment
    from prime_cli.environments.references import parse_reference

    show_environment(out, parse_reference(env), as_json=output is Format.json)
