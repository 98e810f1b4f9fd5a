"""`prime env check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out

app = command_app("Check environments.")


@app.command(
    epilog=examples(
        "prime env check my-env                                    # ./environments/my_env, in a sandbox of the Hub",
        "prime env check                                           # the folder you are in",
        "prime env check alice/my-env@0.1.0                        # as it was published",
        "prime env check alice/my-env --on-hub                     # by the Hub itself, for its page and badge",
        "prime env check --server http://127.0.0.1:8000            # a server that runs",
        "prime env check my-env --quick                            # its files only",
        "prime env check my-env --only seed-ignored,memory-leak -o json",
        "prime env check --explain seed-ignored",
    )
)
def check(
    env: Annotated[
        str | None,
        typer.Argument(metavar="ENV|OWNER/NAME[@VERSION]", help="What to check; left out, the folder of --path."),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Option("--path", "-p", metavar="DIR", help="The folder that holds your environments. [./environments]"),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Look at this server instead of starting the image.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="Only what its files tell; or everything, with its server.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID,ID", help="These checks only; may be repeated.")
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="ID", help="Tell what a check does, and how to mend what it finds."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="PYTHON", help="Load it in this interpreter. [the active one, or .venv]"),
    ] = None,
    on_hub: Annotated[
        bool, typer.Option("--on-hub", help="Let the Hub check what is published, and keep the report on its page.")
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table,
) -> None:
    """Check whether an environment is right.

    Its folder, image, contract, episodes, rewards, and what it leaves behind; docs/checking.md tells of it. code: 0
    nothing failed (advice and skipped checks included), 1 a check failed or could not be begun, 2 a wrong command line,
    130 Ctrl-C.
    """
    from prime_cli.environments import check as checks
    from prime_core.checks.registry import UnknownCheck

    ids = [name.strip() for part in only or () for name in part.split(",") if name.strip()]
    try:
        if explain is not None:
            checks.explain(explain, out)
            return
        if on_hub and (path or server or quick or ids or python):
            raise typer.BadParameter("--on-hub makes the whole check of what is published; leave the other options out")
        if on_hub:
            from prime_cli.environments.check_on_hub import check_on_hub

            raise typer.Exit(check_on_hub(env, out, as_json=output is Format.json))
        if quick and (others := checks.not_quick(ids)):
            raise typer.BadParameter(f"{', '.join(others)} is not of the quick part; leave --quick out")
        options = checks.CheckOptions(env, path, server, quick, ids, python)
        code = checks.check(options, out, as_json=output is Format.json)
    except UnknownCheck as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(code)
