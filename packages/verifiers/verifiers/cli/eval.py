"""vf-eval: evaluate a model (or an offline baseline) on an environment. `prime eval run` is the same command."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_evals import AttemptStore, EvalsError, RunIdentity, derive, new_run_path, summarize
from verifiers.cli.eval_arguments import Arguments, parse
from verifiers.cli.eval_server import load_on_server
from verifiers.errors import Error, RepeatedError
from verifiers.evaluation.ending import Ending, finish
from verifiers.evaluation.models import ModelNotResolved, ResolvedModel, resolve_model
from verifiers.evaluation.outputs import StateColumnError
from verifiers.evaluation.progress import view
from verifiers.evaluation.recording import identity_of, settings_of
from verifiers.evaluation.replay import ReplayPolicy
from verifiers.evaluation.report import as_data, render
from verifiers.evaluation.resuming import run_to_continue
from verifiers.evaluation.runner import Runner, RunOptions, number_rows
from verifiers.evaluation.standing import Watched
from verifiers.loading import (
    environment_name,
    eval_defaults,
    load_environment,
    local_folder,
    make_importable,
    module_name,
    plain_name,
)
from verifiers.origin import Origin, WrongVersion, check_version, origin_of
from verifiers.utils.loop import run
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    from verifiers.envs.environment import Environment

INTERRUPTED = 128 + signal.SIGINT


class CommandError(Exception):
    """One sentence for the user; the command ends with exit code 1."""


@dataclass(slots=True)
class Plan:
    """Everything that is settled before the first rollout."""

    arguments: Arguments
    env: Environment
    origin: Origin
    model: ResolvedModel
    rows: list[dict[str, Any]]
    identity: RunIdentity
    num_examples: int
    rollouts_per_example: int


def main(argv: Sequence[str] | None = None, prog: str = "vf-eval") -> int:
    """Run the command; gives its exit code: 0, 1 (an error, or nothing could be scored), 130 after Ctrl-C, 143 after
    SIGTERM.
    """
    arguments = parse(argv, prog)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")  # a terminal that knows no "×" gets a "?", never a traceback
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(name)s: %(message)s",
    )
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "anthropic", "asyncio", "websockets"):
        logging.getLogger(noisy).setLevel(logging.INFO if arguments.verbose else logging.ERROR)
    try:
        return _evaluate(arguments)
    except (CommandError, ModelNotResolved, EvalsError) as error:
        if arguments.verbose:
            logging.getLogger("verifiers").exception("The run could not be made.")
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted before the first rollout; nothing was recorded.", file=sys.stderr)
        return INTERRUPTED


def _evaluate(arguments: Arguments) -> int:
    plan = _plan(arguments)
    store = _open_store(plan) if arguments.save else None
    runner = Runner(
        plan.env,
        plan.rows,
        plan.model.client,
        plan.model.model,
        arguments.sampling_args,
        RunOptions(
            max_concurrent=arguments.max_concurrent,
            max_retries=arguments.max_retries,
            independent_scoring=arguments.independent_scoring,
            state_columns=arguments.state_columns,
            retry=arguments.retry,
            stop_after_same_errors=arguments.stop_after,
            on_log=lambda text: print(text, file=sys.stderr) if arguments.verbose else None,
        ),
        store,
        keep_outputs=False,
    )
    results = None
    failure: Exception | None = None
    with Ending() as ending:
        try:
            failure = run(_play(plan.env, runner, ending), plan.env.max_workers)
        except KeyboardInterrupt:  # code of the environment's that held the event loop
            pass
        ending.ends(None)
        if store is not None:
            results = store.directory
            store.close()
            try:
                derive(store.directory)
            except EvalsError as error:
                failure = failure or error
        _report(plan, runner, results)
    if ending.code is not None:
        print(_interrupted(runner, results), file=sys.stderr)
        return ending.code
    failure = failure or runner.stopped
    if failure is not None:
        print(f"Error: {failure}{_go_on(failure, results)}", file=sys.stderr)
        return 1
    if runner.outputs and not runner.progress.scored:
        print("Error: No rollout could be scored; the errors above say why.", file=sys.stderr)
        return 1
    return 0


def _go_on(failure: Exception, results: Path | None) -> str:
    """How a run goes on that was ended because it was in vain."""
    if not isinstance(failure, RepeatedError):
        return ""
    again = "" if results is None else f", and then continue with --resume {results} --retry errored"
    return f" Mend that{again}; --stop-after 0 plays on all the same."


def _plan(arguments: Arguments) -> Plan:
    # The model first: a missing key should not cost the loading of an environment.
    model = resolve_model(
        arguments.model,
        provider=arguments.provider,
        client_type=arguments.client_type,
        base_url=arguments.base_url,
        api_key_var=arguments.api_key_var,
        endpoints_path=arguments.endpoints_path,
        headers=arguments.headers,
        headers_from_state=arguments.headers_from_state,
    )
    env_id = arguments.env_id
    name = environment_name(env_id)
    # Modules are lower-case by rule; one that is not is named as it is written.
    candidates = (name, plain_name(env_id))
    found = next((one for one in candidates if make_importable(one, arguments.env_dir_path)), None)
    if found is None:
        raise CommandError(_not_found(env_id, name, arguments.env_dir_path))
    origin = origin_of(found, arguments.env_dir_path)
    try:
        check_version(env_id, origin)
    except WrongVersion as error:
        raise CommandError(str(error)) from error
    if origin.unused is not None:
        print(origin.unused_note(arguments.env_dir_path), file=sys.stderr)
    try:
        if arguments.server is None:
            env = load_environment(found, **arguments.env_args)
        else:
            env = load_on_server(found, arguments.env_args, arguments.server)
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from error
    if arguments.timeout is not None:
        env.set_kwargs(timeout_seconds=arguments.timeout)
    defaults = eval_defaults(found)
    examples = defaults.num_examples if arguments.num_examples is None else arguments.num_examples
    rollouts = arguments.rollouts_per_example or defaults.rollouts_per_example
    try:
        table = env.get_eval_dataset(examples)
    except Exception as error:
        raise CommandError(f"The environment '{name}' has no rows to evaluate: {error}") from error
    rows = [{**row, "rollout_index": index} for row in table for index in range(rollouts)]
    if not rows:
        raise CommandError(f"The environment '{name}' has no rows to evaluate: its dataset is empty.")
    if (arguments.num_examples or 0) > len(rows) // rollouts:
        print(
            f"Note: '{name}' has {len(rows) // rollouts} rows to evaluate, so -n {arguments.num_examples} plays all of "
            "them and no more.",
            file=sys.stderr,
        )
    identity = identity_of(env, model.model, arguments.sampling_args)
    if isinstance(model.client, ReplayPolicy):
        for doubt in model.client.doubts(identity.env_id, number_rows(rows)):
            print(f"Note: {doubt}", file=sys.stderr)
    return Plan(arguments, env, origin, model, rows, identity, len(rows) // rollouts, rollouts)


def _not_found(env_id: str, name: str, base: str) -> str:
    """Where it was looked for, and what to do: it may lie next door, or be a name of the Hub."""
    from prime_core.metadata import nearby

    missing = f"The environment '{name}' is not installed and not in {Path(base) / module_name(name)}."
    near = nearby(env_id, base)
    if near is not None:
        return f"{missing} It is in {near.as_posix()}: add --env-dir-path {near.parent.as_posix()}"
    if "/" in env_id:
        return f"{missing} Install it with: prime env install {env_id}"
    return (
        f"{missing} Install it from the Hub with: prime env install OWNER/{env_id}; or, if it is your own, start this "
        "in the folder that holds it, or name that with --env-dir-path"
    )


def _results_base(arguments: Arguments) -> Path:
    if arguments.output_dir is not None:
        return Path(arguments.output_dir)
    names = (environment_name(arguments.env_id), plain_name(arguments.env_id))
    folder = next(filter(None, (local_folder(name, arguments.env_dir_path) for name in names)), None)
    return Path("outputs") if folder is None else folder / "outputs"


def _open_store(plan: Plan) -> AttemptStore:
    arguments, identity = plan.arguments, plan.identity
    base = _results_base(arguments)
    settings = settings_of(plan.env, number_rows(plan.rows), arguments.state_columns, plan.model.base_url)
    settings = replace(settings, details={**settings.details, **_besides(plan)})
    if arguments.resume is None:
        path = new_run_path(base, identity.env_id, identity.model)
    elif arguments.resume:
        path = Path(arguments.resume)
        if not (path / "attempts.jsonl").is_file():
            raise CommandError(f"There is no run to resume in {path}; leave --resume out to start one.")
    else:
        found = run_to_continue(base, identity, settings, complete_too=arguments.retry is not None)
        path = found.directory
        print(f"Continuing {path}: {found.finished} rollouts are there.", file=sys.stderr)
    return AttemptStore(path, identity, settings)


def _besides(plan: Plan) -> dict[str, str]:
    """What metadata tells of a run that was played on somebody's server, or that repeats another one."""
    server = plan.arguments.server
    told = {"server_url": shown_url(server.rstrip("/")) if server else "", "replayed": plan.model.recording}
    return {name: value for name, value in told.items() if value}


async def _play(env: Environment, runner: Runner, ending: Ending) -> Exception | None:
    """Play to the end, or to that of a signal; gives what concerns the whole run."""
    ending.ends(asyncio.current_task(), lambda: finish([runner]))
    try:
        with view([Watched(env.env_id or type(env).__name__, runner.progress, runner.activities)]):
            await runner.run()
    except asyncio.CancelledError:
        pass
    except (EvalsError, StateColumnError, Error) as error:
        return error
    finally:
        await env._teardown()
    return None


def _report(plan: Plan, runner: Runner, results: Path | None) -> None:
    outputs = runner.ordered()
    described = {
        **plan.identity.to_dict(),
        "base_url": plan.model.base_url,
        **_besides(plan),
        "num_examples": plan.num_examples,
        "rollouts_per_example": plan.rollouts_per_example,
        **summarize(outputs, plan.rollouts_per_example, plan.env.pass_threshold),
    }
    if plan.arguments.output == "json":
        print(json.dumps(as_data(outputs, described, results, len(plan.rows)), ensure_ascii=False, indent=2))
    else:
        where = f"{plan.origin} on {described['server_url']}" if "server_url" in described else str(plan.origin)
        print(render(outputs, described, results, len(plan.rows), where), flush=True)


def _interrupted(runner: Runner, results: Path | None) -> str:
    done = f"Interrupted: {runner.progress.finished} of {runner.progress.total} rollouts are done"
    if results is None:
        return f"{done}; nothing is saved (--no-save)."
    return f"{done} and recorded. Continue with the same command and --resume {results}"


if __name__ == "__main__":
    sys.exit(main())
