"""`python -m prime_hub.runner --dir DIR`: started by the Hub, found by it again through `DIR/runner.json`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prime_hub.runner.runtimes import choice
from prime_hub.runner.server import ALREADY_RUNNING, Options, run


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m prime_hub.runner", description="Runs builds and sandboxes for a Hub."
    )
    parser.add_argument("--dir", type=Path, required=True, help="the runner's folder, made when missing")
    parser.add_argument("--runtime", choices=choice.names(), help="how sandboxes are run (the best that works here)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the runtime; repeatable"
    )
    parser.add_argument(
        "--idle-exit", type=float, default=15.0, help="seconds without a Hub and without work until it exits (15)"
    )
    parser.add_argument("--build-seconds", type=float, default=1200.0, help="time limit of one build in seconds (1200)")
    given = parser.parse_args(arguments)
    options = dict(item.partition("=")[::2] for item in given.option)
    code = run(Options(given.dir.absolute(), given.runtime, given.idle_exit, given.build_seconds, options))
    if code == ALREADY_RUNNING:
        print(f"Another runner serves {given.dir} already.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
