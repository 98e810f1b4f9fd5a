"""`prime eval`: run an evaluation in the interpreter in which the environment is installed."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from prime_cli.groups import command_app, examples


class EvaluationCommand(TyperCommand):
    """Its options are the evaluation's own."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Options that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in _words(ctx, incomplete)]


def _words(ctx: typer.Context, incomplete: str) -> list[str]:
    from prime_cli.eval_words import words

    return words([*(ctx.params.get("arguments") or []), *ctx.args], incomplete)


app = command_app("Evaluate a model on an environment.")


@app.callback()
def group() -> None:
    """Evaluate a model on an environment."""


@app.command(
    cls=EvaluationCommand,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    epilog=examples(
        "prime eval run my-env -m baseline/random -n 5",
        "prime eval run my-env -m gpt-4.1-mini -n 10 -r 3",
        "prime eval run alice/my-env bob/my-game -m qwen --yes",
        "prime eval run configs/evals.toml --dry-run",
    ),
)
def run(
    context: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ENV... [OPTIONS]...", autocompletion=_words)] = None,
) -> None:
    """Run evaluations; 'prime eval run --help' has the options."""
    from prime_cli.evaluating import evaluate

    raise typer.Exit(evaluate([*(arguments or []), *context.args]))
