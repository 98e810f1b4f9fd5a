"""The file commands of RUN lines (mkdir, cp, mv, rm, ln, touch, chmod, test, echo), inside the image's tree only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
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
    *sources, last = _paths(words)
    target = stage.place(last)
    for source in _existing(sources, stage, "cp"):
        goal = target / source.name if target.is_dir() else target
        trees.copy(source, goal)
    return 0


def _move(words: Sequence[str], stage: Stage) -> int:
    *sources, last = _paths(words)
    target = stage.place(last)
    for source in _existing(sources, stage, "mv"):
        shutil.move(source, target / source.name if target.is_dir() else target)
    return 0


def _existing(names: Sequence[str], stage: Stage, command: str) -> list[Path]:
    found = [path for name in names for path in matches(name, stage)]
    for path in found:
        if not path.exists():
            raise BuildError(f"{command}: /{path.relative_to(stage.root)} is not in the image at this point.")
    if not found:
        raise BuildError(f"{command}: {' '.join(names) or 'nothing'} is not in the image at this point.")
    return found


def _remove(words: Sequence[str], stage: Stage) -> int:
    for name in _paths(words):
        for path in matches(name, stage):
            if path == stage.root:
                raise BuildError("rm: the whole image cannot be removed.")
            trees.remove(path)
    return 0


def _link(words: Sequence[str], stage: Stage) -> int:
    paths = _paths(words)
    if len(paths) != 2:
        raise BuildError("ln is read in the form 'ln -s TARGET NAME' only.")
    target, name = paths
    goal = stage.place(name)
    goal = goal / Path(target).name if goal.is_dir() else goal
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
