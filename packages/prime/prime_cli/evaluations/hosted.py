"""`prime eval run OWNER/NAME --hosted`, `prime eval logs` and `prime eval stop`: evaluations that the Hub runs itself."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from prime_cli.environments.hub import data_of, hub
from prime_cli.evaluations.looking import show_summary
from prime_cli.output import Output
from prime_core.api import APIClient
from prime_core.errors import PrimeError

GOING = ("PENDING", "RUNNING")
POLL_SECONDS = 2.0
FAILED = ("FAILED", "TIMEOUT", "CANCELLED")


class HostedError(PrimeError):
    """What was asked for is none of a hosted run."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise HostedError(
            f"{message[:1].upper()}{message[1:]}.",
            "prime eval run OWNER/NAME --hosted [-m MODEL] [-n N] [-r N] [-a JSON] [-S JSON] [--name TEXT] [--follow]",
        )


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    environment: str
    model: str | None
    config: dict[str, Any]
    name: str | None
    public: bool
    follow: bool


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"'{text[:80]}' is not a JSON object")
    return found


def parse(words: Sequence[str]) -> Wanted:
    """The command line of a hosted run. Raises HostedError."""
    parser = _Parser(
        prog="prime eval run",
        description="Have the Hub run the newest version of an environment in a sandbox of its own.",
        allow_abbrev=False,
    )
    parser.add_argument("environment", metavar="OWNER/NAME")
    parser.add_argument("--hosted", action="store_true")
    parser.add_argument("--model", "-m", help="one that the Hub's operator has named, or baseline/random")
    parser.add_argument("--num-examples", "-n", type=int)
    parser.add_argument("--rollouts-per-example", "-r", type=int)
    for long, short in (("env-args", "a"), ("extra-env-kwargs", "x"), ("sampling-args", "S")):
        parser.add_argument(f"--{long}", f"-{short}", type=_object)
    parser.add_argument("--max-tokens", "-t", type=int)
    parser.add_argument("--temperature", "-T", type=float)
    parser.add_argument("--max-concurrent", "-c", type=int)
    parser.add_argument("--max-retries", type=int)
    parser.add_argument("--state-columns", "-C")
    parser.add_argument("--independent-scoring", "-i", action="store_true", default=None)
    parser.add_argument("--verbose", "-v", action="store_true", default=None)
    parser.add_argument("--timeout-minutes", type=int)
    parser.add_argument("--name", "--eval-name")
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--follow", "-f", action="store_true")
    found = vars(parser.parse_args(list(words)))
    environment, model, name = (found.pop(one) for one in ("environment", "model", "name"))
    public, follow = found.pop("public"), found.pop("follow")
    found.pop("hosted")
    config = {one: value for one, value in found.items() if value is not None}
    return Wanted(environment, model, config, name, public, follow)


def start(words: Sequence[str], out: Output) -> int:
    """Have the Hub run it; with --follow, until it has ended. The exit code."""
    from prime_core.config import load_config
    from prime_core.references import parse_reference

    wanted = parse(words)
    reference = parse_reference(wanted.environment)
    if reference.version != "latest":
        raise HostedError(
            "The Hub runs the newest version of an environment.",
            f"Leave @{reference.version} out, or run it here: prime eval run {reference}",
        )
    with hub() as client:
        found = data_of(client.get(reference.path))
        body: dict[str, Any] = {"environment_ids": [found["id"]], "eval_config": wanted.config}
        chosen = {"inference_model": wanted.model, "name": wanted.name, "team_id": load_config().team_id}
        body |= {name: value for name, value in chosen.items() if value}
        if wanted.public:
            body["is_public"] = True
        made = client.post("/hosted-evaluations", json=body)
        one = str(made["evaluation_id"])
        out.success("Hosted evaluation started")
        out.fields({"Environment": str(reference), "Evaluation ID": one, "View results": made.get("viewer_url")})
        if not wanted.follow:
            out.note(f"See its log: prime eval logs {one} -f")
            return 0
        return _follow(client, one, out)


def show_logs(evaluation_id: str, follow: bool, out: Output) -> int:
    """Print the log of a run; with `follow`, until the run has ended. The exit code: 1 for one that has failed."""
    with hub() as client:
        if follow:
            return _follow(client, evaluation_id, out)
        found = client.get(f"/evaluations/{evaluation_id}")
        text = str(client.get(f"/hosted-evaluations/{evaluation_id}/logs").get("logs") or "")
        if text:
            out.data(text.rstrip("\n"))
        _tell_end(found, out)
        return 0


def stop(evaluation_id: str, out: Output) -> None:
    """Have a run end."""
    with hub() as client:
        told = client.patch(f"/hosted-evaluations/{evaluation_id}/cancel")
    out.success(str(told.get("message") or f"Evaluation {evaluation_id} is ending."))


def _follow(client: APIClient, evaluation_id: str, out: Output) -> int:
    shown = ""
    while True:
        found = client.get(f"/evaluations/{evaluation_id}")
        text = str(client.get(f"/hosted-evaluations/{evaluation_id}/logs").get("logs") or "")
        if fresh := added(shown, text):
            out.data(fresh.rstrip("\n"))
        shown = text
        if found.get("status") not in GOING:
            _tell_end(found, out)
            show_summary(out, found.get("summary"))
            return 1 if found.get("status") in FAILED else 0
        time.sleep(POLL_SECONDS)


def added(before: str, after: str) -> str:
    """What has come to a log, whose beginning may have gone since."""
    if after.startswith(before):
        return after[len(before) :]
    end = before[-512:]
    at = after.rfind(end)
    return after if at < 0 else after[at + len(end) :]


def _tell_end(found: dict[str, Any], out: Output) -> None:
    out.note(f"Status: {found.get('status')}")
    if found.get("error_message"):
        out.note(str(found["error_message"]))
