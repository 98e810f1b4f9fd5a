"""The command line of vf-eval and `prime eval run`: what is given, laid over what an eval file says."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from verifiers.cli.eval_file import EvalFileError, read_file
from verifiers.cli.eval_options import FULL_COMMAND, OFFICIAL_ONLY, REFUSED, add_options, check_values
from verifiers.evaluation.models import DEFAULT_ENDPOINTS_PATH, DEFAULT_MODEL

DEFAULT_CONCURRENCY = 32
_COMBINED = ("env_args", "sampling_args", "extra_env_kwargs")
"""Given in several places, these are put together key by key."""


@dataclass(slots=True, kw_only=True)
class Arguments:
    """One evaluation: an environment, a model, how much of it. `place` says where in a file it stands."""

    env_id: str
    place: str = ""
    env_args: dict[str, Any] = field(default_factory=dict)
    extra_env_kwargs: dict[str, Any] = field(default_factory=dict)
    env_dir_path: str = "./environments"
    server: str | None = None
    endpoints_path: str = DEFAULT_ENDPOINTS_PATH
    model: str = DEFAULT_MODEL
    endpoint_only: bool = False
    """Whether `model` must be an entry of the registry (`endpoint_id` of a file)."""
    provider: str | None = None
    client_type: str | None = None
    api_key_var: str | None = None
    base_url: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    headers_from_state: dict[str, str] = field(default_factory=dict)
    num_examples: int | None = None
    rollouts_per_example: int | None = None
    max_concurrent: int = -1
    """Of this one alone, within what the command allows all of them."""
    max_retries: int = 0
    stop_after: int = 8
    timeout: float | None = None
    sampling_args: dict[str, Any] = field(default_factory=dict)
    output_dir: str | None = None
    save: bool = True
    resume: str | None = None
    retry: str | None = None
    state_columns: list[str] = field(default_factory=list)
    independent_scoring: bool = False


@dataclass(slots=True, kw_only=True)
class Command:
    """The whole command line: the evaluations, and what concerns them all. `several`: a list is what comes out, even of
    one.
    """

    runs: list[Arguments]
    several: bool = False
    max_concurrent: int = DEFAULT_CONCURRENCY
    max_cost: float | None = None
    max_tokens_total: int | None = None
    heartbeat_url: str | None = None
    output: str = "human"
    abbreviated_summary: bool = False
    disable_tui: bool = False
    dry_run: bool = False
    verbose: bool = False
    yes: bool = False
    python: str | None = None
    push: bool = False
    only: list[int] | None = None
    summary_to: str | None = None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and where the options are listed, instead of listing them all."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):
            message = f"no environment is named: {self.prog} ENV"
        sentence = message[0].upper() + message[1:]
        sentence = sentence if sentence.endswith((".", "?", ")")) else f"{sentence}."
        self.exit(2, f"Error: {sentence}\nRun '{self.prog} --help' to see the options.\n")


def parser(prog: str) -> argparse.ArgumentParser:
    """The parser, with its help. Options that are not given are not in what it gives."""
    made = _Parser(
        prog=prog,
        usage=f"{prog} ENV... [options]",
        description="Evaluate a model, or an offline baseline, on one or several environments.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add_options(made, full=prog == FULL_COMMAND)
    return made


def parse(argv: Sequence[str] | None, prog: str, quiet: bool = False) -> Command:
    """Parse, or end the program with code 2 and a sentence. quiet: without notes, for who only looks into it."""
    made = parser(prog)
    words = list(sys.argv[1:] if argv is None else argv)
    _refuse(made, words)
    given, unknown = made.parse_known_intermixed_args(words)
    if unknown:
        made.error(_unknown(made, unknown))
    values = vars(given)
    for name in [one for one in OFFICIAL_ONLY if one in values]:
        if not quiet:
            print(f"Note: {OFFICIAL_ONLY[name]}", file=sys.stderr)
        del values[name]
    try:
        command = _command(values)
        check_values(command)
    except EvalFileError as error:
        made.exit(2, f"Error: {error}\n")
    except ValueError as error:
        made.error(str(error))
    return command


def _refuse(made: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Options of the official command that cannot be had here, each with the reason and what to do instead."""
    end = words.index("--") if "--" in words else len(words)
    for word in words[:end]:
        name = word.partition("=")[0]
        if name in REFUSED:
            made.error(REFUSED[name])


def _unknown(made: argparse.ArgumentParser, words: Sequence[str]) -> str:
    known = [option for action in made._actions for option in action.option_strings if action.help != argparse.SUPPRESS]
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not flags:
        return f"There is no place for {' '.join(words)}"
    near = get_close_matches(flags[0], known, 1, 0.7)
    return f"There is no option {flags[0]}{f'; did you mean {near[0]}?' if near else ''}"


def _command(values: dict[str, Any]) -> Command:
    shared = {part.name for part in fields(Command)} - {"runs", "several"}
    envs, only = values.pop("envs"), values.get("only")
    given = {name: value for name, value in values.items() if name not in shared}
    whole = {name: value for name, value in values.items() if name in shared}
    files = [name for name in envs if name.endswith(".toml")]
    if len(files) > 1:
        raise ValueError(f"One eval file at a time: {files[0]} or {files[1]}.")
    layers: list[list[Mapping[str, Any]]] = []
    for name in envs:
        if name in files:
            found = read_file(Path(name))
            whole = {**found.whole, **whole}
            layers += [[found.shared, run] for run in found.runs]
        else:
            layers.append([{"env_id": name}])
    if len(layers) > 1:
        if given.get("resume"):
            raise ValueError("--resume PATH continues one run; with several, --resume alone finds the folder of each")
        if "server" in given:
            raise ValueError(
                "--server is the server of one environment: name one, or write `server` into a file of them"
            )
    runs = [_run([*layer, given]) for layer in layers]
    if only is not None:
        runs = [runs[number] for number in only]
    return Command(runs=runs, several=len(envs) > 1 or bool(files), **whole)


def _run(layers: Sequence[Mapping[str, Any]]) -> Arguments:
    """One evaluation of several layers, the last of which wins."""
    values: dict[str, Any] = {}
    for layer in map(_with_sampling, layers):
        combined = {name: {**values.get(name, {}), **layer[name]} for name in _COMBINED if name in layer}
        values |= {**layer, **combined}
    return Arguments(**values)


def _with_sampling(layer: Mapping[str, Any]) -> dict[str, Any]:
    """-t and -T are sampling arguments too; -S of the same place goes before them."""
    left = dict(layer)
    short = {name: left.pop(name) for name in ("max_tokens", "temperature") if name in left}
    if short or "sampling_args" in left:
        left["sampling_args"] = {**short, **left.get("sampling_args", {})}
    for name in ("headers", "headers_from_state"):
        if isinstance(left.get(name), list):
            left[name] = dict(left[name])
    if isinstance(left.get("state_columns"), str):
        left["state_columns"] = [one for one in re.split(r"\s*,\s*", left["state_columns"].strip()) if one]
    if "model" in left:
        left.setdefault("endpoint_only", False)
    return left
