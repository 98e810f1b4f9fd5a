"""Evaluations of one command in several interpreters: one program after another, each with all of the concurrency."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from prime_cli.output import Output

if TYPE_CHECKING:
    from verifiers.cli.eval_arguments import Command

SIGNALLED = 128


def play_groups(
    args: Sequence[str],
    command: Command,
    groups: Mapping[Path, Sequence[int]],
    program: Callable[[Path], list[str]],
    out: Output,
) -> int:
    """Play the runs of each interpreter by a program of its own and show them all together; the exit code.

    What a limit of cost or tokens leaves goes to the next program; a signal goes to the one that plays, and ends them all.
    With --push those that were not ended so are pushed.
    """
    runs: dict[int, dict[str, Any]] = {}
    codes: list[int] = []
    cost, tokens = command.max_cost, command.max_tokens_total
    with tempfile.TemporaryDirectory(prefix="prime-eval-") as scratch:
        for number, (python, indexes) in enumerate(groups.items()):
            if (cost is not None and cost <= 0) or (tokens is not None and tokens <= 0):
                runs |= {
                    index: _not_played(command, index, "The limit was reached before it began.") for index in indexes
                }
                continue
            summary = Path(scratch) / f"{number}.json"
            options = ["--only", ",".join(map(str, indexes)), "--summary-to", str(summary)]
            options += [] if cost is None else ["--max-cost", f"{cost:.9f}"]
            options += [] if tokens is None else ["--max-tokens-total", str(tokens)]
            if number and command.output != "json":
                out.data()
            codes.append(_run([*program(python), *_with(args, options)]))
            told = _read(summary)
            spent = told.get("spent", {})
            cost = None if cost is None else cost - spent.get("cost", 0.0)
            tokens = None if tokens is None else tokens - spent.get("tokens", 0)
            why = "It could not be played; what is said above tells why."
            found = told.get("runs") or [_not_played(command, index, why) for index in indexes]
            runs |= dict(zip(indexes, found, strict=True))
            if codes[-1] > SIGNALLED:
                break
    order = sorted(runs)
    told, code = [runs[index] for index in order], _code(codes)
    if command.push:
        from prime_cli.evaluations.pushing_runs import not_pushed, push_runs

        if code > SIGNALLED:
            not_pushed(told, out)
        elif not push_runs(told, [command.runs[index] for index in order], out, command.output == "json"):
            code = code or 1
    _show(told, command, out)
    return code


def _with(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """The options behind all others, so that they count."""
    end = args.index("--") if "--" in args else len(args)
    return [*args[:end], *options, *args[end:]]


def _not_played(command: Command, index: int, why: str) -> dict[str, Any]:
    run = command.runs[index]
    return {"env_id": run.env_id, "env_args": run.env_args, "model": run.model, "stopped": why}


def _read(summary: Path) -> dict[str, Any]:
    try:
        return json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _show(runs: Sequence[Mapping[str, Any]], command: Command, out: Output) -> None:
    from verifiers.evaluation.overview import overview

    if command.dry_run:
        return
    if command.output == "json":
        out.json(list(runs) if command.several else runs[0])
    elif len(runs) > 1:
        out.data(f"\n{overview(runs, command.output == 'plain')}")


def _code(codes: Sequence[int]) -> int:
    """A signal's goes before an error's, and that before a limit's."""
    signalled = [code for code in codes if code > SIGNALLED]
    if signalled:
        return signalled[0]
    return 1 if any(code not in (0, 3) for code in codes) else max(codes, default=0)


def _run(command: Sequence[str]) -> int:
    """The exit code of a program, to which the signals that come here are passed on, each once: it has a process group of
    its own, since Ctrl-C would else reach it from the terminal too. So it cannot read from there either.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child: list[subprocess.Popen[bytes]] = []
    with _passing_on(child) as early:
        child.append(subprocess.Popen(command, process_group=0, stdin=subprocess.DEVNULL))
        for number in early:
            child[0].send_signal(number)
        code = child[0].wait()
    return SIGNALLED - code if code < 0 else code


@contextmanager
def _passing_on(child: list[subprocess.Popen[bytes]]) -> Generator[list[int]]:
    """Gives the signals that came before there was a child."""
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed = signal.SIGTERM if number == signal.SIGHUP else number
        if not child:
            early.append(passed)
        for one in child:
            if one.poll() is None:
                one.send_signal(passed)

    before = {one: signal.signal(one, pass_on) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield early
    finally:
        for one, handler in before.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)
