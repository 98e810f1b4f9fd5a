"""`prime eval`: run an evaluation in the interpreter in which the environment is installed."""

from __future__ import annotations

from typing import Annotated

import typer

from prime_cli.groups import command_app, examples

app = command_app("Evaluate a model on an environment.")


@app.callback()
def group() -> None:
    """Evaluate a model on an environment."""


@app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    epilog=examples(
        "prime eval run my-env -m baseline/random -n 5", "prime eval run my-env -m gpt-4.1-mini -n 10 -r 3"
    ),
)
def run(
    context: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ENV [OPTIONS]...")] = None,
    python: Annotated[str | None, typer.Option("--python", metavar="PYTHON")] = None,
) -> None:
    """Run an evaluation; 'prime eval run --help' has its options."""
    from prime_cli.evaluating import evaluate

    raise typer.Exit(evaluate([*(arguments or []), *context.args], python))


@app.command(epilog=examples("prime eval tui", "prime eval tui outputs/evals/my-env--gpt-4.1-mini/1a2b3c4d"))
def tui(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DIR]...", help="A run, or folders with runs in them [default: ./outputs, ./environments]"
        ),
    ] = None,
) -> None:
    """Look at runs in the terminal: rewards, conversations, two runs side by side. '?' in it shows its keys."""
    from prime_cli.browsing.command import browse

    browse(folders or [])
