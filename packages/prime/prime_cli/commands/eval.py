"""`prime eval`: run an evaluation in the interpreter in which the environment is installed; push, look up, compare."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out

app = command_app("Evaluate a model on an environment; keep evaluations on the Hub, and compare them.")

OutputFormat = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
EvalArg = Annotated[str, typer.Argument(metavar="ID", help="An evaluation of the Hub.")]
PageOption = Annotated[int, typer.Option("--page", "-p", metavar="N", min=1, help="Which page, from 1.")]


class EvaluationCommand(TyperCommand):
    """Its options are the evaluation's own."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Options that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(word) for word in _words(ctx, incomplete)]


def _words(ctx: typer.Context, incomplete: str) -> list[str]:
    from prime_cli.eval_words import words

    return words([*(ctx.params.get("arguments") or []), *ctx.args], incomplete)


class PushFormat(StrEnum):
    """How a push is told of; `pretty` is the official command's word for a table."""

    table = "table"
    pretty = "pretty"
    json = "json"


class Outcome(StrEnum):
    """Which rollouts."""

    passed = "passed"
    failed = "failed"
    error = "error"
    unscored = "unscored"
    truncated = "truncated"


class SampleSort(StrEnum):
    """What rollouts are sorted by."""

    example = "example"
    reward = "reward"
    turns = "turns"
    tokens = "tokens"
    seconds = "seconds"
    cost = "cost"


@app.callback()
def group() -> None:
    """Evaluate a model on an environment; keep evaluations on the Hub, and compare them."""


@app.command(
    cls=EvaluationCommand,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    epilog=examples(
        "prime eval run my-env -m baseline/random -n 5",
        "prime eval run my-env -m gpt-4.1-mini -n 10 -r 3",
        "prime eval run alice/my-env bob/my-game -m qwen --yes",
        "prime eval run configs/evals.toml --dry-run",
        "prime eval run alice/my-env --hosted -m baseline/random -n 5 --follow    # in a sandbox of the Hub",
    ),
)
def run(
    context: typer.Context,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ENV... [OPTIONS]...", autocompletion=_words)] = None,
) -> None:
    """Run evaluations; 'prime eval run --help' has the options. With --hosted the Hub runs it."""
    words = [*(arguments or []), *context.args]
    if "--hosted" in words:
        from prime_cli.evaluations.hosted import start

        raise typer.Exit(start(words, out))
    from prime_cli.evaluating import evaluate

    raise typer.Exit(evaluate(words))


@app.command(
    epilog=examples(
        "prime eval push                                    # the newest run here",
        "prime eval push outputs/evals/my-env--gpt/1a2b3c4d --env alice/my-env --public",
        "prime eval push DIR --eval ID                      # in the place of what was pushed before",
    )
)
def push(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run's folder.", show_default="the newest run here")
    ] = None,
    env: Annotated[
        str | None,
        typer.Option("--env", "--environment", "-e", metavar="OWNER/NAME", help="The environment, as the Hub has it."),
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="A training run that it belongs to.")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", "--eval-id", metavar="ID", help="Replace this evaluation's rollouts.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What to call it.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Whoever may see the environment sees the evaluation, too.")
    ] = False,
    output: Annotated[PushFormat, typer.Option("--output", "-o", help="How to print it.")] = PushFormat.table,
) -> None:
    """Push a run to the Hub. A push that was cut goes on where it was."""
    from prime_cli.evaluations.folder import find_run
    from prime_cli.evaluations.push import PushOptions, push_run

    folder = find_run(directory)
    if directory is None:
        out.note(f"Pushing {folder}")
    pushed = push_run(folder, PushOptions(env, run_id, evaluation, name, public), out)
    if output is PushFormat.json:
        out.json({"evaluation_id": pushed.evaluation_id, "viewer_url": pushed.url, "samples": pushed.rollouts})
        return
    from prime_cli.evaluations.looking import show_summary

    out.success(f"Pushed {pushed.rollouts:,} rollouts")
    out.fields({"Evaluation ID": pushed.evaluation_id, "View results": pushed.url})
    show_summary(out, pushed.told.get("summary"))


@app.command("list", epilog=examples("prime eval list", "prime eval list --env alice/my-env --output json"))
def list_(
    env: Annotated[
        str | None, typer.Option("--env", "-e", metavar="[OWNER/]NAME", help="Of this environment only.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="Of this model only.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own and your teams'.")] = False,
    limit: Annotated[
        int, typer.Option("--num", "-n", "--limit", metavar="N", min=1, max=250, help="How many a page.")
    ] = 20,
    page: PageOption = 1,
    output: OutputFormat = Format.table,
) -> None:
    """List the Hub's evaluations, the newest first."""
    from prime_cli.evaluations.looking import list_evaluations

    list_evaluations(
        out, environment=env, model=model, mine=mine, limit=limit, page=page, as_json=output is Format.json
    )


@app.command(epilog=examples("prime eval get ID", "prime eval get ID --output json"))
def get(evaluation: EvalArg, output: OutputFormat = Format.table) -> None:
    """Show an evaluation and its numbers."""
    from prime_cli.evaluations.looking import show_evaluation

    show_evaluation(out, evaluation, as_json=output is Format.json)


@app.command(
    epilog=examples(
        "prime eval samples ID", "prime eval samples ID --only error", "prime eval samples ID -n 5 --output json"
    )
)
def samples(
    evaluation: EvalArg,
    only: Annotated[Outcome | None, typer.Option("--only", help="Rollouts that ended so.")] = None,
    example: Annotated[str | None, typer.Option("--example", metavar="ID", help="Rollouts of this example.")] = None,
    sort: Annotated[SampleSort, typer.Option("--sort", help="What to sort by.")] = SampleSort.example,
    descending: Annotated[bool, typer.Option("--desc", help="The most first.")] = False,
    limit: Annotated[
        int, typer.Option("--num", "-n", "--limit", metavar="N", min=1, max=1000, help="How many a page.")
    ] = 100,
    page: PageOption = 1,
    output: OutputFormat = Format.table,
) -> None:
    """List an evaluation's rollouts; with -o json all of each."""
    from prime_cli.evaluations.looking import show_samples

    query = {
        "page": page,
        "limit": limit,
        "outcome": only.value if only else None,
        "example_id": example,
        "sort": sort.value,
        "order": "desc" if descending else "asc",
    }
    show_samples(out, evaluation, query, as_json=output is Format.json)


@app.command(
    epilog=examples(
        "prime eval compare outputs/evals/my-env--gpt/1a2b3c4d outputs/evals/my-env--gpt/5e6f7a8b",
        "prime eval compare ID outputs/evals/my-env--gpt/5e6f7a8b --output json",
    )
)
def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="A run's folder, or an evaluation of the Hub.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The one to compare to it.")],
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", metavar="X", help="From which reward on a rollout passes.", show_default="the second run's"
        ),
    ] = None,
    output: OutputFormat = Format.table,
) -> None:
    """Compare two runs, example by example."""
    from prime_cli.evaluations.comparing import compare as compare_two

    compare_two(out, first, second, threshold=threshold, as_json=output is Format.json)


@app.command(epilog=examples("prime eval logs ID", "prime eval logs ID -f"))
def logs(
    evaluation: EvalArg,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it has ended, or Ctrl-C.")] = False,
) -> None:
    """Show the log of an evaluation that the Hub runs (--hosted)."""
    from prime_cli.evaluations.hosted import show_logs

    raise typer.Exit(show_logs(evaluation, follow, out))


@app.command(epilog=examples("prime eval stop ID"))
def stop(evaluation: EvalArg) -> None:
    """End an evaluation that the Hub runs. What is being played is finished and kept."""
    from prime_cli.evaluations.hosted import stop as end

    end(evaluation, out)


@app.command(epilog=examples("prime eval delete ID", "prime eval delete ID --yes"))
def delete(
    evaluation: EvalArg,
    yes: Annotated[bool, typer.Option("--yes", "-y", "--force", "-f", help="Do not ask.")] = False,
) -> None:
    """Delete an evaluation with all its rollouts."""
    from prime_cli.asking import confirm
    from prime_cli.evaluations.looking import delete_evaluation

    confirm(f"Delete evaluation {evaluation} with all its rollouts, for good?", yes)
    delete_evaluation(evaluation)
    out.success(f"Deleted evaluation {evaluation}")


@app.command(epilog=examples("prime eval tui", "prime eval tui outputs/evals/my-env--gpt-4.1-mini/1a2b3c4d"))
def tui(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DIR]...", help="A run, or folders with runs in them [default: ./outputs, ./environments]"
        ),
    ] = None,
) -> None:
    """Look at runs, alone or side by side; '?' shows keys."""
    from prime_cli.browsing.command import browse

    browse(folders or [])


@app.command(epilog=examples("prime eval view", "prime eval view outputs/evals/my-env--gpt-4.1-mini --no-open"))
def view(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DIR]...", help="A run, or folders with runs in them [default: ./outputs, ./environments]"
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0 for any free one.")] = 0,
    opening: Annotated[bool, typer.Option("--open/--no-open", help="Whether to open it in your browser.")] = True,
) -> None:
    """Look at runs in the browser, as a Hub shows them, without one. For you on this machine only."""
    from prime_cli.browsing.command import places_of
    from prime_cli.viewing import view as serve

    raise typer.Exit(serve(places_of(folders or []), port, opening))


@app.command(
    epilog=examples(
        "prime eval export outputs/evals/my-env--gpt/1a2b3c4d --html run.html",
        "prime eval export DIR --html failed.html --only failed --max-mb 20",
    )
)
def export(
    html: Annotated[str, typer.Option("--html", metavar="FILE", help="Where to write it; - is standard output.")],
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run's folder.", show_default="the newest run here")
    ] = None,
    only: Annotated[Outcome | None, typer.Option("--only", help="Rollouts that ended so.")] = None,
    max_mb: Annotated[
        float, typer.Option("--max-mb", metavar="MB", min=0.1, max=9999, help="Room for rollouts and conversations.")
    ] = 50.0,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write over a file that is there.")] = False,
) -> None:
    """Write a run as one HTML page that needs nothing else."""
    from prime_cli.evaluations.folder import find_run
    from prime_cli.viewing import export as write

    raise typer.Exit(write(find_run(directory), html, only.value if only else None, max_mb, force))
