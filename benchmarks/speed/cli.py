"""What the commands have in common: ending by a signal, saying what comes next, reading a count."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_by_signals() -> None:
    """From now on Ctrl-C and the like end the command in order: what it has started is ended and removed."""
    for number in SIGNALS:
        signal.signal(number, _leave)


def _leave(number: int, _: object) -> None:
    # Once is enough, a second one would interrupt the tidying.
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        tell("Stopping ...")
    raise SystemExit(128 + number)


def tell(line: str) -> None:
    """Say on standard error what comes next."""
    print(line, file=sys.stderr, flush=True)


def count(text: str) -> int:
    """The value of an option that is a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text!r}")
    return int(text)
