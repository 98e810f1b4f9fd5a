"""Running evaluations where their environments are installed: in this process, or as programs of other interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from prime_cli.output import out
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


def evaluate(args: list[str]) -> int:
    """Run the evaluation's own command line with `args` and return its exit code.

    The interpreter is that of --python, else the one that `prime env install` installs into; what is missing there is
    installed first, after asking. Another interpreter's program takes this process's place, so that signals, output and
    exit code are its own; with several interpreters they are played one after another. Raises PrimeError: InstallError
    when an interpreter has no verifiers of this project.
    """
    if asks_for_help(args):
        return _here(args)
    from prime_cli.eval_places import find_places
    from prime_core.installing import target_python
    from verifiers.cli.eval_arguments import parse

    command = parse(args, PROGRAM, quiet=True)
    target = target_python(command.python)
    own = is_own(target)
    if not own:
        _check_verifiers(target)
    places = find_places(command.runs, target, own, command.yes, out)
    groups: dict[Path, list[int]] = {}
    for index, python in enumerate(places.pythons):
        groups.setdefault(python, []).append(index)
    if len(groups) > 1 or (command.push and not command.dry_run):
        from prime_cli.eval_children import play_groups

        return play_groups(args, command, groups, lambda python: [str(python), *_program()], out)
    (python,) = groups
    if python == target and own and not places.changed:
        return _here(args)
    # Also when it is this one: what has just been installed is seen by a new process only.
    return _become(python, [*_program(), *args])


def _here(args: list[str]) -> int:
    from verifiers.cli.eval import main

    return main(args, PROGRAM)


def _program() -> list[str]:
    # -P: what lies in the working directory is not mistaken for an installed package.
    return ["-P", "-c", RUN]


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
    os.execv(program, [str(program), *args])
