"""What a wheel of an environment is built from: a copy of the folder, laid out so that no two environments collide.

An environment whose code is one module (the seed's layout: my_env.py, beside it proj/, README.md, pyproject.toml) is
staged as a package, my_env/__init__.py with everything it reads beside it, because its files would lie at the top of
site-packages otherwise, where the next environment's overwrite them. `Path(__file__).parent` still finds what it
found. Every other shape is copied as it is, and the author's own build settings hold.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prime_core.archive import archive_files
from prime_core.errors import PackagingError
from prime_core.metadata import EnvironmentMetadata, load_pyproject
from prime_core.project import FOLDER, has_project

# Build settings that a list of files can stand for; with any other the author's settings are kept.
_PLAIN_BUILD = frozenset(
    {"include", "exclude", "packages", "only-include", "artifacts", "targets", "reproducible", "ignore-vcs"}
)
_LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".prime", ".cache", "dist", "outputs", "node_modules"})


@dataclass(frozen=True)
class Staging:
    """A staged copy at `root`. `hatchling`: it can be built by hatchling alone, without fetching a build backend.

    `import_root` is the author's own folder that makes the same modules importable, for an editable install.
    """

    root: Path
    hatchling: bool
    import_root: Path | None


def stage(env_dir: Path, metadata: EnvironmentMetadata, root: Path) -> Staging:
    """Copy what the wheel is built from to the new folder `root`. Raises PackagingError."""
    content = load_pyproject(env_dir)
    module = metadata.module_name
    is_module = (env_dir / f"{module}.py").is_file() and not (env_dir / module / "__init__.py").is_file()
    is_package = (env_dir / module / "__init__.py").is_file()
    openenv = has_project(env_dir)
    if openenv and not is_module and not is_package:
        raise PackagingError(
            f"An OpenEnv environment named '{metadata.name}' needs its code in {module}.py or {module}/__init__.py.",
            f"Rename the file, or the project, so that 'import {module}' finds it.",
        )
    plain = _has_plain_settings(content) and not content.get("project", {}).get("dynamic")
    own_backend = _backend(content) not in (None, "hatchling")
    if plain and (openenv or (is_module and not own_backend)):
        _stage_package(env_dir, metadata, root, content, is_module)
        return Staging(root, True, env_dir)
    shutil.copytree(env_dir, root, symlinks=True, ignore=lambda _, names: _LEFT_OUT & set(names))
    _strip_tags(root / "pyproject.toml")
    _keep_build_record(root)
    import_root = (
        env_dir if is_module or is_package else env_dir / "src" if (env_dir / "src" / module).is_dir() else None
    )
    return Staging(root, _needs_only_hatchling(content), import_root)


def _build_settings(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    build = content.get("tool", {}).get("hatch", {}).get("build", {})
    return build, build.get("targets", {}).get("wheel", {})


def _has_plain_settings(content: dict[str, Any]) -> bool:
    build, wheel = _build_settings(content)
    return set(build) <= _PLAIN_BUILD and set(wheel) <= _PLAIN_BUILD


def _backend(content: dict[str, Any]) -> str | None:
    """`hatchling`, another backend's module, or None when none is named (then any may build it)."""
    backend = content.get("build-system", {}).get("build-backend")
    return str(backend).partition(".")[0] if backend else None


def _needs_only_hatchling(content: dict[str, Any]) -> bool:
    requires = content.get("build-system", {}).get("requires", [])
    return _backend(content) == "hatchling" and all(re.match(r"\s*hatchling\b(?!-)", str(line)) for line in requires)


def _patterns(content: dict[str, Any], name: str) -> list[str]:
    build, wheel = _build_settings(content)
    value = wheel.get(name, build.get(name, []))
    return [str(item) for item in value] if isinstance(value, list) else []


def _stage_package(
    env_dir: Path, metadata: EnvironmentMetadata, root: Path, content: dict[str, Any], is_module: bool
) -> None:
    import pathspec

    module = metadata.module_name
    files = dict(archive_files(env_dir))
    wanted = [
        line for name in ("include", "packages", "only-include", "artifacts") for line in _patterns(content, name)
    ]
    included = pathspec.GitIgnoreSpec.from_lines(wanted)
    excluded = pathspec.GitIgnoreSpec.from_lines(_patterns(content, "exclude"))
    top_level = _imported(env_dir, files, module)
    selected = ["hatch.toml"]
    for name, path in files.items():
        first, _, rest = name.partition("/")
        if is_module and name == f"{module}.py":
            place = f"{module}/__init__.py"
        elif first == FOLDER and rest:
            place = f"{module}/{name}"
        elif excluded.match_file(name):
            continue
        elif first in (module, "pyproject.toml") and (rest or first != module):
            # pyproject.toml goes along for the evaluation defaults in it.
            place = name if first == module else f"{module}/{name}"
        elif first.removesuffix(".py") in top_level or (included.match_file(name) and _is_code(env_dir, first)):
            place = name
        elif included.match_file(name):
            place = f"{module}/{name}"
        else:
            continue
        selected.append(place)
        _copy(path, root / place)
    for path in env_dir.iterdir():
        # README and licences, which the metadata names.
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".py":
            _copy(path, root / path.name)
    for name in _metadata_files(content):
        if (env_dir / name).is_file():
            _copy(env_dir / name, root / name)
    tops = sorted({name.partition("/")[0] for name in selected[1:]})
    listed = ", ".join(f'"{name}"' for name in tops)
    (root / "hatch.toml").write_text(f"[build]\nignore-vcs = true\n[build.targets.wheel]\nonly-include = [{listed}]\n")


def _metadata_files(content: dict[str, Any]) -> list[str]:
    project = content.get("project", {})
    named = []
    for value in (project.get("readme"), project.get("license")):
        file = value.get("file") if isinstance(value, dict) else value
        if (
            isinstance(file, str)
            and len(file) < 200
            and "\n" not in file
            and ".." not in file
            and not file.startswith("/")
        ):
            named.append(file)
    return named


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _is_code(env_dir: Path, first: str) -> bool:
    """Whether a top-level name is a module or package of its own, which must stay importable by that name."""
    return first.endswith(".py") or (env_dir / first / "__init__.py").is_file()


def _imported(env_dir: Path, files: dict[str, Path], module: str) -> set[str]:
    """Top-level modules and packages of the folder that its code imports, directly or through one another."""
    found: set[str] = set()
    left = [
        name for name in files if name == f"{module}.py" or (name.startswith(f"{module}/") and name.endswith(".py"))
    ]
    while left:
        for name in _imports(files[left.pop()]) - found - {module}:
            if name in sys.stdlib_module_names:
                continue
            below = [file for file in files if file.startswith(f"{name}/") and file.endswith(".py")]
            own = (
                [f"{name}.py"] if f"{name}.py" in files else below if (env_dir / name / "__init__.py").is_file() else []
            )
            if own and name != FOLDER:
                found.add(name)
                left.extend(own)
    return found


def _imports(path: Path) -> set[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _keep_build_record(root: Path) -> None:
    """Take back what the copy's `.gitignore` says of the build record: build backends leave out what is ignored."""
    ignore = root / ".gitignore"
    if ignore.is_file() and (root / FOLDER / ".build.json").is_file():
        lines = ignore.read_bytes()
        ignore.unlink()  # it may be a link to the author's own
        ignore.write_bytes(lines + f"\n!/{FOLDER}/.build.json\n".encode())


def _strip_tags(pyproject: Path) -> None:
    """Take `[project].tags` out of the copy: some build backends refuse fields that PEP 621 does not know."""
    text = pyproject.read_text(encoding="utf-8")
    content = tomllib.loads(text)
    if content.get("project", {}).pop("tags", None) is None:
        return
    shorter = re.sub(r"(?ms)^[ \t]*tags[ \t]*=[ \t]*\[.*?\][ \t]*(#[^\n]*)?$\n?", "", text, count=1)
    try:
        same = tomllib.loads(shorter) == content
    except tomllib.TOMLDecodeError:
        same = False
    if same:
        pyproject.write_text(shorter, encoding="utf-8")
