"""Running an evaluation where the environment is installed: in this process, or as a program of another interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from prime_core.errors import InstallError

PROGRAM = "prime eval run"
FIND = """
import importlib.util, sys
if importlib.util.find_spec("verifiers") is None:
    sys.exit("not installed")
try:
    found = importlib.util.find_spec("verifiers.cli.eval")
except ImportError:
    found = None
sys.exit(None if found else "another")
"""
RUN = f"import sys; from verifiers.cli.eval import main; sys.exit(main(prog={PROGRAM!r}))"


def evaluate(args: list[str], python: str | None) -> int:
    """Run the evaluation's own command line with `args` and return its exit code.

    The interpreter is `python`, else the one that `prime env install` installs into. Another interpreter's program
    takes this process's place, so that signals, output and exit code are its own. Raises InstallError when it has no
    verifiers of this project.
    """
    from prime_core.installing import target_python

    target = target_python(python)
    if is_own(target) or asks_for_help(args):
        from verifiers.cli.eval import main

        return main(args, PROGRAM)
    _check_verifiers(target)
    return _become(target, ["-P", "-c", RUN, *args])


def asks_for_help(args: list[str]) -> bool:
    """Whether the evaluation's help is asked for, which needs no environment."""
    return "--help" in args or "-h" in args


def is_own(python: Path) -> bool:
    """Whether this is the interpreter, and the virtual environment, that this command runs in."""
    # The folder decides: the `python` of two virtual environments may be links to one file.
    return python.absolute().parent.resolve() == Path(sys.executable).absolute().parent.resolve()


def _check_verifiers(python: Path) -> None:
    """Raises InstallError unless that interpreter can run the evaluation."""
    try:
        done = subprocess.run(
            [python, "-P", "-c", FIND], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        raise InstallError(f"{python} cannot be run.", "Name another interpreter with --python.") from None
    if done.returncode == 0:
        return
    hint = f"'prime env install OWNER/NAME --python {python}' brings it along; --python names another interpreter."
    if b"another" in done.stderr:
        raise InstallError(
            f"The verifiers that is installed for {python} has no evaluation like this: it is another, or too old.",
            hint,
        )
    raise InstallError(f"verifiers is not installed for {python}, the interpreter in use here.", hint)


def _become(program: Path, args: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: what lies in the working directory is not mistaken for an installed package.
    os.execv(program, [str(program), *args])
