"""What a shell proposes behind `prime eval run`: options, environments and files of evaluations, models, choices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

BASE = "./environments"


def words(before: Sequence[str], incomplete: str) -> list[str]:
    """The words that begin with `incomplete`, behind the words `before`."""
    return sorted(word for word in set(_words(before, incomplete)) if word.startswith(incomplete))


def _words(before: Sequence[str], incomplete: str) -> Iterable[str]:
    import argparse

    from prime_cli.evaluating import PROGRAM
    from verifiers.cli.eval_arguments import parser

    known = {}
    for action in parser(PROGRAM)._actions:
        if action.help != argparse.SUPPRESS:
            known |= dict.fromkeys(action.option_strings, action)
    if incomplete.startswith("-"):
        return known
    asked = known.get(before[-1]) if before else None
    if asked is None or asked.nargs == 0:
        return [*_local(BASE), *_installed(), *_files(incomplete)]
    if asked.dest == "model":
        return _models()
    if asked.choices:
        return list(asked.choices)
    takes_path = asked.metavar in ("DIR", "FILE", "PATH", "PYTHON")
    return _paths(incomplete) if takes_path else ()


def _local(base: str) -> list[str]:
    """Environments that lie in the working folder."""
    return [file.parent.name.replace("_", "-") for file in Path(base).glob("*/pyproject.toml")]


def _installed() -> list[str]:
    """Environments of the interpreter in use: distributions that need verifiers and are not of this project."""
    from packaging.utils import canonicalize_name

    from prime_core.errors import InstallError
    from prime_core.installing import target_python
    from prime_core.interpreters import inspect
    from prime_core.planning import needed_by
    from prime_core.wheelhouse import OURS

    try:
        found = needed_by("verifiers", inspect(target_python()))
    except InstallError:
        return []
    return [str(canonicalize_name(name)) for name in found if name not in OURS]


def _files(incomplete: str) -> list[str]:
    """Folders, and files that may hold evaluations."""
    return [path for path in _paths(incomplete) if path.endswith(("/", ".toml"))] if incomplete else _toml()


def _toml() -> list[str]:
    return [
        str(path) for path in (*Path().glob("*.toml"), *Path("configs").glob("*.toml")) if path.name not in _NO_EVALS
    ]


_NO_EVALS = frozenset({"pyproject.toml", "endpoints.toml", "uv.toml"})


def _paths(incomplete: str) -> list[str]:
    folder, slash, start = incomplete.rpartition("/")
    try:
        entries = list(Path(f"{folder}{slash}" or ".").expanduser().iterdir())
    except OSError:
        return []
    hidden = start.startswith(".")
    return [
        f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if hidden or not entry.name.startswith(".")
    ]


def _models() -> list[str]:
    """Baselines, and the endpoints of the registry."""
    from verifiers.evaluation.endpoints import ModelNotResolved, read_registry
    from verifiers.evaluation.models import DEFAULT_ENDPOINTS_PATH
    from verifiers.evaluation.policies import POLICIES

    try:
        return [*POLICIES, *read_registry(DEFAULT_ENDPOINTS_PATH)]
    except ModelNotResolved:
        return list(POLICIES)
