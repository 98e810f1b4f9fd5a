"""What Ctrl-C leaves behind, said by the command that knows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from prime_cli.output import out


@contextmanager
def saying(outcome: str | Callable[[], str]) -> Generator[None]:
    """Tell who ends the block by Ctrl-C what became of it: `Interrupted; {outcome}.` The exit code is 130 as ever."""
    try:
        yield
    except KeyboardInterrupt:
        words = outcome if isinstance(outcome, str) else outcome()
        # A terminal has just shown "^C" in the same line.
        out.note(f"{chr(10) if sys.stderr.isatty() else ''}Interrupted; {words}.")
        raise
