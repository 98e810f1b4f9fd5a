"""vf-init: a new environment that installs, runs and scores as generated. `prime env init` is the same."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from prime_core.errors import PackagingError, PrimeError

STANDARD_HEADER = """\"\"\"__NAME__: a complete environment; make the questions and the reward your own.\"\"\"

import verifiers as vf

from __MODULE__.tasks import questions, right_number

"""

EXAMPLES = """\
examples:
  vf-init my-env                 one module, ./environments/my_env/my_env.py
  vf-init my-env --multi-file    a package folder instead
  vf-init my-game --openenv      with a game server in proj/, for vf-build
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="vf-init",
        description="Make a new environment that installs, runs and scores as generated.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("env", metavar="ENV", help="the environment's name, for example my-env")
    parser.add_argument("-p", "--path", default="./environments", help="where environments lie (default: %(default)s)")
    parser.add_argument("--openenv", action="store_true", help="with an OpenEnv server in proj/")
    parser.add_argument("--multi-file", action="store_true", help="a package folder instead of one module")
    parser.add_argument("--rewrite-readme", action="store_true", help="write README.md anew where there is one")
    given = parser.parse_args(argv)
    try:
        created = created_files(
            given.env,
            given.path,
            openenv=given.openenv,
            multi_file=given.multi_file,
            rewrite_readme=given.rewrite_readme,
            announce=print,
        )
    except PrimeError as error:
        print(f"Error: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 1
    print(created)
    return 0


@dataclass(frozen=True)
class Created:
    """An environment's folder, how many files were written to it, and how many were there before."""

    folder: Path
    written: int
    kept: int

    def __str__(self) -> str:
        if not self.written:
            return f"{self.folder} is there already; nothing was written."
        return f"Completed {self.folder}" if self.kept else f"Created {self.folder}"


def create_environment(name: str, base: str | Path = "./environments", **options: Any) -> Path:
    """`created_files`, of which this returns the folder."""
    return created_files(name, base, **options).folder


def created_files(
    name: str,
    base: str | Path = "./environments",
    *,
    openenv: bool = False,
    multi_file: bool = False,
    rewrite_readme: bool = False,
    announce: Callable[[str], object] | None = None,
) -> Created:
    """Write a new environment to `base/<module>`.

    Files that exist are left as they are, each with a line to `announce` (default: stderr).
    Raises PackagingError: a name that cannot be one, a folder that cannot be written.
    """
    announce = announce or _to_stderr
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(?:[-_][A-Za-z0-9]+)*", name):
        raise PackagingError(
            f"'{name}' cannot be an environment's name.", "Use letters, digits and hyphens, as in my-env."
        )
    module = name.replace("-", "_").lower()
    folder = Path(base).expanduser() / module
    written = kept = 0
    for path, text in _contents(module, openenv, multi_file).items():
        target = folder / path
        if target.exists() and not (rewrite_readme and path == "README.md"):
            announce(f"{target.name} already exists at {target}, skipping...")
            kept += 1
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise PackagingError(f"{target} cannot be written: {error.strerror or error}.") from None
        written += 1
    return Created(folder, written, kept)


def _contents(module: str, openenv: bool, multi_file: bool) -> dict[str, str]:
    """Path below the environment's folder → text."""
    from verifiers import __version__

    kind = "openenv" if openenv else "standard"
    code = f"{module}/__init__.py" if multi_file else f"{module}.py"
    words = {
        "__NAME__": module.replace("_", "-"),
        "__MODULE__": module,
        "__VERSION__": __version__,
        "__CODE__": module if multi_file else code,
    }

    def text(name: str) -> str:
        found = files("verifiers.cli.templates").joinpath(kind, f"{name}.txt").read_text(encoding="utf-8")
        return _replace(found, words)

    contents = {"README.md": text("README.md"), "pyproject.toml": text("pyproject.toml")}
    if openenv:
        contents[code] = text("module.py")
        for name in ("Dockerfile", "server.py", "requirements.txt"):
            contents[f"proj/{name}"] = text(f"proj/{name}")
    elif multi_file:
        contents[code] = _replace(STANDARD_HEADER, words) + text("module.py")
        contents[f"{module}/tasks.py"] = text("tasks.py")
    else:
        contents[code] = _one_module(text("tasks.py"), text("module.py"))
    return contents


def _one_module(tasks: str, module: str) -> str:
    """Both halves in one file: docstring and imports first, the environment's settings, then the functions."""
    head, _, functions = tasks.partition("\n\n\n")
    settings, _, load = module.partition("\n\n\n")
    return f"{head}\n\nimport verifiers as vf\n\n{settings}\n\n\n{functions.rstrip()}\n\n\n{load}"


def _replace(text: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda found: words[found[0]], text)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
