"""pip's and uv's command lines, read: what is installed, out of which files, and how uv is asked for the same.

Only options that are known here are passed on, because a RUN line acts on this machine and not in a container.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prime_hub.runner.runtimes.base import BuildError

# Options with a value; True when the value is a path.
_PIP_VALUES = {
    **dict.fromkeys(
        ("-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints", "--override"), True
    ),
    **dict.fromkeys(("-f", "--find-links"), False),
    **dict.fromkeys(
        ("-i", "--index-url", "--extra-index-url", "--index", "--default-index", "--index-strategy"), False
    ),
    **dict.fromkeys(("--only-binary", "--no-binary", "--extra", "--group", "--prerelease", "--resolution"), False),
    **dict.fromkeys(("--config-settings", "-C", "--exclude-newer", "--torch-backend"), False),
}
_PIP_FLAGS = frozenset(
    [
        "-U",
        "--upgrade",
        "--pre",
        "--no-deps",
        "--no-build-isolation",
        "--require-hashes",
        "--all-extras",
        "--no-index",
        "--no-build",
    ]
)
# What has no meaning for a fresh virtual environment of our own; True when a value follows.
_PIP_DROPPED = {
    **dict.fromkeys(("--no-cache-dir", "--no-cache", "-n", "--user", "--system", "--break-system-packages"), False),
    **dict.fromkeys(("-q", "--quiet", "-v", "--verbose", "-qq", "-vv", "--no-input", "--no-color", "--compile"), False),
    **dict.fromkeys(
        ("--disable-pip-version-check", "--prefer-binary", "--use-pep517", "--no-warn-script-location"), False
    ),
    **dict.fromkeys(("--compile-bytecode", "--no-progress", "--no-compile", "--ignore-installed", "-I"), False),
    **dict.fromkeys(("--force-reinstall", "--reinstall", "--isolated", "--no-python-downloads", "--exact"), False),
    **dict.fromkeys(("--root-user-action", "--progress-bar", "--timeout", "--default-timeout", "--retries"), True),
    **dict.fromkeys(("--python", "-p", "--link-mode", "--trusted-host", "--cache-dir", "--upgrade-strategy"), True),
}
_SYNC_VALUES = frozenset(
    [
        "--extra",
        "--group",
        "--no-group",
        "--only-group",
        "--no-extra",
        "--package",
        "--index",
        "--default-index",
        "--index-url",
        "--extra-index-url",
        "--prerelease",
        "--resolution",
        "--index-strategy",
        "--no-install-package",
    ]
)
_SYNC_FLAGS = frozenset(
    [
        "--frozen",
        "--locked",
        "--no-dev",
        "--dev",
        "--only-dev",
        "--no-install-project",
        "--no-install-workspace",
        "--no-install-local",
        "--all-extras",
        "--all-groups",
        "--no-default-groups",
        "--all-packages",
        "--no-sources",
        "--no-build-isolation",
        "--upgrade",
        "-U",
    ]
)
_SYNC_DROPPED = {
    **dict.fromkeys(
        ("--no-editable", "--inexact", "--exact", "--active", "--compile-bytecode", "--no-cache", "-n"), False
    ),
    **dict.fromkeys(("-q", "--quiet", "-v", "--verbose", "--no-progress", "--no-python-downloads", "--system"), False),
    **dict.fromkeys(("--python", "-p", "--link-mode", "--cache-dir"), True),
}
_INSTALLERS = frozenset({"pip", "uv"})
_LOCAL = re.compile(r"^(\.|/|file:)|/$")
_INSIDE = re.compile(r"^\s*(?:-e|--editable|-r|--requirement|-c|--constraint)?[\s=]*(\S+)")


@dataclass
class Install:
    """One step: `arguments` for uv (without the interpreter), and the files and folders its result depends on.

    `key` are the words that tell this step from others: the arguments with the image's own paths.
    """

    arguments: list[str]
    key: list[str]
    inputs: list[Path] = field(default_factory=list)
    cwd: Path | None = None


@dataclass(frozen=True)
class Where:
    """How paths are read: `place` turns a path as written into one on this host; `cwd` is the current folder there."""

    place: Callable[[str], Path]
    cwd: Path
    root: Path


def _split(words: Sequence[str]) -> list[str]:
    """`--name=value` as two words, and `-rfile` as `-r file`."""
    out: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("--") and equals:
            out += [name, value]
        elif re.match(r"^-[rceif][^-\s]", word):
            out += [word[:2], word[2:]]
        else:
            out.append(word)
    return out


def _value(words: list[str], name: str) -> str:
    if not words:
        raise BuildError(f"The option {name} needs a value.")
    return words.pop(0)


def pip_install(words: Sequence[str], where: Where) -> list[Install]:
    """`pip install WORDS` as steps; [] when only installers themselves are asked for.

    A local project becomes two steps, its dependencies first, so that a change of its code does not install them
    anew; it is never installed in place, because the tree moves. Raises BuildError.
    """
    rest, arguments, key, inputs = _split(words), [], [], []
    packages: list[str] = []
    projects: list[str] = []
    while rest:
        word = rest.pop(0)
        if word in ("-e", "--editable"):
            projects.append(_value(rest, word))
        elif word in _PIP_VALUES:
            value = _value(rest, word)
            given = value
            if _PIP_VALUES[word] or (word in ("-f", "--find-links") and "://" not in value):
                path = where.place(value)
                _need(path, value)
                inputs += [path, *requirement_inputs(path, where)]
                given = str(path)
            arguments += [word, given]
            key += [word, value]
        elif word in _PIP_FLAGS:
            arguments.append(word)
            key.append(word)
        elif word in _PIP_DROPPED:
            if _PIP_DROPPED[word]:
                _value(rest, word)
        elif word.startswith("-"):
            raise BuildError(
                f"The option {word} of pip is not available in this runtime; leave it out of the Dockerfile."
            )
        elif _is_project(word, where):
            projects.append(word)
        elif re.split(r"[\[<>=!~;@ ]", word)[0].lower() not in _INSTALLERS:
            packages.append(word)
    steps = []
    if packages or any(option in key for option in ("-r", "--requirement", "--requirements", "--group")):
        steps.append(Install(["pip", "install", *arguments, *packages], ["pip", *key, *packages], inputs, where.cwd))
    for project in projects:
        steps += _project(project, where, arguments, key, inputs)
    return steps


def _is_project(word: str, where: Where) -> bool:
    path = word.split("[")[0]
    return (
        bool(_LOCAL.search(path)) or path.endswith((".whl", ".tar.gz")) or ("/" in path and where.place(path).exists())
    )


def _project(word: str, where: Where, arguments: list[str], key: list[str], inputs: list[Path]) -> list[Install]:
    name, _, extras = word.removeprefix("file:").partition("[")
    path = where.place(name)
    _need(path, name)
    extra = [item for one in extras.rstrip("]").split(",") if one for item in ("--extra", one.strip())]
    given = f"{path}[{extras}" if extras else str(path)
    steps = []
    file = path / "pyproject.toml"
    if path.is_dir() and "--no-deps" not in key and _static_dependencies(file):
        ahead = ["pip", "install", *arguments, "-r", str(file), *extra]
        steps.append(Install(ahead, ["pip", *key, "-r", "pyproject.toml", *extra], [*inputs, file], where.cwd))
    steps.append(Install(["pip", "install", *arguments, given], ["pip", *key, word], [*inputs, path], where.cwd))
    return steps


def _static_dependencies(file: Path) -> bool:
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return False
    dynamic = project.get("dynamic", [])
    return "dependencies" in project and not {"dependencies", "optional-dependencies"} & set(dynamic)


def uv_sync(words: Sequence[str], where: Where) -> list[Install]:
    """`uv sync WORDS` as steps, dependencies first, the project (never in place) second. Raises BuildError."""
    rest, arguments = _split(words), []
    folder = where.cwd
    while rest:
        word = rest.pop(0)
        if word in ("--project", "--directory"):
            folder = where.place(_value(rest, word))
        elif word in _SYNC_VALUES:
            arguments += [word, _value(rest, word)]
        elif word in _SYNC_FLAGS:
            arguments.append(word)
        elif word in _SYNC_DROPPED:
            if _SYNC_DROPPED[word]:
                _value(rest, word)
        else:
            raise BuildError(
                f"The option {word} of uv sync is not available in this runtime; leave it out of the Dockerfile."
            )
    file = folder / "pyproject.toml"
    _need(file, "pyproject.toml")
    whole = bool(
        re.search(r"(?m)^\[tool\.uv\.workspace\]|\bpath\s*=|\bworkspace\s*=", file.read_text(encoding="utf-8"))
    )
    lock = [folder / "uv.lock"] if (folder / "uv.lock").exists() else []
    common = ["sync", "--inexact", "--no-editable", *arguments]
    ahead = Install(common, ["sync", *arguments], [where.root] if whole else [file, *lock], folder)
    if {"--no-install-project", "--no-install-workspace", "--no-install-local"} & set(arguments):
        return [ahead]
    ahead.arguments = [*common, "--no-install-project"]
    ahead.key = [*ahead.key, "--no-install-project"]
    return [ahead, Install(common, ["sync", *arguments], [where.root if whole else folder], folder)]


def requirement_inputs(file: Path, where: Where) -> list[Path]:
    """The files and folders that a requirements file names, nested ones included; the whole tree for local paths that
    are not understood.
    """
    if file.suffix == ".toml" or not file.is_file():
        return []
    found: list[Path] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _INSIDE.match(line.split(" #")[0])
        if match is None or line.lstrip().startswith("#"):
            continue
        nested = re.match(r"^\s*(-r|--requirement|-c|--constraint)", line) is not None
        if nested:
            path = file.parent / match[1]
            if path.is_file() and path != file:
                found += [path, *requirement_inputs(path, where)]
        elif _LOCAL.search(match[1].split("[")[0]) or re.match(r"^\s*(-e|--editable)", line):
            found.append(where.root)
    return found


def _need(path: Path, name: str) -> None:
    if not path.exists():
        raise BuildError(f"{name} is not in the image at this point; COPY it before the RUN line that reads it.")
