"""The folder: what can be told from its files alone (quick), and by loading the environment in its own interpreter."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from prime_core.checks.report import Verdict, failed, passed, skipped, warned
from prime_core.errors import PackagingError
from prime_core.metadata import ENTRY, EnvironmentMetadata, read_metadata
from verifiers.checking.case import Blocked, Case

PYPROJECT = "pyproject.toml"
SEMANTIC = re.compile(r"\d+\.\d+\.\d+(?:[-.+]?[A-Za-z0-9.+-]+)?")
RUNS = re.compile(r"\b(prime eval run|vf-eval|load_environment\()")
FEW_WORDS = 10
NO_FOLDER = "No folder of an environment was named."


def _folder(case: Case) -> Path:
    if case.target.folder is None:
        raise Blocked(NO_FOLDER)
    return case.target.folder


def _metadata(case: Case) -> EnvironmentMetadata:
    folder = _folder(case)
    if case.target.metadata is None:
        try:
            case.target.metadata = read_metadata(folder)
        except PackagingError as error:
            case.blame("metadata-invalid", str(error.sentence), PYPROJECT, error.hint or f"Correct {PYPROJECT}.")
    return case.target.metadata


def _readme(case: Case) -> tuple[str, str]:
    """The README's name and text. Raises: Blocked."""
    path = _metadata(case).readme_path
    if path is None or not path.is_file():
        case.blame(
            "readme-missing",
            "There is no README.md, so nobody learns what the environment is about.",
            "README.md",
            "Write it: what is played or asked, how it is rewarded, its arguments, and a command that runs it.",
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    if len(text.split()) < FEW_WORDS:
        case.blame(
            "readme-missing",
            f"{path.name} is all but empty.",
            path.name,
            "Write what is played or asked, how it is rewarded, its arguments, and a command that runs it.",
        )
    return path.name, text


async def metadata_invalid(case: Case) -> Verdict:
    metadata = _metadata(case)
    if not metadata.description:
        return failed(
            "metadata-invalid",
            "[project].description is missing.",
            PYPROJECT,
            'Write one line like description = "What it is about".',
        )
    return passed(version=metadata.version)


async def version_not_semantic(case: Case) -> Verdict:
    version = _metadata(case).version
    if SEMANTIC.fullmatch(version):
        return passed()
    return warned(
        "version-not-semantic",
        f"The version {version} is not of the form MAJOR.MINOR.PATCH, so nobody can tell what a new one changes.",
        f"{PYPROJECT}, [project].version",
        'Write it like version = "0.1.0".',
    )


async def version_mismatch(case: Case) -> Verdict:
    folder, version = _folder(case), _metadata(case).version
    others = list(_other_versions(folder))
    for where, other in others:
        if other != version:
            return failed(
                "version-mismatch",
                f"{PYPROJECT} says version {version}, and {where} says {other}.",
                where,
                f"Write {version} there too, or leave it out: {PYPROJECT} is what counts.",
            )
    return passed()


def _other_versions(folder: Path) -> Iterator[tuple[str, str]]:
    """Where else a version stands: `__version__` of a module, `version` in openenv.yaml."""
    for path, tree in _trees(folder):
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            named = any(isinstance(target, ast.Name) and target.id == "__version__" for target in targets)
            if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                yield f"{path}, line {node.lineno}", str(node.value.value)
    version = openenv_yaml(folder).get("version")
    if version is not None:
        yield "proj/openenv.yaml", str(version)


def openenv_yaml(folder: Path) -> dict[str, Any]:
    """What proj/openenv.yaml says, {} where it says nothing."""
    import yaml

    try:
        content = yaml.safe_load((folder / "proj" / "openenv.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _trees(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    """The environment's own modules, those that can be parsed, by their path in the folder."""
    from prime_core.metadata import source_files

    for path in source_files(folder):
        try:
            yield path.relative_to(folder).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue


async def tags_missing(case: Case) -> Verdict:
    tags = _metadata(case).tags
    if tags:
        return passed(tags=list(tags))
    return warned(
        "tags-missing",
        "The environment has no tags, so it is not found by what it is.",
        f"{PYPROJECT}, [project].tags",
        'Name its subject, its form, and what it is for, like tags = ["games", "multi-turn", "train", "eval"].',
    )


async def readme_missing(case: Case) -> Verdict:
    _readme(case)
    return passed()


async def example_missing(case: Case) -> Verdict:
    name, text = _readme(case)
    if RUNS.search(text):
        return passed()
    return warned(
        "example-missing",
        "The README shows no command that runs the environment.",
        name,
        f"Add one, like: prime eval run {_metadata(case).normalized_name} -m baseline/random -n 5",
    )


async def entry_missing(case: Case) -> Verdict:
    from prime_core.metadata import check_environment

    folder = _folder(case)
    _readme(case)  # whose absence is its own id
    if not (await metadata_invalid(case)).outcome == "pass":
        raise Blocked("It cannot be told, because of metadata-invalid.")
    try:
        check_environment(folder)
    except PackagingError as error:
        return failed("entry-missing", str(error.sentence), "the environment's module", error.hint or "Correct it.")
    return passed()


def entry_arguments(folder: Path) -> list[str] | None:
    """The names of load_environment's arguments, read from the source; None where it is not defined in it."""
    for _, tree in _trees(folder):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == ENTRY:
                arguments = node.args
                return [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return None


async def arguments_undocumented(case: Case) -> Verdict:
    arguments = entry_arguments(_folder(case))
    if arguments is None:
        return skipped("load_environment is not defined in the environment's own files.")
    name, text = _readme(case)
    missing = [argument for argument in arguments if not re.search(rf"\b{re.escape(argument)}\b", text)]
    if not missing:
        return passed(arguments=len(arguments))
    return warned(
        "arguments-undocumented",
        f"The README does not mention {_listed(missing)} of load_environment.",
        name,
        "Add a table of its arguments: name, default, what it does.",
    )


async def dependencies_unbounded(case: Case) -> Verdict:
    from packaging.requirements import Requirement

    metadata, folder = _metadata(case), _folder(case)
    loose = [(PYPROJECT, line) for line in metadata.dependencies]
    loose += [(where, line) for where, line in _server_requirements(folder)]
    unbounded = []
    for where, line in loose:
        try:
            requirement = Requirement(line)
        except ValueError:
            continue
        if not requirement.specifier and requirement.url is None:
            unbounded.append((where, requirement.name))
    if not unbounded:
        return passed()
    return warned(
        "dependencies-unbounded",
        f"{_listed([name for _, name in unbounded])} may be of any version, so what is installed tomorrow may not work.",
        ", ".join(dict.fromkeys(where for where, _ in unbounded)),
        f'Say which versions it works with, like "{unbounded[0][1]}>=1.2,<2".',
    )


def _server_requirements(folder: Path) -> Iterator[tuple[str, str]]:
    for name in ("proj/requirements.txt", "proj/server/requirements.txt"):
        path = folder / name
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                line = line.partition(" #")[0].strip()
                if line and not line.startswith(("#", "-")):
                    yield name, line


async def lock_outdated(case: Case) -> Verdict:
    folder = _folder(case)
    looked = False
    for place in (folder, folder / "proj"):
        lock, project = place / "uv.lock", place / PYPROJECT
        if not (lock.is_file() and project.is_file()):
            continue
        looked = True
        missing = _not_locked(lock, project)
        if missing:
            where = lock.relative_to(folder).as_posix()
            return warned(
                "lock-outdated",
                f"{where} does not hold {_listed(missing)}, which {project.relative_to(folder).as_posix()} requires.",
                where,
                "Run 'uv lock' there.",
            )
    return passed() if looked else skipped("It has no uv.lock.")


def _not_locked(lock: Path, project: Path) -> list[str]:
    """The names that a project requires and its uv.lock does not have."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        locked = {canonicalize_name(item["name"]) for item in _toml(lock).get("package", [])}
        required = [Requirement(line) for line in _toml(project).get("project", {}).get("dependencies", [])]
    except (InvalidRequirement, KeyError, TypeError, ValueError):
        return []
    return [item.name for item in required if canonicalize_name(item.name) not in locked]


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def settings(folder: Path | None) -> dict[str, Any]:
    """`[tool.verifiers.check]` of the environment's pyproject.toml: `network` (bool), `reward_range` ([low, high]),
    `startup_seconds` and `step_seconds` (numbers).
    """
    if folder is None:
        return {}
    try:
        found = _toml(folder / PYPROJECT)["tool"]["verifiers"]["check"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "metadata-invalid": metadata_invalid,
    "version-not-semantic": version_not_semantic,
    "version-mismatch": version_mismatch,
    "tags-missing": tags_missing,
    "readme-missing": readme_missing,
    "example-missing": example_missing,
    "entry-missing": entry_missing,
    "arguments-undocumented": arguments_undocumented,
    "dependencies-unbounded": dependencies_unbounded,
    "lock-outdated": lock_outdated,
}
