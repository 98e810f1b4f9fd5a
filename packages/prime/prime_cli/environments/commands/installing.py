"""`prime env install` and `prime env uninstall`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prime_cli.groups import command_app, examples
from prime_cli.output import out

app = command_app("Install environments, and remove them.")

BASE = "./environments"
Python = Annotated[
    str | None,
    typer.Option("--python", metavar="PYTHON", help="Into this interpreter's environment. [the active one, or .venv]"),
]


class Installer(StrEnum):
    """Which program installs."""

    uv = "uv"
    pip = "pip"


With = Annotated[Installer, typer.Option("--with", help="The program that installs.")]


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
    path: Annotated[
        Path, typer.Option("--path", "-p", metavar="DIR", help="The folder that holds your environments.")
    ] = Path(BASE),
    python: Python = None,
    installer: With = Installer.uv,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Raise what it needs to the newest that fits.")
    ] = False,
    no_upgrade: Annotated[
        bool, typer.Option("--no-upgrade", help="Leave one that is installed from the Hub at its version.")
    ] = False,
    prerelease: Annotated[bool, typer.Option("--prerelease", help="Take candidates too, such as 0.2.0rc1.")] = False,
) -> None:
    """Install environments: yours by NAME, the Hub's by OWNER/NAME. What is downloaded is checked first.

    An environment that needs one of another owner is installed together with it, in one command. An installation that
    fails or is interrupted leaves everything as it was.
    """
    from prime_cli.environments.install import Options
    from prime_cli.environments.install import install as run

    if upgrade and no_upgrade:
        raise typer.BadParameter("give only one of --upgrade and --no-upgrade")
    run(envs, path, python, Options("uv" if installer is Installer.uv else "pip", upgrade, no_upgrade, prerelease), out)


@app.command(epilog=examples("prime env uninstall my-env", "prime env uninstall my-env other --python ./venv"))
def uninstall(
    envs: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to remove; an OWNER/ before it is fine.")],
    python: Python = None,
    installer: With = Installer.uv,
) -> None:
    """Remove environments from where they are installed. What they needed stays, and so do their folders."""
    from prime_cli.environments.install import uninstall as run

    run(envs, python, "uv" if installer is Installer.uv else "pip", out)
