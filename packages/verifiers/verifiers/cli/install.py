"""vf-install: install an environment for the interpreter in use: from its folder, or `owner/name` from the Hub."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prime_core.errors import PrimeError

EXAMPLES = """\
examples:
  vf-install my-env                    your own, from ./environments/my_env
  vf-install my-env -p ~/environments
  vf-install alice/my-env              the newest of the Hub
  vf-install alice/my-env@0.1.0 --python ./venv/bin/python
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="vf-install",
        description="Install an environment for the interpreter in use: from its folder, or from the Hub.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("env", metavar="ENV", help="my-env (a folder below --path) or OWNER/NAME[@VERSION] (the Hub)")
    parser.add_argument("-p", "--path", default="./environments", help="where environments lie (default: %(default)s)")
    parser.add_argument("--python", help="the interpreter to install for (default: the active virtual environment's)")
    given = parser.parse_args(argv)
    try:
        _install(given.env, given.path, given.python)
    except PrimeError as error:
        print(f"Error: {error.sentence}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; nothing was changed.", file=sys.stderr)
        return 130
    return 0


def _install(env: str, path: str, python: str | None) -> None:
    from prime_core.connection import connect, print_to_stderr
    from prime_core.installing import install_from_hub, install_local, target_python
    from prime_core.metadata import find_environment

    target = target_python(python)
    if "/" in env:
        report = install_from_hub(connect(require_auth=False), [env], target, announce=print_to_stderr)
    else:
        hint = (
            f"A name alone is a folder of {path} (--path names another, 'vf-init {env}' makes it); "
            f"from the Hub: vf-install OWNER/{env}"
        )
        report = install_local(find_environment(env, path, hint), target, announce=print_to_stderr)
    for change in report.changes:
        print(f"  {change}", file=sys.stderr)
    for name, version in report.environments.items():
        print(f"Installed {name} {version} for {report.python}")
