"""Ten-step rollouts by the official client and by ours: one Hub, one image, one machine, one run.

Every row is a fresh process, with its servers still to be started. Both clients load the same environments/ten_steps. Where the
model is HTTP, both ask the same server, which answers at once; where it is policy, an object inside the process answers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scratch import ENVIRONMENT, HERE, Failed, Scratch, official_python, scratch

OFFICIAL = "official"
LIMIT_SECONDS = 600
END_SECONDS = 20
KEY = "bench"


@dataclass
class Row:
    """One line of the table: who plays what, and a report of every round."""

    client: str
    model: str
    concurrency: int
    rollouts: int
    command: list[str]
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def middle(self) -> dict[str, Any]:
        """The report of the median round."""
        by_rate = sorted(self.reports, key=lambda report: report["rate"])
        return by_rate[(len(by_rate) - 1) // 2]

    @property
    def cold_rate(self) -> float:
        """Rollouts a second from the environment's construction to the last score; median of the rounds."""
        return statistics.median(report["rate"] for report in self.reports)

    @property
    def play_rate(self) -> float:
        """Rollouts a second from the constructed environment to the last score; median of the rounds."""
        return statistics.median(report["rollouts"] / report["play_seconds"] for report in self.reports)


@contextlib.contextmanager
def model_server() -> Generator[str]:
    """The base URL of an instant model that runs as a process of its own."""
    child = subprocess.Popen(
        [sys.executable, str(HERE / "model_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        url = child.stdout.readline().strip()
        if not url:
            raise Failed("The instant model's server did not start.")
        yield url
    finally:
        child.stdin.close()
        _end(child)
        child.stdout.close()


def run(row: Row, place: Scratch, model_url: str, limit: float) -> dict[str, Any]:
    """Play one row in a fresh process; its report with the whole process's seconds and how many servers were started.

    Raises Failed when it ends without one, or not within `limit` seconds.
    """
    before = place.sandboxes()
    told = ["--environment", str(place.copy_of(ENVIRONMENT)), "--model-url", model_url, "--rollouts", str(row.rollouts)]
    began = time.time()
    command = [*row.command, *told, "--concurrency", str(row.concurrency), "--spawned", repr(began)]
    variables = {**place.variables, "BENCH_MODEL_KEY": KEY}
    child = subprocess.Popen(
        command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        printed, said = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        child.kill()
        tail = child.communicate()[1].strip()[-2000:]
        raise Failed(f"{_name(row)}: not done within {limit:.0f} seconds (--limit). {tail}".rstrip()) from error
    finally:
        _end(child)
    took = time.time() - began
    try:
        report: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Failed(f"{_name(row)}: ended with {child.returncode} and no result:\n{said.strip()[-4000:]}") from error
    return {**report, "process_seconds": took, "servers": place.sandboxes() - before}


def _end(child: subprocess.Popen[str]) -> None:
    for stop in (child.terminate, child.kill):
        if child.poll() is None:
            stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS)


def _name(row: Row) -> str:
    return f"{row.client}, {row.model} model, {row.rollouts} rollouts, {row.concurrency} at once"


def rows(chosen: argparse.Namespace, official: Path) -> list[Row]:
    """What is measured, in this order in every round."""
    theirs, ours = [str(official), str(HERE / "official_rollouts.py")], [sys.executable, str(HERE / "our_rollouts.py")]
    at_once = chosen.ours_concurrency or max(chosen.concurrency)
    return [
        *(Row(OFFICIAL, "HTTP", count, chosen.rollouts, theirs) for count in chosen.concurrency),
        Row(OFFICIAL, "policy", max(chosen.concurrency), chosen.rollouts, [*theirs, "--policy"]),
        *(Row("ours", "HTTP", at_once, count, ours) for count in chosen.ours_rollouts),
        *(Row("ours", "policy", at_once, count, [*ours, "--policy"]) for count in chosen.ours_rollouts),
    ]


COLUMNS: list[tuple[str, Callable[[Row, float], str]]] = [
    ("client", lambda row, best: row.client),
    ("model", lambda row, best: row.model),
    ("at once", lambda row, best: str(row.concurrency)),
    ("right", lambda row, best: f"{_worst(row)['right']}/{row.rollouts}"),
    ("start s", lambda row, best: f"{row.middle['start_seconds']:.2f}"),
    ("construct s", lambda row, best: f"{row.middle['construct_seconds']:.2f}"),
    ("play s", lambda row, best: f"{row.middle['play_seconds']:.2f}"),
    ("process s", lambda row, best: f"{row.middle['process_seconds']:.2f}"),
    ("rollouts/s cold", lambda row, best: _figure(row.cold_rate)),
    ("playing", lambda row, best: _figure(row.play_rate)),
    ("ours/official", lambda row, best: "" if row.client == OFFICIAL else f"{row.cold_rate / best:.0f}x"),
    ("servers", lambda row, best: str(row.middle["servers"])),
    ("MiB", lambda row, best: f"{max(report['peak_mib'] for report in row.reports):.0f}"),
]
NOTES = """\
start: interpreter and imports. cold: from constructing the environment to the last score, start of servers included.
playing: from the constructed environment on. ours/official: our cold rate by the best rate at which the official one plays.
Official: verifiers 0.1.14 with prime-sandboxes 0.2.22, in a virtual environment of their own, on this Hub. As released its OpenEnvEnv
fails to construct (pyarrow refuses the pydantic messages of its rows); here they are made dicts for it, before the first rollout.
HTTP: both ask the same instant model server. policy: an object in the evaluator's process answers."""


def _figure(rate: float) -> str:
    return f"{rate:.2f}" if rate < 100 else f"{rate:.0f}"


def _worst(row: Row) -> dict[str, Any]:
    return min(row.reports, key=lambda report: report["right"])


def table(measured: list[Row]) -> str:
    """The rows beneath their headings, and what the columns mean."""
    best = max(row.play_rate for row in measured if row.client == OFFICIAL)
    lines = [[heading for heading, _ in COLUMNS], *([cell(row, best) for _, cell in COLUMNS] for row in measured)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*shown, "", NOTES])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=_count, default=40, help="of the official client, per row (default: 40)")
    parser.add_argument("--concurrency", type=_count, nargs="+", default=[8, 32], help="a row each (default: 8 32)")
    parser.add_argument("--ours-rollouts", type=_count, nargs="+", default=[200, 2000], help="default: 200 2000")
    parser.add_argument("--ours-concurrency", type=_count, help="default: the highest of --concurrency")
    parser.add_argument("--rounds", type=_count, default=1, help="of all rows, in turn; the table shows medians")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for one row of one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every report there as well")
    chosen = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        measured = rows(chosen, official_python())
        with scratch() as place, model_server() as url:
            for _ in range(chosen.rounds):
                for row in measured:
                    print(f"{_name(row)} ...", file=sys.stderr, flush=True)
                    row.reports.append(run(row, place, url, chosen.limit))
    except Failed as error:
        print(f"benchmarks/official: {error}", file=sys.stderr)
        return 1
    print(f"Rollouts of ten steps, {os.cpu_count()} cores, rounds: {chosen.rounds}\n\n{table(measured)}", flush=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([_plain(row) for row in measured], indent=2) + "\n")
    return _wrong(measured)


def _wrong(measured: list[Row]) -> int:
    """Say which rollouts were not scored 10.0; 1 when some of ours were not."""
    for row in measured:
        worst = _worst(row)
        if worst["right"] != row.rollouts:
            print(f"\n{_name(row)}: {row.rollouts - worst['right']} not scored 10.0. Errors: {worst['errors']}")
    return int(any(row.client != OFFICIAL and _worst(row)["right"] != row.rollouts for row in measured))


def _plain(row: Row) -> Mapping[str, Any]:
    shown = {"client": row.client, "model": row.model, "concurrency": row.concurrency, "rollouts": row.rollouts}
    return {**shown, "cold_rate": row.cold_rate, "play_rate": row.play_rate, "rounds": row.reports}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text!r}")
    return int(text)


def _leave(number: int, _: object) -> None:
    # Once is enough: what is running now is ended and removed.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
