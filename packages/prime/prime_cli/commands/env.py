"""`prime env`: write, publish, pull and install environments. What they do is in prime_cli.environments.

Looking things up, changing what is published, secrets and variables: prime_cli.environments.commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prime_cli.environments.commands import change, checking, installing, look, values
from prime_cli.environments.versions import Bump
from prime_cli.groups import command_app, examples
from prime_cli.output import out

app = command_app("Write, publish, pull, install, look up and change environments.")

BASE = "./environments"
BasePath = Annotated[Path, typer.Option("--path", "-p", metavar="DIR", help="The folder that holds your environments.")]


@app.command(
    epilog=examples("prime env init my-env", "prime env init my-game --openenv", "prime env init my-env --multi-file")
)
def init(
    name: Annotated[str, typer.Argument(help="The environment's name, for example my-env.")],
    openenv: Annotated[bool, typer.Option("--openenv", help="With an OpenEnv server in proj/.")] = False,
    multi_file: Annotated[bool, typer.Option("--multi-file", help="A package folder instead of one module.")] = False,
    path: BasePath = Path(BASE),
) -> None:
    """Make a new environment, which runs and scores as generated."""
    from verifiers.cli.init import created_files

    created = created_files(name, path, openenv=openenv, multi_file=multi_file)
    if not created.written:
        out.note(str(created))
        return
    out.success(str(created))
    name = created.folder.name.replace("_", "-")  # as every later command takes it
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
        "prime env push my-env --team my-team       # the team's, not yours",
        "prime env push my-env --auto-bump          # 0.1.0 becomes 0.1.1",
        "prime env push my-env --rc                 # 0.1.0 becomes 0.1.0rc0, then 0.1.0rc1",
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
    team: Annotated[
        str | None, typer.Option("--team", "-t", metavar="NAME", help="Publish under this team. [the configured one]")
    ] = None,
    visibility: Annotated[
        change.Visibility | None,
        typer.Option("--visibility", "-v", case_sensitive=False, help="Who sees it. A new environment is PUBLIC."),
    ] = None,
    auto_bump: Annotated[bool, typer.Option("--auto-bump", help="Raise the version first: 0.1.0 → 0.1.1.")] = False,
    rc: Annotated[
        bool, typer.Option("--rc", help="Raise the version to the next candidate: 0.1.0 → 0.1.0rc0.")
    ] = False,
    post: Annotated[bool, typer.Option("--post", help="Raise the post number: 0.1.0 → 0.1.0.post0.")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="Never build the image of an OpenEnv project.")] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not look through its files first ('prime env check --quick').")
    ] = False,
) -> None:
    """Publish an environment to the Hub. The version comes from its pyproject.toml, and is never changed afterwards.

    An OpenEnv environment's image is built when there is none, or when its files have changed since.
    """
    from prime_cli.environments.push import PushOptions
    from prime_cli.environments.push import push as publish
    from prime_core.metadata import find_environment

    if auto_bump + rc + post > 1:
        raise typer.BadParameter("give only one of --auto-bump, --rc and --post")
    if owner and team:
        raise typer.BadParameter("give either --owner or --team, not both")
    bump = Bump.patch if auto_bump else Bump.rc if rc else Bump.post if post else None
    folder = (path or Path()) if env is None else find_environment(env.rpartition("/")[2], path or Path(BASE))
    publish(
        folder,
        PushOptions(owner, team, visibility.value if visibility else None, bump, not no_build, not no_check),
        out,
    )


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
    """Fetch an environment's source as it was published.

    Then it can be read, changed and published as one's own.
    """
    from prime_cli.environments.naming import named
    from prime_cli.environments.pull import pull as fetch

    fetch(named(env), target, out)


app.add_typer(checking.app)
app.add_typer(installing.app)
app.add_typer(look.app)
app.add_typer(change.app)
app.add_typer(values.secret_app, name="secret")
app.add_typer(values.variable_app, name="var")
