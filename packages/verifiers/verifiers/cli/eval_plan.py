"""What is settled before the first rollout of an evaluation: its environment, its model, its rows, its folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_evals import AttemptStore, NotARun, RunIdentity, new_run_path
from prime_evals.identity import SET_ATTRIBUTES
from verifiers.cli.eval_arguments import Arguments, Command
from verifiers.cli.eval_server import load_on_server
from verifiers.evaluation.models import ModelNotResolved, ResolvedModel, read_registry, resolve_model
from verifiers.evaluation.recording import identity_of, settings_of
from verifiers.evaluation.replay import ReplayPolicy
from verifiers.evaluation.resuming import run_to_continue
from verifiers.evaluation.runner import number_rows
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
from verifiers.types import ClientConfig
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    from verifiers.envs.environment import Environment


class CommandError(Exception):
    """One sentence for the user; the command ends with exit code 1."""


@dataclass(slots=True)
class Found:
    """An evaluation whose model and environment are there; nothing of the environment's code has run yet."""

    arguments: Arguments
    name: str
    origin: Origin
    model: ResolvedModel


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

    @property
    def title(self) -> str:
        """What is played, in a line."""
        examples = "1 example" if self.num_examples == 1 else f"{self.num_examples} examples"
        each = "1 rollout" if self.rollouts_per_example == 1 else f"{self.rollouts_per_example} rollouts"
        given = {**self.arguments.env_args, **self.arguments.sampling_args}
        told = "".join(f" {name}={value}" for name, value in given.items())
        return f"{self.origin}{told} · {self.model.model} · {examples} × {each} = {len(self.rows)}"

    @property
    def besides(self) -> dict[str, str]:
        """What metadata tells of a run that was played on somebody's server, or that repeats another one."""
        server = self.arguments.server
        told = {"server_url": shown_url(server.rstrip("/")) if server else "", "replayed": self.model.recording}
        return {name: value for name, value in told.items() if value}


def find(arguments: Arguments, command: Command) -> Found:
    """The model and the environment of an evaluation. Raises CommandError, and ModelNotResolved."""
    # The model first: a missing key should not cost the loading of an environment.
    model = _model(arguments)
    if command.max_cost is not None:
        _check_priced(model, arguments)
    if command.max_tokens_total is not None and not isinstance(model.client, ClientConfig):
        raise CommandError(f"{model.model} uses no tokens: leave --max-tokens-total out.")
    env_id = arguments.env_id
    name = environment_name(env_id)
    # Modules are lower-case by rule; one that is not is named as it is written.
    candidates = (name, plain_name(env_id))
    found = next((one for one in candidates if make_importable(one, arguments.env_dir_path)), None)
    if found is None:
        raise CommandError(not_found(env_id, name, arguments.env_dir_path))
    origin = origin_of(found, arguments.env_dir_path)
    try:
        check_version(env_id, origin)
    except WrongVersion as error:
        raise CommandError(str(error)) from error
    if origin.unused is not None:
        print(origin.unused_note(arguments.env_dir_path), file=sys.stderr)
    return Found(arguments, found, origin, model)


def load(found: Found) -> Plan:
    """Load the environment and choose its rows. Raises CommandError."""
    arguments, name, model = found.arguments, environment_name(found.arguments.env_id), found.model
    try:
        if arguments.server is None:
            env = load_environment(found.name, **arguments.env_args)
        else:
            env = load_on_server(found.name, arguments.env_args, arguments.server)
    except (ValueError, RuntimeError) as error:
        raise CommandError(str(error)) from error
    _set(env, name, arguments)
    defaults = eval_defaults(found.name)
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
    return Plan(arguments, env, found.origin, model, rows, identity, len(rows) // rollouts, rollouts)


def _model(arguments: Arguments) -> ResolvedModel:
    if arguments.endpoint_only:
        known = read_registry(arguments.endpoints_path)
        if arguments.model not in known:
            near = get_close_matches(arguments.model, known, 1)
            meant = f", meant is perhaps {near[0]!r}" if near else f"; it has {', '.join(known) or 'none'}"
            raise ModelNotResolved(f"There is no endpoint {arguments.model!r} in {arguments.endpoints_path}{meant}.")
    return resolve_model(
        arguments.model,
        provider=arguments.provider,
        client_type=arguments.client_type,
        base_url=arguments.base_url,
        api_key_var=arguments.api_key_var,
        endpoints_path=arguments.endpoints_path,
        headers=arguments.headers,
        headers_from_state=arguments.headers_from_state,
    )


def _check_priced(model: ResolvedModel, arguments: Arguments) -> None:
    if not isinstance(model.client, ClientConfig):
        raise CommandError(f"{model.model} costs nothing: leave --max-cost out.")
    if any(config.prices is None for config in model.client.variants() or [model.client]):
        raise CommandError(
            f"--max-cost needs to know what {arguments.model!r} costs: give its entries in {arguments.endpoints_path} an "
            "input_price and an output_price (USD per million tokens), or limit the tokens with --max-tokens-total."
        )


def _set(env: Environment, name: str, arguments: Arguments) -> None:
    """--timeout and -x, on the loaded environment."""
    if arguments.timeout is not None:
        env.set_kwargs(timeout_seconds=arguments.timeout)
    known = [one for one in dir(env) if not one.startswith("_")]
    for one in arguments.extra_env_kwargs:
        if not hasattr(env, one) and not hasattr(env, f"set_{one}"):
            near = get_close_matches(one, known, 1)
            meant = f", meant is perhaps '{near[0]}'" if near else ""
            print(f"Note: '{name}' has no attribute '{one}'{meant}; it is set all the same.", file=sys.stderr)
    env.set_kwargs(**arguments.extra_env_kwargs)


def not_found(env_id: str, name: str, base: str) -> str:
    """Where it was looked for, and what to do: it may lie next door, or be a name of the Hub."""
    from prime_core.metadata import nearby

    missing = f"The environment '{name}' is not installed and not in {Path(base) / module_name(name)}."
    near = nearby(env_id, base)
    if near is not None:
        return f"{missing} It is in {near.as_posix()}: add --env-dir-path {near.parent.as_posix()}"
    folder = Path(base).expanduser()
    there = [environment_name(one.name) for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    if similar := get_close_matches(name, there, 1, 0.8):
        return f"{missing} Did you mean {similar[0]}?"
    if "/" in env_id:
        return f"{missing} Install it with: prime env install {env_id}"
    return (
        f"{missing} Install it from the Hub with: prime env install OWNER/{env_id}; or, if it is your own, start this "
        "in the folder that holds it, or name that with --env-dir-path"
    )


# Where results go


def _results_base(arguments: Arguments) -> Path:
    if arguments.output_dir is not None:
        return Path(arguments.output_dir)
    names = (environment_name(arguments.env_id), plain_name(arguments.env_id))
    folder = next(filter(None, (local_folder(name, arguments.env_dir_path) for name in names)), None)
    return Path("outputs") if folder is None else folder / "outputs"


def open_store(plan: Plan, several: bool, taken: set[Path]) -> AttemptStore:
    """The folder of the run, new or continued; `taken`: those of other runs of this command. Raises CommandError, and
    what AttemptStore raises.
    """
    arguments, identity = plan.arguments, plan.identity
    base = _results_base(arguments)
    settings = settings_of(plan.env, number_rows(plan.rows), arguments.state_columns, plan.model.base_url)
    attributes = {SET_ATTRIBUTES: arguments.extra_env_kwargs} if arguments.extra_env_kwargs else {}
    settings = replace(settings, details={**settings.details, **plan.besides, **attributes})
    if arguments.resume is None:
        path = new_run_path(base, identity.env_id, identity.model)
    elif arguments.resume:
        path = Path(arguments.resume)
        if not (path / "attempts.jsonl").is_file():
            raise CommandError(f"There is no run to resume in {path}; leave --resume out to start one.")
    else:
        path = new_run_path(base, identity.env_id, identity.model)
        try:
            # Of several some were finished before the others were ended, and are not played again.
            found = run_to_continue(base, identity, settings, several or arguments.retry is not None, taken)
            path = found.directory
            print(f"Continuing {path}: {found.finished} rollouts are there.", file=sys.stderr)
        except NotARun:
            if not several:  # of several some had not begun
                raise
    taken.add(path.resolve())
    return AttemptStore(path, identity, settings)
