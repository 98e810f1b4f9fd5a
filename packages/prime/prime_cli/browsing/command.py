"""Starting the browser: `prime eval tui`, and `vf-tui`, which is the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from prime_core.errors import PrimeError

USUAL = ("outputs", "environments")


class NothingToBrowse(PrimeError):
    """There is no such folder, or no terminal."""


def places_of(names: Sequence[str]) -> list[Path]:
    """The folders to look in: those named, else `outputs` and `environments` here, else this one."""
    if names:
        missing = next((name for name in names if not Path(name).is_dir()), None)
        if missing is not None:
            what = "is a file" if Path(missing).exists() else "does not exist"
            raise NothingToBrowse(f"{missing} {what}.", "Name the folder of a run, or one with runs in it.")
        return [Path(name) for name in names]
    return [Path(name) for name in USUAL if Path(name).is_dir()] or [Path()]


def browse(names: Sequence[str]) -> None:
    """Browse until the user has had enough. Raises NothingToBrowse."""
    places = places_of(names)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NothingToBrowse(
            "The browser needs a terminal.", "Without one, 'prime eval list --help' and results.jsonl tell the same."
        )
    from prime_cli.browsing.app import Browser

    Browser(places).run()


def main() -> int:
    """vf-tui."""
    from prime_cli.main import main as command

    return command(["eval", "tui", *sys.argv[1:]])
