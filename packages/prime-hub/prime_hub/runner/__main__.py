"""`python -m prime_hub.runner --dir DIR`: started by the Hub, found by it again through `DIR/runner.json`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prime_hub.runner.server import ALREADY_RUNNING, RUNTIMES, Options, run


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m prime_hub.runner", description="Runs builds and sandboxes for a Hub."
    )
    parser.add_argument("--dir", type=Path, required=True, help="the runner's folder, made when missing")
    parser.add_argument("--runtime", choices=RUNTIMES, default="process", help="how sandboxes are run (process)")
    parser.add_argument(
        "--idle-exit", type=float, default=15.0, help="seconds without a Hub and without work until it exits (15)"
    )
    parser.add_argument("--build-seconds", type=float, default=1200.0, help="time limit of one build in seconds (1200)")
    given = parser.parse_args(arguments)
    code = run(Options(given.dir.absolute(), given.runtime, given.idle_exit, given.build_seconds))
    if code == ALREADY_RUNNING:
        print(f"Another runner serves {given.dir} already.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
