"""What an environment folder says about itself in pyproject.toml, and whether it is fit to be published.

Sources: the publishing seed (fields, sentences), protocols/hub.md §3.2 (what counts as environment code), PEP 621 and
PEP 440.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_core.errors import PackagingError

ENTRY = "load_environment"
DEFAULT_BASE = "./environments"
NOT_CODE = frozenset({"proj", "dist", "build", "outputs", "tests", "__pycache__"})


@dataclass(frozen=True)
class EnvironmentMetadata:
    """pyproject.toml, read and checked. `normalized_name` as in PEP 503, `module_name` what is imported.

    `tags` are `[project].tags`, which never reach a wheel. `eval_defaults` holds num_examples and
    rollouts_per_example as far as `[tool.verifiers.eval]` gives them. `license` is the field as written: a string, a
    table or None.
    """

    name: str
    normalized_name: str
    module_name: str
    version: str
    description: str
    tags: list[str] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    requires_python: str | None = None
    license: Any = None
    readme_path: Path | None = None
    eval_defaults: dict[str, int] = field(default_factory=dict)
    hatch_include: list[str] = field(default_factory=list)


def module_name(name: str) -> str:
    """The module of an environment: lower case, everything between words an underscore (`My-Env` → `my_env`)."""
    return re.sub(r"[-_.]+", "_", name).lower()


def find_environment(env_id: str, base: str | Path = DEFAULT_BASE, hint: str | None = None) -> Path:
    """`my-env` (or `owner/my-env`) → `base/my_env`. Raises PackagingError when there is no such folder; `hint` is what to
    do then, unless it is found nearby.
    """
    name = _name_of(env_id)
    base = Path(base)
    for folder in (base / module_name(name), base / name):
        if name not in ("", ".", "..") and folder.is_dir():
            return folder
    shown = f"./{base / module_name(name)}" if not base.is_absolute() else str(base / module_name(name))
    near = nearby(env_id, base)
    if near is not None:
        hint = f"It is in {near.as_posix()}: add --path {near.parent.as_posix()}"
    raise PackagingError(
        f"Environment '{name}' not found at {shown}.",
        hint or f"Make it with 'prime env init {name}', or name the folder that holds it with --path.",
    )


def nearby(env_id: str, base: str | Path = DEFAULT_BASE) -> Path | None:
    """Where an environment is that is not in `base` here: in the working directory, or one above it, or in their folders
    of the same name as `base`. Relative to the working directory.
    """
    module = module_name(_name_of(env_id))
    here = Path.cwd()
    for up in (here, *here.parents):
        for folder in (up / Path(base).name / module, up / module):
            if module and (folder / "pyproject.toml").is_file():
                return Path(os.path.relpath(folder.parent)) / module
    return None


def _name_of(env_id: str) -> str:
    return env_id.partition("@")[0].rstrip("/").rsplit("/", 1)[-1]


def load_pyproject(env_dir: Path) -> dict[str, Any]:
    """The parsed pyproject.toml. Raises PackagingError: missing, or not valid TOML, and where."""
    path = env_dir / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackagingError(
            "No pyproject.toml found in environment directory",
            f"Write {path}, or make an environment with 'prime env init'.",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise PackagingError(f"{path} is not valid TOML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PackagingError(f"{path} cannot be read: {error}.") from None


def read_metadata(env_dir: Path) -> EnvironmentMetadata:
    """Read and check pyproject.toml. Raises PackagingError with one sentence on the first field that is wrong."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion

    from prime_core.versions import read_version

    content = load_pyproject(env_dir)
    where = "pyproject.toml"
    project = _table(content, "project", where)
    if not project:
        raise PackagingError(f"{where} has no [project] table.", "Add one with name, version and description.")
    name = project.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise PackagingError(
            f"{where}: [project].name must be a name of letters, digits, '-', '_' and '.', not {name!r}.",
            'Write it like name = "my-env".',
        )
    dynamic = project.get("dynamic", [])
    if "version" not in project and isinstance(dynamic, list) and "version" in dynamic:
        raise PackagingError(
            f"{where}: [project].version must be written there, not computed ('dynamic').",
            'Write it like version = "0.1.0".',
        )
    version = project.get("version")
    try:
        if not isinstance(version, str):
            raise InvalidVersion
        read_version(version)
    except InvalidVersion:
        wrong = "is missing" if version is None else f"{version!r} is not a version number (PEP 440)"
        raise PackagingError(f"{where}: [project].version {wrong}.", 'Write it like version = "0.1.0".') from None
    description = project.get("description")
    if description is not None and not isinstance(description, str):
        raise PackagingError(f"{where}: [project].description must be a string.")
    build = _table(_table(_table(content, "tool", where), "hatch", where), "build", where)
    wheel = _table(_table(build, "targets", where), "wheel", where)
    include = [
        *_strings(build, "include", "[tool.hatch.build].include"),
        *_strings(wheel, "include", "[tool.hatch.build.targets.wheel].include"),
    ]
    return EnvironmentMetadata(
        name=name,
        normalized_name=canonicalize_name(name),
        module_name=module_name(name),
        version=version,
        description=(description or "").strip(),
        tags=_strings(project, "tags", "[project].tags"),
        urls=_urls(project),
        dependencies=_dependencies(project),
        requires_python=_requires_python(project),
        license=project.get("license"),
        readme_path=_readme(env_dir, project),
        eval_defaults=_eval_defaults(content),
        hatch_include=list(dict.fromkeys(include)),
    )


def check_environment(env_dir: Path) -> EnvironmentMetadata:
    """Whether the folder is fit to be published; its metadata. Raises PackagingError with one sentence on what is
    not.
    """
    metadata = read_metadata(env_dir)
    if not metadata.description:
        raise PackagingError(
            "pyproject.toml: [project].description is missing.", 'Write one line like description = "What it is about".'
        )
    if metadata.readme_path is None or not metadata.readme_path.is_file():
        raise PackagingError(
            "No README.md found in environment directory.",
            f"Write {env_dir / 'README.md'}: what it tests and how to run it.",
        )
    sources = list(source_files(env_dir))
    if not sources:
        raise PackagingError(
            "No environment Python file found.",
            f"Write {env_dir / f'{metadata.module_name}.py'} with a {ENTRY} function.",
        )
    # All are looked at, so that a syntax error is never published.
    if not any([_defines_entry(path, env_dir) for path in sources]):  # noqa: C419
        raise PackagingError(
            f"No {ENTRY} function found in {_listed(sources, env_dir)}.",
            f"Define 'def {ENTRY}(...)' that returns an environment.",
        )
    return metadata


def _table(content: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise PackagingError(f"{where}: '{name}' must be a table.")
    return value


def _strings(table: dict[str, Any], name: str, shown: str) -> list[str]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PackagingError(f"pyproject.toml: {shown} must be a list of strings, not {value!r}.")
    return [item.strip() for item in value if item.strip()]


def _urls(project: dict[str, Any]) -> dict[str, str]:
    urls = _table(project, "urls", "pyproject.toml")
    for label, url in urls.items():
        if not isinstance(url, str) or not re.match(r"https?://[^/\s]", url):
            raise PackagingError(f"pyproject.toml: [project.urls].{label} must be an http(s) address, not {url!r}.")
    return dict(urls)


def _dependencies(project: dict[str, Any]) -> list[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    lines = _strings(project, "dependencies", "[project].dependencies")
    for line in lines:
        try:
            Requirement(line)
        except InvalidRequirement:
            raise PackagingError(
                f"pyproject.toml: [project].dependencies holds {line!r}, which is not a requirement (PEP 508).",
                'Write it like "verifiers>=0.1".',
            ) from None
    return lines


def _requires_python(project: dict[str, Any]) -> str | None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    value = project.get("requires-python")
    try:
        if value is not None:
            SpecifierSet(value)
    except (InvalidSpecifier, TypeError, AttributeError):
        raise PackagingError(
            f"pyproject.toml: [project].requires-python {value!r} is not valid.",
            'Write it like requires-python = ">=3.11".',
        ) from None
    return value


def _readme(env_dir: Path, project: dict[str, Any]) -> Path | None:
    named = project.get("readme")
    if isinstance(named, dict):
        named = named.get("file")
    for name in (named, "README.md"):
        if isinstance(name, str) and (env_dir / name).is_file():
            return env_dir / name
    return None


def _eval_defaults(content: dict[str, Any]) -> dict[str, int]:
    tool = _table(content, "tool", "pyproject.toml")
    section = _table(_table(tool, "verifiers", "pyproject.toml"), "eval", "pyproject.toml")
    defaults = {}
    for name in ("num_examples", "rollouts_per_example"):
        value = section.get(name)
        if value is None:
            continue
        # -1 stands for all examples.
        if isinstance(value, bool) or not isinstance(value, int) or value < (-1 if name == "num_examples" else 1):
            raise PackagingError(f"pyproject.toml: [tool.verifiers.eval].{name} must be a whole number, not {value!r}.")
        defaults[name] = value
    return defaults


def source_files(env_dir: Path) -> Iterator[Path]:
    """The environment's own code: Python files at the root, and packages below it."""
    yield from sorted(path for path in env_dir.glob("*.py") if path.is_file() and not path.name.startswith("."))
    for folder in (env_dir, env_dir / "src"):
        for package in sorted(folder.glob("*/__init__.py")):
            if package.parent.name not in NOT_CODE:
                yield from sorted(package.parent.rglob("*.py"))


def _defines_entry(path: Path, env_dir: Path) -> bool:
    shown = path.relative_to(env_dir).as_posix()
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise PackagingError(f"{shown}, line {error.lineno}: {error.msg}.") from None
    except (UnicodeDecodeError, ValueError):
        raise PackagingError(f"{shown} is not Python source in UTF-8.") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == ENTRY:
            return True
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == ENTRY for alias in node.names):
            return True
        if isinstance(node, ast.Assign) and any(
            isinstance(item, ast.Name) and item.id == ENTRY for item in node.targets
        ):
            return True
    return False


def _listed(sources: list[Path], env_dir: Path) -> str:
    names = [path.relative_to(env_dir).as_posix() for path in sources]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
