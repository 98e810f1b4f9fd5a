"""vf-eval: evaluate a model (or an offline baseline) on environments. `prime eval run` is the same command."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prime_evals import EvalsError, summarize
from verifiers.cli.eval_arguments import Arguments, Command, parse
from verifiers.cli.eval_plan import CommandError, Found, Plan, find, load, open_store
from verifiers.cli.eval_play import Game, new_game, play
from verifiers.evaluation.ending import Ending
from verifiers.evaluation.limits import Budget
from verifiers.evaluation.models import ModelNotResolved
from verifiers.evaluation.overview import overview, told_apart
from verifiers.evaluation.report import as_data, render
from verifiers.loading import environment_name

INTERRUPTED = 128 + signal.SIGINT
LIMIT_REACHED = 3


def main(argv: Sequence[str] | None = None, prog: str = "vf-eval") -> int:
    """Run the command; gives its exit code: 0, 1 (an error, or nothing could be scored), 2 (a wrong command line), 3 (a
    limit was reached), 130 after Ctrl-C, 143 after SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")  # a terminal that knows no "×" gets a "?", never a traceback
    command = parse(argv, prog)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if command.verbose else logging.WARNING,
        format="%(name)s: %(message)s",
    )
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "anthropic", "asyncio", "websockets"):
        logging.getLogger(noisy).setLevel(logging.INFO if command.verbose else logging.ERROR)
    try:
        return _evaluate(command)
    except KeyboardInterrupt:
        print("Interrupted before the first rollout; nothing was recorded.", file=sys.stderr)
        return INTERRUPTED


def _evaluate(command: Command) -> int:
    found = _found(command)
    if found is None:
        return 1
    plans, failed = _loaded(found, command)
    if command.dry_run:
        _announce(plans, failed, command)
        return 1 if failed else 0
    budget = Budget(command.max_cost, command.max_tokens_total)
    games = _set_up(plans, failed, command, budget)
    _announce([game.plan for game in games], failed, command)
    with Ending() as ending:
        if games:
            play(games, command, ending)
        _report(games, failed, command)
        code = _end(games, failed, command, ending)
        if command.summary_to is not None:
            _summarize(Path(command.summary_to), _all_data(games, failed, command), budget)
    if ending.count > 1 and _stuck():  # everything is recorded
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _stuck() -> bool:
    """Whether a thread of an environment goes on, for which the interpreter would wait at its end."""
    main_thread = threading.main_thread()
    return any(one is not main_thread and one.is_alive() and not one.daemon for one in threading.enumerate())


def _say(error: Exception, command: Command, where: str = "") -> None:
    if command.verbose:
        logging.getLogger("verifiers").error("The run could not be made.", exc_info=error)
    print(f"Error: {f'{where}: ' if where else ''}{error}", file=sys.stderr)


def _found(command: Command) -> list[Found] | None:
    """All models and environments; None when one is missing, since that is told before anything is spent."""
    found, problems = [], {}
    for arguments in command.runs:
        try:
            found.append(find(arguments, command))
        except (CommandError, ModelNotResolved) as error:
            problems[str(error)] = (error, arguments.place)
    for error, place in problems.values():
        _say(error, command, place)
    return None if problems else found


def _loaded(found: Sequence[Found], command: Command) -> tuple[list[Plan], list[tuple[Arguments, str]]]:
    """The environments with their rows, and those that could not be loaded, which do not keep the others from playing."""
    plans, failed = [], []
    for one in found:
        try:
            plans.append(load(one))
        except CommandError as error:
            failed.append((one.arguments, str(error)))
            _say(error, command, one.arguments.place)
    return plans, failed


def _announce(plans: Sequence[Plan], failed: Sequence[Any], command: Command) -> None:
    """What is going to be played."""
    if not plans:
        return
    rollouts = sum(len(plan.rows) for plan in plans)
    at_once = "" if command.max_concurrent < 0 else f", {min(command.max_concurrent, rollouts)} at once"
    if len(plans) + len(failed) > 1:
        not_played = f", {len(failed)} cannot be played" if failed else ""
        evaluations = "1 evaluation" if len(plans) == 1 else f"{len(plans)} evaluations"
        print(f"{evaluations}, {_rollouts(rollouts)} in all{at_once}{not_played}:", file=sys.stderr)
        for plan in plans:
            print(f"  {plan.title}", file=sys.stderr)
    else:
        print(f"{plans[0].title.rpartition(' = ')[0]} = {_rollouts(rollouts)}{at_once}", file=sys.stderr)


def _rollouts(count: int) -> str:
    return "1 rollout" if count == 1 else f"{count} rollouts"


def _set_up(plans: Sequence[Plan], failed: list[tuple[Arguments, str]], command: Command, budget: Budget) -> list[Game]:
    """The games, with the folders of their results; those without one are told and left out."""
    shared = len(plans) > 1 and command.max_concurrent > 0
    slots = asyncio.Semaphore(command.max_concurrent) if shared else None
    games: list[Game] = []
    taken: set[Path] = set()
    # With --only this is one of several programs of one command.
    several = len(command.runs) > 1 or command.only is not None
    for plan in plans:
        try:
            store = open_store(plan, several, taken) if plan.arguments.save else None
        except (CommandError, EvalsError) as error:
            failed.append((plan.arguments, str(error)))
            _say(error, command, plan.arguments.place)
            continue
        games.append(new_game(plan, store, command, slots, budget))
    return games


def described(game: Game) -> dict[str, Any]:
    """What metadata and the report tell of a run."""
    plan = game.plan
    if game.summary is None:
        outputs = game.runner.ordered()
        game.summary = summarize(outputs, plan.rollouts_per_example, plan.env.pass_threshold)
    return {
        **plan.identity.to_dict(),
        "base_url": plan.model.base_url,
        **plan.besides,
        "num_examples": plan.num_examples,
        "rollouts_per_example": plan.rollouts_per_example,
        **game.summary,
    }


def _data(game: Game) -> dict[str, Any]:
    data = as_data(game.runner.ordered(), described(game), game.results, len(game.plan.rows))
    stopped = game.trouble or str(game.limit or "")
    return {**data, "stopped": stopped} if stopped else data


def _all_data(games: Sequence[Game], failed: Sequence[tuple[Arguments, str]], command: Command) -> list[dict[str, Any]]:
    """Of every run, in the order of the command line."""
    found = {id(game.plan.arguments): _data(game) for game in games}
    for one, why in failed:
        name = environment_name(one.env_id)
        found[id(one)] = {"env_id": name, "env_args": one.env_args, "model": one.model, "stopped": why}
    return [found[id(one)] for one in command.runs]


def _report(games: Sequence[Game], failed: Sequence[tuple[Arguments, str]], command: Command) -> None:
    if command.output == "json":
        if command.summary_to is not None:
            return  # the program that asked for it prints all of them
        data = _all_data(games, failed, command)
        shown = data if command.several else data[0] if games else None
        if shown is not None:
            print(json.dumps(shown, ensure_ascii=False, indent=2), flush=True)
        return
    names = told_apart([game.plan.identity.to_dict() for game in games])
    for number, game in enumerate(games):
        plan, about = game.plan, described(game)
        given = names[number].removeprefix(game.plan.identity.env_id)  # in what runs of one environment differ
        where = f"{plan.origin}{given}" + (f" on {about['server_url']}" if "server_url" in about else "")
        text = render(
            game.runner.ordered(),
            about,
            game.results,
            len(plan.rows),
            where,
            brief=command.abbreviated_summary,
            plain=command.output == "plain",
        )
        print(f"\n{text}" if number else text, flush=True)
    if len(games) + len(failed) > 1 and command.summary_to is None:
        print(f"\n{overview(_all_data(games, failed, command), command.output == 'plain')}", flush=True)


def _end(games: Sequence[Game], failed: Sequence[Any], command: Command, ending: Ending) -> int:
    """Says why it has ended, if not by itself; the exit code."""
    several = len(games) > 1
    for game in games:
        if game.trouble:
            print(f"Error: {f'{game.plan.origin.name}: ' if several else ''}{game.trouble}", file=sys.stderr)
    limit = next((game.limit for game in games if game.limit is not None), None)
    if ending.code is not None and games:
        print(f"Interrupted: {_how_far(games, command)}", file=sys.stderr)
        return ending.code
    if limit is not None:
        print(f"{limit} {_how_far(games, command)}", file=sys.stderr)
    for game in games:
        if game.results is not None and not game.trouble and (errors := game.runner.progress.errors):
            some = "1 rollout" if errors == 1 else f"{errors} rollouts"
            again = f"--resume {game.results} --retry errored"
            print(f"Note: {some} ended with an error; the same command with {again} plays them again.", file=sys.stderr)
    if failed or any(game.trouble for game in games):
        return 1
    return LIMIT_REACHED if limit is not None else 0


def _how_far(games: Sequence[Game], command: Command) -> str:
    finished = sum(game.runner.progress.finished for game in games)
    done = f"{finished} of {sum(game.runner.progress.total for game in games)} rollouts are done"
    folders = [game.results for game in games if game.results is not None]
    if not folders:
        return f"{done}; nothing is saved (--no-save)."
    which = "--resume" if command.several else f"--resume {folders[0]}"
    return f"{done} and recorded. Continue with the same command and {which}"


def _summarize(path: Path, runs: list[dict[str, Any]], budget: Budget) -> None:
    """For the program that started this one: what came out, and what it has spent."""
    spent = {"cost": budget.cost, "tokens": budget.tokens}
    path.write_text(json.dumps({"runs": runs, "spent": spent}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
