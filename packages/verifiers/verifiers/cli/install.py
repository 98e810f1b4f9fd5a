"""vf-install: install an environment for the interpreter in use: from its folder, or `owner/name` from the Hub."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prime_core.errors import PrimeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    parser = argparse.ArgumentParser(prog="vf-install", description=__doc__)
    parser.add_argument("env", metavar="ENV", help="my-env (a folder below --path) or OWNER/NAME[@VERSION] (the Hub)")
    parser.add_argument("-p", "--path", default="./environments", help="where environments lie (default: %(default)s)")
    parser.add_argument("--python", help="the interpreter to install for (default: the active virtual environment's)")
    given = parser.parse_args(argv)
    try:
        _install(given.env, given.path, given.python)
    except PrimeError as error:
        print(f"Error: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 1
    return 0


def _install(env: str, path: str, python: str | None) -> None:
    from prime_core.connection import connect
    from prime_core.installing import install_from_hub, install_local, target_python
    from prime_core.metadata import find_environment

    target = target_python(python)
    if "/" in env:
        report = install_from_hub(connect(require_auth=False), [env], target)
    else:
        report = install_local(find_environment(env, path), target)
    for change in report.changes:
        print(f"  {change}", file=sys.stderr)
    for name, version in report.environments.items():
        print(f"Installed {name} {version} for {report.python}")
