"""The programs that run inside boxes, ready for an interpreter: compiled once, since every start would do it again.

A kit is a folder that a box sees read-only: the first process (`box_init.pyc`, `box_spawn.pyc`), what it forks for
(`box_work.pyc`), the launcher of uvicorn (`also_unix.py`), and copies of what /etc tells of the system (`etc`): a box has
links to them, which cost its start less than mounts would.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from prime_hub.runner.building import trees
from prime_hub.runner.building.store import VenvImage
from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import StartError

_HERE = Path(__file__).parent
_COMPILED = ("box_init", "box_spawn", "box_work")
_COPIED = ("also_unix.py",)
_COMPILE = """import py_compile, sys
for name in sys.argv[2:]:
    py_compile.compile(f"{sys.argv[1]}/{name}.py", f"{sys.argv[1]}/{name}.pyc", f"{name}.py", True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""
_FLAGS = ("-I", "-S", "-E")
# What programs read in /etc about the system, and nothing about its users.
ETC = (
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl/certs", "ssl/openssl.cnf", "ca-certificates"),
    *("pki/tls/certs", "pki/ca-trust/extracted", "localtime", "timezone", "mime.types", "protocols", "services"),
    *("fonts", "terminfo", "crypto-policies", "magic", "gai.conf", "locale.alias"),
)


@dataclass(frozen=True)
class Interpreter:
    """The Python of an image: `path` is the program itself, `places` what a box has to see of this host for it."""

    path: Path
    places: tuple[Path, ...]


def interpreter(image: VenvImage) -> Interpreter:
    """The Python of an image's environment. Raises StartError when it is gone."""
    link = image.venv / "bin" / "python"
    try:
        found = link.resolve(strict=True)
    except OSError:
        raise StartError(
            f"The Python of this image, {link.readlink() if link.is_symlink() else link}, is not on this machine any "
            "more; build the image again."
        ) from None
    places = [found.parent.parent]
    # The way there may lead over links, each at its own path.
    at = link
    while at.is_symlink():
        at = at.parent / at.readlink()
        if at.parent.name == "bin" and at != link:
            places.append(Path(os.path.normpath(at)).parent.parent)
    return Interpreter(found, tuple(dict.fromkeys(place for place in places if not place.is_relative_to("/usr"))))


def visible(place: Path, hidden: list[Path]) -> list[Path]:
    """What of an interpreter's folder a box may see: all of it, unless it holds something that is `hidden`."""
    if place != Path("/") and not any(item.is_relative_to(place) for item in hidden):
        return [place]
    if place == Path("/"):
        return []
    return [*place.glob("bin/python*"), *place.glob("lib/python3*"), *place.glob("lib/libpython*")]


class Kits:
    """The kits of one runner, by interpreter."""

    def __init__(self, folder: Path, children: Children) -> None:
        self._folder = folder
        self._children = children
        self._made: dict[str, Path] = {}

    async def get(self, python: Path) -> Path:
        """The kit for an interpreter. Raises StartError, OSError."""
        # Another interpreter or other certificates make another kit.
        looked = [python, *(Path("/etc") / name for name in ETC)]
        known = str([(str(path), path.stat().st_mtime_ns) for path in looked if path.exists()])
        if known in self._made:
            return self._made[known]
        content = b"".join((_HERE / name).read_bytes() for name in (*(f"{item}.py" for item in _COMPILED), *_COPIED))
        key = hashlib.sha256(known.encode() + content).hexdigest()[:16]
        kit = self._folder / key
        if not kit.is_dir():
            await self._make(kit, python)
        self._made[known] = kit
        return kit

    async def _make(self, kit: Path, python: Path) -> None:
        aside = self._folder / f".{kit.name}.{uuid.uuid4().hex}"
        aside.mkdir(parents=True, mode=0o755)
        try:
            for name in (*(f"{item}.py" for item in _COMPILED), *_COPIED):
                shutil.copyfile(_HERE / name, aside / name)
            arguments = [str(python), *_FLAGS, "-c", _COMPILE, str(aside), *_COMPILED]
            code, _ = await self._children.capture(arguments, cwd=Path("/"), env={})
            if code != 0:
                raise StartError(f"The Python at {python} cannot compile the program that starts sandboxes.")
            for name in _COMPILED:
                (aside / f"{name}.py").unlink()
            for path in aside.glob("*.py*"):
                path.chmod(0o644)
            await asyncio.to_thread(_copy_etc, aside / "etc")
            aside.chmod(0o755)
            if not kit.exists():
                aside.rename(kit)
        finally:
            trees.remove(aside)


def _copy_etc(target: Path) -> None:
    """Copies of ETC; what this user may not read or what is broken is left out."""
    for name in ETC:
        source, goal = Path("/etc") / name, target / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError, shutil.Error):
            if source.is_dir():
                # Links lead into /usr, which a box sees as well.
                shutil.copytree(source, goal, symlinks=True, copy_function=_copy_readable)
            elif source.exists():
                shutil.copyfile(source, goal)
                goal.chmod(0o644)


def _copy_readable(source: str, target: str) -> None:
    if os.stat(source).st_mode & 0o004:  # noqa: PTH116
        shutil.copyfile(source, target)
        os.chmod(target, 0o644)  # noqa: PTH101


def command(python: Path, kit: str, config: int) -> list[str]:
    """How the first process of a box is run, in the box's own paths."""
    return [str(python), *_FLAGS, "-B", f"{kit}/box_init.pyc", str(config)]
