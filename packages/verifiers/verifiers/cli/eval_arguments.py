"""The command line of vf-eval."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verifiers.clients.resolve import CLIENT_TYPES
from verifiers.evaluation.endpoints import PROVIDERS
from verifiers.evaluation.models import DEFAULT_ENDPOINTS_PATH, DEFAULT_MODEL
from verifiers.evaluation.runner import RETRY

EPILOG = """\
examples:
  {prog} reverse-text -m baseline/echo           no model, no key: an offline baseline
  {prog} reverse-text -m gpt-4.1-mini -n 10      the OpenAI API, with OPENAI_API_KEY
  {prog} reverse-text -m qwen -b http://localhost:8000/v1
  {prog} reverse-text -m deepseek/deepseek-v3.2 -p openrouter
  {prog} my-env -m baseline/replay:outputs/evals/my-env--qwen/1a2b3c4d
  {prog} my-env -m baseline/random --server http://127.0.0.1:8000

baselines, which need no model, no key and no network:
  baseline/random         a valid action or tool call, drawn by seed and turn: a run repeats exactly
  baseline/first          the first valid action every time; a tool is called ten times at most
  baseline/echo           the last message back, or in the first string of an action or tool call
  baseline/replay:FILE    what an earlier run said: its folder, results.jsonl or attempts.jsonl, or lines of one's
                          own, {{"seed": 3, "actions": [{{"move": "up"}}, {{"tool": "echo", "arguments": {{}}}}]}}
"""


@dataclass(slots=True)
class Arguments:
    """The parsed command line."""

    env_id: str
    env_args: dict[str, Any]
    env_dir_path: str
    server: str | None
    endpoints_path: str
    model: str
    provider: str | None
    client_type: str | None
    api_key_var: str | None
    base_url: str | None
    headers: dict[str, str]
    headers_from_state: dict[str, str]
    num_examples: int | None
    rollouts_per_example: int | None
    max_concurrent: int
    max_retries: int
    timeout: float | None
    sampling_args: dict[str, Any]
    output_dir: str | None
    save: bool
    resume: str | None
    retry: str | None
    stop_after: int
    state_columns: list[str]
    independent_scoring: bool
    output: str
    verbose: bool


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text!r}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"not a JSON object: {text!r}")
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("expected 'Name: Value'")
    return name.strip(), value.strip()


def _count(text: str) -> int:
    if text != "-1" and (not text.isdecimal() or int(text) == 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, or -1 for all, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value


def parser(prog: str) -> argparse.ArgumentParser:
    """The parser, with its help."""
    made = argparse.ArgumentParser(
        prog=prog,
        description="Evaluate a model, or an offline baseline, on an environment.",
        epilog=EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("env_id", metavar="ENV", help="environment: my-env, or owner/my-env[@VERSION] when it is installed")
    add("-a", "--env-args", type=_object, default={}, metavar="JSON", help="arguments of load_environment")
    add("--env-dir-path", default="./environments", metavar="DIR", help="where local environments lie (./environments)")
    add(
        "--server",
        metavar="URL",
        help="play on this OpenEnv server, which already runs; no Hub, no image (the environment's image)",
    )
    group = made.add_argument_group("model").add_argument
    group(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        help=f"registry entry, a model, or a baseline, see below ({DEFAULT_MODEL})",
    )
    group("-p", "--provider", choices=PROVIDERS, metavar="NAME", help=f"who serves it: {', '.join(PROVIDERS)}")
    group("-b", "--api-base-url", "--base-url", dest="base_url", metavar="URL", help="an OpenAI-compatible server")
    group(
        "--api-client-type",
        dest="client_type",
        choices=CLIENT_TYPES,
        metavar="TYPE",
        help=f"API it speaks: {', '.join(CLIENT_TYPES)} (openai_chat_completions)",
    )
    group("-k", "--api-key-var", metavar="NAME", help="environment variable that holds the key")
    group(
        "-e",
        "--endpoints-path",
        default=DEFAULT_ENDPOINTS_PATH,
        metavar="FILE",
        help="registry of endpoints (%(default)s)",
    )
    group(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="header for the model endpoint",
    )
    group(
        "--header-from-state",
        type=_header,
        action="append",
        default=[],
        metavar="'NAME: KEY'",
        help="header with the value of a key of the rollout's state (X-Session-ID: example_id)",
    )
    group("-t", "--max-tokens", type=_positive, metavar="N", help="tokens a reply may have")
    group("-T", "--temperature", type=float, metavar="X")
    group(
        "-S", "--sampling-args", type=_object, default={}, metavar="JSON", help="further sampling arguments; these win"
    )
    group = made.add_argument_group("amount").add_argument
    group(
        "-n",
        "--num-examples",
        type=_count,
        metavar="N",
        help="examples, -1 for all (the environment's default, else 5)",
    )
    group("-r", "--rollouts-per-example", type=_positive, metavar="N", help="(the environment's default, else 3)")
    group("-c", "--max-concurrent", type=_count, default=32, metavar="N", help="rollouts at once, -1 for all (32)")
    group("--max-retries", type=_natural, default=0, metavar="N", help="more attempts after infrastructure errors (0)")
    group(
        "--stop-after",
        type=_natural,
        default=8,
        metavar="N",
        help="end when the first N rollouts all ended with the same error, 0 for never (8)",
    )
    group("--timeout", type=_seconds, metavar="SECONDS", help="time limit of one rollout")
    group("-i", "--independent-scoring", action="store_true", help="score the rollouts of an example one by one")
    group = made.add_argument_group("results").add_argument
    group("-o", "--output-dir", metavar="DIR", help="folder for results (the environment's outputs/, else ./outputs)")
    group("-s", "--save-results", dest="save", action="store_true", default=True, help="record results (the default)")
    group("--no-save", dest="save", action="store_false", help="record nothing")
    group(
        "-R",
        "--resume",
        nargs="?",
        const="",
        metavar="PATH",
        help="continue a run: the one in PATH, or the newest incomplete",
    )
    group(
        "--retry",
        choices=RETRY,
        help="with --resume: play again what ended with an error, or without a reward; earlier attempts stay recorded",
    )
    group("-C", "--state-columns", default="", metavar="A,B", help="keys of the state to record with each rollout")
    group("--output", choices=("human", "json"), default="human", help="what to print at the end (human)")
    group("-v", "--verbose", action="store_true", help="log what happens")
    return made


def parse(argv: Sequence[str] | None, prog: str) -> Arguments:
    """Parse, or end the program with code 2 and a sentence."""
    made = parser(prog)
    given = made.parse_args(argv)
    if given.resume is not None and not given.save:
        made.error("--resume needs the results it continues; leave --no-save out")
    if given.retry is not None and given.resume is None:
        made.error("--retry needs the run that it continues: --resume, or --resume PATH")
    sampling = {"max_tokens": given.max_tokens, "temperature": given.temperature}
    return Arguments(
        env_id=given.env_id,
        env_args=given.env_args,
        env_dir_path=given.env_dir_path,
        server=given.server,
        endpoints_path=given.endpoints_path,
        model=given.model,
        provider=given.provider,
        client_type=given.client_type,
        api_key_var=given.api_key_var,
        base_url=given.base_url,
        headers=dict(given.header),
        headers_from_state=dict(given.header_from_state),
        num_examples=given.num_examples,
        rollouts_per_example=given.rollouts_per_example,
        max_concurrent=given.max_concurrent,
        max_retries=given.max_retries,
        timeout=given.timeout,
        sampling_args={**{key: value for key, value in sampling.items() if value is not None}, **given.sampling_args},
        output_dir=given.output_dir,
        save=given.save,
        resume=given.resume,
        retry=given.retry,
        stop_after=given.stop_after,
        state_columns=[name.strip() for name in given.state_columns.split(",") if name.strip()],
        independent_scoring=given.independent_scoring,
        output=given.output,
        verbose=given.verbose,
    )
