"""The options of vf-eval and `prime eval run`: their names, what they take, their help."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from verifiers.clients.resolve import CLIENT_TYPES
from verifiers.evaluation.endpoints import PROVIDERS, check_address
from verifiers.evaluation.models import DEFAULT_ENDPOINTS_PATH, DEFAULT_MODEL
from verifiers.evaluation.runner import RETRY

if TYPE_CHECKING:
    from verifiers.cli.eval_arguments import Command

FULL_COMMAND = "prime eval run"
"""Under this name it is prime's command, which can install environments."""
EPILOG = """\
examples:
  {prog} reverse-text -m baseline/echo           no model, no key: an offline baseline
  {prog} reverse-text -m gpt-4.1-mini -n 10      the OpenAI API, with OPENAI_API_KEY
  {prog} reverse-text -m qwen -b http://localhost:8000/v1
  {prog} reverse-text -m deepseek/deepseek-v3.2 -p openrouter
  {prog} env-a env-b env-c -m qwen -c 64         several environments, 64 rollouts at once in all
  {prog} configs/evals.toml --dry-run            what a file of evaluations would play
  {prog} my-env -m mine --max-cost 2.50          end when that is spent; --resume goes on
  {prog} my-env -m baseline/replay:outputs/evals/my-env--qwen/1a2b3c4d
  {prog} my-env -m baseline/random --server http://127.0.0.1:8000

baselines, which need no model, no key and no network:
  baseline/random         a valid action or tool call, drawn by seed and turn: a run repeats exactly
  baseline/first          the first valid action every time; a tool is called ten times at most
  baseline/echo           the last message back, or in the first string of an action or tool call
  baseline/replay:FILE    what an earlier run said: its folder, results.jsonl or attempts.jsonl, or lines of one's
                          own, {{"seed": 3, "actions": [{{"move": "up"}}, {{"tool": "echo", "arguments": {{}}}}]}}

exit codes:
  0 played and scored   1 an error   2 a wrong command line   3 a limit was reached   130 Ctrl-C   143 SIGTERM
"""
OFFICIAL_ONLY = {
    "no_interleave_scoring": "-N changes nothing: a rollout is scored as soon as it is played, while others go on.",
    "disable_env_server": "--disable-env-server changes nothing: rollouts are played in this process, with no server "
    "for environments.",
    "num_workers": "-w changes nothing: one process plays all rollouts; -c says how many at once.",
}
"""Of the official command: taken, so that scripts in the field go on, with a note that they do nothing."""
_NO_UPLOAD = (
    "{} is not here: results stay in files. Upload the run's folder, which holds results.jsonl and metadata.json, with "
    "the Hugging Face command: 'hf upload OWNER/NAME FOLDER --repo-type dataset'"
)
REFUSED = {
    **{flag: _NO_UPLOAD.format(flag) for flag in ("-H", "--save-to-hf-hub", "-D", "--hf-hub-dataset-name")},
    **dict.fromkeys(
        ("-f", "--fullscreen"),
        "--fullscreen is not here: the live view takes the few lines that it needs, and leaves the screen as it was",
    ),
    "--tui": "--tui is not here: on a terminal a run is always shown live, and --disable-tui switches that off",
    "--debug": "--debug is not here: -v logs what happens, and --disable-tui prints plain lines",
}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text!r}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"not a JSON object: {text!r}")
    return value


def header(text: str) -> tuple[str, str]:
    """`Name: Value` in its two parts. Raises ArgumentTypeError."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"expected 'Name: Value', got {text!r}")
    return name.strip(), value.strip()


def _count(text: str) -> int:
    if text != "-1" and (not text.isdecimal() or int(text) == 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, or -1 for all, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _above_zero(unit: str) -> Any:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected {unit} above 0, got {text!r}")
        return value

    return read


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def add_options(made: argparse.ArgumentParser, full: bool) -> None:
    """All options; `full`: with those of `prime eval run` alone."""
    made.epilog = EPILOG.format(prog=made.prog)
    add = made.add_argument
    add(
        "envs",
        nargs="+",
        metavar="ENV",
        help="environment: my-env, owner/my-env[@VERSION], or a file of evaluations (evals.toml)",
    )
    add("-a", "--env-args", type=_object, metavar="JSON", help="arguments of load_environment")
    add(
        "-x",
        "--extra-env-kwargs",
        type=_object,
        metavar="JSON",
        help="attributes to set on the environment once it is loaded, such as max_turns",
    )
    add("--env-dir-path", metavar="DIR", help="where local environments lie (./environments)")
    add(
        "--server",
        metavar="URL",
        help="play on this OpenEnv server, which already runs; no Hub, no image (the environment's image)",
    )
    if full:
        add("--python", metavar="PYTHON", help="interpreter to run in (the one that 'prime env install' installs into)")
        add("-y", "--yes", action="store_true", help="install environments that are missing without asking")
        add("--push", action="store_true", help="push the results to your Hub when they are there")
    _model(made)
    _amount(made)
    _results(made)
    add("-N", "--no-interleave-scoring", action="store_true", help=argparse.SUPPRESS)
    add("--disable-env-server", action="store_true", help=argparse.SUPPRESS)
    add("-w", "--num-workers", help=argparse.SUPPRESS)
    # Between `prime eval run` and the programs that it starts for environments with interpreters of their own.
    add("--only", type=_numbers, help=argparse.SUPPRESS)
    add("--summary-to", help=argparse.SUPPRESS)


def _model(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("model").add_argument
    add("-m", "--model", help=f"registry entry, a model, or a baseline, see below ({DEFAULT_MODEL})")
    add("-p", "--provider", choices=PROVIDERS, metavar="NAME", help=f"who serves it: {', '.join(PROVIDERS)}")
    add("-b", "--api-base-url", "--base-url", dest="base_url", metavar="URL", help="an OpenAI-compatible server")
    add(
        "--api-client-type",
        dest="client_type",
        choices=CLIENT_TYPES,
        metavar="TYPE",
        help=f"API it speaks: {', '.join(CLIENT_TYPES)} (openai_chat_completions)",
    )
    add("-k", "--api-key-var", metavar="NAME", help="environment variable that holds the key")
    add("-e", "--endpoints-path", metavar="FILE", help=f"registry of endpoints ({DEFAULT_ENDPOINTS_PATH})")
    add(
        "--header",
        dest="headers",
        type=header,
        action="append",
        metavar="'NAME: VALUE'",
        help="header for the model endpoint",
    )
    add(
        "--header-from-state",
        dest="headers_from_state",
        type=header,
        action="append",
        metavar="'NAME: KEY'",
        help="header with the value of a key of the rollout's state (X-Session-ID: example_id)",
    )
    add("-t", "--max-tokens", type=_positive, metavar="N", help="tokens a reply may have")
    add("-T", "--temperature", type=float, metavar="X", help="how much chance there is in a reply")
    add("-S", "--sampling-args", type=_object, metavar="JSON", help="further sampling arguments; these win")


def _amount(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("amount").add_argument
    add(
        "-n",
        "--num-examples",
        type=_count,
        metavar="N",
        help="examples, -1 for all (the environment's default, else 5)",
    )
    add("-r", "--rollouts-per-example", type=_positive, metavar="N", help="(the environment's default, else 3)")
    add("-c", "--max-concurrent", type=_count, metavar="N", help="rollouts at once in all, -1 for no limit (32)")
    add("--max-retries", type=_natural, metavar="N", help="more attempts after infrastructure errors (0)")
    add(
        "--stop-after",
        type=_natural,
        metavar="N",
        help="end when the first N rollouts all ended with the same error, 0 for never (8)",
    )
    add("--timeout", type=_above_zero("seconds"), metavar="SECONDS", help="time limit of one rollout")
    add(
        "--max-cost", type=_above_zero("US dollars"), metavar="USD", help="end when the model's calls have cost so much"
    )
    add("--max-tokens-total", type=_positive, metavar="N", help="end when so many tokens are used, input and output")
    add("-i", "--independent-scoring", action="store_true", help="score the rollouts of an example one by one")
    add("--dry-run", action="store_true", help="say what would be played, and play nothing")


def _results(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("results").add_argument
    add("-o", "--output-dir", metavar="DIR", help="folder for results (the environment's outputs/, else ./outputs)")
    add("-s", "--save-results", "--save", dest="save", action="store_true", help="record results (the default)")
    add("--no-save", dest="save", action="store_false", help="record nothing")
    add(
        "-R",
        "--resume",
        nargs="?",
        const="",
        metavar="PATH",
        help="continue a run: the one in PATH, or the newest incomplete",
    )
    add(
        "--retry",
        choices=RETRY,
        help="with --resume: play again what ended with an error, or without a reward; earlier attempts stay recorded",
    )
    add("-C", "--state-columns", metavar="A,B", help="keys of the state to record with each rollout")
    add("--output", choices=("human", "plain", "json"), help="what to print at the end; plain: NAME<tab>VALUE (human)")
    add("-A", "--abbreviated-summary", action="store_true", help="print only reward, cost, errors and the folder")
    add("-d", "--disable-tui", action="store_true", help="plain lines of progress, also on a terminal")
    add("--heartbeat-url", metavar="URL", help="GET this address every minute while rollouts are played")
    add("-v", "--verbose", action="store_true", help="log what happens")


def check_values(command: Command) -> None:
    """Raises ValueError, with a sentence, for options that do not go together."""
    for run in command.runs:
        if command.push and not run.save:
            raise ValueError("--push sends the results that are recorded; leave --no-save out")
        if run.resume is not None and not run.save:
            raise ValueError("--resume needs the results it continues; leave --no-save out")
        if run.retry is not None and run.resume is None:
            raise ValueError("--retry needs the run that it continues: --resume, or --resume PATH")
    if command.heartbeat_url is not None:
        check_address(command.heartbeat_url, "--heartbeat-url", "https://example.org/beat")
