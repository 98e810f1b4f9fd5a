"""The file commands of RUN lines (mkdir, cp, mv, rm, ln, touch, chmod, test, echo), inside the image's tree only.

The virtual environment is no part of the tree: copied, moved, linked or removed, the stage knows it by other paths.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prime_hub.runner.building import trees
from prime_hub.runner.building.stage import Stage
from prime_hub.runner.runtimes.base import BuildError


def _paths(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("-") or word == "-"]


def _options(words: Sequence[str]) -> str:
    return "".join(word for word in words if word.startswith("-"))


def matches(path: str, stage: Stage) -> list[Path]:
    """What a path with wildcards stands for in the tree; the path itself when it has none."""
    if not re.search(r"[*?\[]", path):
        return [stage.place(path)]
    return trees.matching(stage.root, stage.absolute(path))


def _mkdir(words: Sequence[str], stage: Stage) -> int:
    for path in _paths([word for at, word in enumerate(words) if at == 0 or words[at - 1] != "-m"]):
        if stage.venv_at(stage.absolute(path)) is None:
            stage.place(path).mkdir(parents=True, exist_ok=True)
    return 0


def _touch(words: Sequence[str], stage: Stage) -> int:
    for path in _paths(words):
        stage.place(path).touch()
    return 0


def _copy(words: Sequence[str], stage: Stage) -> int:
    whole = any(re.fullmatch(r"-\w*[rRa]\w*|--recursive|--archive", word) for word in words)
    for name, source, goal in _transfers(words, stage, "cp"):
        if not whole and (source.is_dir() or stage.venvs_in(name)):
            raise BuildError(f"cp: {name} is a folder; copy it with 'cp -r'.")
        if source.exists():
            trees.copy(source, goal)
        for venv in stage.venvs_in(name):
            stage.add_venv(_path(goal, stage) + venv.removeprefix(name))
    return 0


def _move(words: Sequence[str], stage: Stage) -> int:
    for name, source, goal in _transfers(words, stage, "mv"):
        if source.exists():
            shutil.move(source, goal)
        for venv in stage.venvs_in(name):
            stage.venv_paths.remove(venv)
            stage.add_venv(_path(goal, stage) + venv.removeprefix(name))
    return 0


def _transfers(words: Sequence[str], stage: Stage, command: str) -> Iterator[tuple[str, Path, Path]]:
    """What cp and mv take where: (path in the image, its place, the goal's place).

    The virtual environment is not in the tree, so there is nothing at the place of a path that is one.
    """
    *names, last = _paths(words) or [""]
    if not names:
        raise BuildError(f"{command} needs a source and a destination.")
    if venv := stage.venv_at(stage.absolute(last)):
        raise BuildError(f"{command}: only pip and uv put something into the virtual environment {venv}.")
    target = stage.place(last)
    for name in names:
        path = stage.absolute(name)
        venv = stage.venv_at(path)
        if venv is not None and venv != path:
            raise BuildError(
                f"{command}: {path} is a part of the virtual environment {venv}; copy or move the whole environment."
            )
        for source in [stage.place(name)] if venv else _existing([name], stage, command):
            inside = target.is_dir() and not (command == "cp" and name.endswith("/."))
            goal = stage.place(_path(target / source.name, stage)) if inside else target
            if venv and goal.exists() and not (goal.is_dir() and not any(goal.iterdir())):
                raise BuildError(f"{command}: {_path(goal, stage)} is in the way of the virtual environment {venv}.")
            yield path if venv else _path(source, stage), source, goal


def _path(place: Path, stage: Stage) -> str:
    """The path in the image of a place in its tree."""
    return "/" + place.relative_to(stage.root).as_posix()


def _existing(names: Sequence[str], stage: Stage, command: str) -> list[Path]:
    found = [path for name in names for path in matches(name, stage)]
    for path in found:
        if not path.exists():
            raise BuildError(f"{command}: /{path.relative_to(stage.root)} is not in the image at this point.")
    if not found:
        raise BuildError(f"{command}: {' '.join(names)} is not in the image at this point.")
    return found


def _remove(words: Sequence[str], stage: Stage) -> int:
    for name in _paths(words):
        for path in matches(name, stage):
            if path == stage.root:
                raise BuildError("rm: the whole image cannot be removed.")
            trees.remove(path)
            for venv in stage.venvs_in(_path(path, stage)):
                stage.venv_paths.remove(venv)
    return 0


def _link(words: Sequence[str], stage: Stage) -> int:
    paths = _paths(words)
    if len(paths) != 2:
        raise BuildError("ln is read in the form 'ln -s TARGET NAME' only.")
    target, name = paths
    goal = stage.place(name)
    goal = goal / Path(target).name if goal.is_dir() else goal
    if stage.absolute(target) in stage.venv_paths:
        stage.add_venv(_path(goal, stage))
        return 0
    if stage.venv_at(stage.absolute(target)) or not stage.place(target).exists():
        stage.note(f"the link {name} → {target} is not made; {target} is not in the image's own tree.")
        return 0
    source = stage.place(target)
    goal.parent.mkdir(parents=True, exist_ok=True)
    goal.unlink(missing_ok=True)
    # Relative, because the tree moves.
    goal.symlink_to(Path(*[".."] * len(goal.parent.relative_to(stage.root).parts), source.relative_to(stage.root)))
    return 0


def _chmod(words: Sequence[str], stage: Stage) -> int:
    paths = [word for word in words if not re.fullmatch(r"-[RvcfR]+|--recursive", word)]
    if not paths:
        return 1
    mode, *names = paths
    for name in names:
        for path in matches(name, stage):
            tree = [path, *trees.walk(path)] if "R" in _options(words[:1]) else [path]
            for item in tree:
                if item.exists() and not item.is_symlink():
                    apply_mode(item, mode)
    return 0


def apply_mode(path: Path, mode: str) -> None:
    """`chmod MODE` as far as it matters here: the executable bit."""
    bits = path.stat().st_mode & 0o777
    if re.fullmatch(r"[0-7]{3,4}", mode):
        bits = (int(mode, 8) & 0o777) | 0o600
    elif re.fullmatch(r"[ugoa]*\+[rwsX]*x[rwsX]*", mode):
        bits |= 0o111
    if path.is_dir():
        bits |= 0o700
    path.chmod(bits)


def test(words: Sequence[str], stage: Stage) -> bool:
    """`[ … ]`: files, empty and equal strings. Raises BuildError for anything else."""
    if len(words) == 2 and words[0] in ("-f", "-d", "-e", "-r", "-s", "-x", "-w"):
        in_venv = stage.venv_at(stage.absolute(words[1])) is not None
        path = stage.place(words[1])
        if in_venv:
            return words[0] in ("-d", "-e")
        checks = {"-f": path.is_file(), "-d": path.is_dir(), "-s": path.is_file() and path.stat().st_size > 0}
        return checks.get(words[0], path.exists())
    if len(words) == 2 and words[0] in ("-n", "-z"):
        return bool(words[1]) == (words[0] == "-n")
    if len(words) == 1:
        return bool(words[0])
    if len(words) == 3 and words[1] in ("=", "==", "!="):
        return (words[0] == words[2]) == (words[1] != "!=")
    raise BuildError(f"The condition '[ {' '.join(words)} ]' is not read here; use -f, -d, -e, -n, -z, = or !=.")


def echoed(words: Sequence[str]) -> str:
    """What echo, printf (without values), true and `:` write."""
    if words[0] == "printf":
        if len(words) != 2 or "%" in words[1]:
            raise BuildError("printf with values is not read here; use echo.")
        return words[1].replace("\\n", "\n").replace("\\t", "\t")
    if words[0] != "echo":
        return ""
    flags = [word for word in words[1:2] if re.fullmatch(r"-[neE]+", word)]
    text = " ".join(words[1 + len(flags) :])
    if flags and "e" in flags[0]:
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    return text if flags and "n" in flags[0] else text + "\n"


COMMANDS: dict[str, Callable[[Sequence[str], Stage], int]] = {
    "mkdir": _mkdir,
    "touch": _touch,
    "cp": _copy,
    "mv": _move,
    "rm": _remove,
    "ln": _link,
    "chmod": _chmod,
}
