"""COPY and ADD: from the context or another stage into a stage's tree."""

from __future__ import annotations

import asyncio
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

from prime_core.dockerfile import Instruction
from prime_hub.runner.building import trees
from prime_hub.runner.building.files import apply_mode
from prime_hub.runner.building.stage import Stage
from prime_hub.runner.runtimes.base import BuildError

_IGNORED_FLAGS = frozenset({"chown", "link", "parents", "exclude"})
_SITE_PACKAGES = re.compile(
    r"^/usr/(?:local/)?lib/python3(?:\.\d+)?(?:/site-packages|/dist-packages)?$|^/usr/local/bin$|^/usr/local$"
)
_TOOLS = frozenset(
    {"/uv", "/uvx", "/usr/local/bin/uv", "/usr/local/bin/uvx", "/root/.local/bin/uv", "/root/.local/bin/uvx"}
)


class Copying:
    """The COPY and ADD lines of one stage; `other` finds an earlier stage by name or number."""

    def __init__(self, stage: Stage, context: Path, other: Callable[[str], Stage | None]) -> None:
        self._stage = stage
        self._context = context
        self._other = other

    async def copy(self, instruction: Instruction) -> None:
        """Do one instruction. Raises BuildError, OSError."""
        words = instruction.words()
        if len(words) < 2:
            raise BuildError(f"Dockerfile line {instruction.line}: {instruction.op} needs a source and a destination.")
        *sources, target = words
        source_stage = instruction.flags.get("from")
        if source_stage is None:
            await asyncio.to_thread(self._from_context, sources, target, instruction)
            return
        other = self._other(source_stage)
        if other is None:
            self._from_image(source_stage, sources, instruction)
            return
        await asyncio.to_thread(self._from_stage, other, sources, target, instruction)

    def _from_image(self, image: str, sources: list[str], instruction: Instruction) -> None:
        if all(source in _TOOLS for source in sources):
            self._stage.log.write("  uv is this machine's own\n")
            return
        raise BuildError(
            f"Dockerfile line {instruction.line} copies from the image {image}, and no images are pulled here; use "
            "a runtime that builds real containers."
        )

    def _from_context(self, sources: list[str], target: str, instruction: Instruction) -> None:
        unpack = instruction.op == "ADD"
        for source in sources:
            if unpack and re.match(r"[a-z+]+://|git@", source):
                raise BuildError(
                    f"Dockerfile line {instruction.line}: ADD of an address is not done here; "
                    "put the file into the context."
                )
        found = [path for source in sources for path in self._matches(self._context, source, instruction)]
        self._place(found, target, instruction, several=len(found) > 1 or len(sources) > 1, unpack=unpack)

    def _matches(self, root: Path, source: str, instruction: Instruction) -> list[Path]:
        path = trees.absolute(source, "/")
        places = trees.matching(root, path) if re.search(r"[*?\[]", path) else [trees.place(root, path)]
        if not places or not all(place.exists() for place in places):
            raise BuildError(
                f"Dockerfile line {instruction.line}: {source} is not in "
                + ("the build context; is it named in .dockerignore?" if root == self._context else "that stage.")
            )
        for place in places:
            if not place.resolve().is_relative_to(root.resolve()):
                raise BuildError(
                    f"Dockerfile line {instruction.line}: {source} is a link that leads out of its folder."
                )
        return places

    def _place(
        self, found: list[Path], target: str, instruction: Instruction, *, several: bool, unpack: bool = False
    ) -> None:
        folder = target.endswith("/") or target in (".", "..") or several
        goal = self._stage.place(target)
        for source in found:
            if source.is_dir():
                trees.copy(source, goal, frozenset({"__pycache__"}))
                placed = goal
            elif unpack and tarfile.is_tarfile(source):
                trees.unpack(source, goal)
                placed = goal
            else:
                placed = goal / source.name if folder or goal.is_dir() else goal
                # The content of a linked file, as Docker copies it.
                trees.copy(source.resolve(), placed)
            if mode := instruction.flags.get("chmod"):
                for path in [placed, *trees.walk(placed)]:
                    if not path.is_symlink():
                        apply_mode(path, mode)

    def _from_stage(self, other: Stage, sources: list[str], target: str, instruction: Instruction) -> None:
        rest = []
        for source in sources:
            path = trees.absolute(source, "/")
            if path in other.venv_paths or (_SITE_PACKAGES.match(path) and not trees.place(other.root, path).exists()):
                self._take_venv(other, path, target)
            elif other.venv_at(path):
                raise BuildError(
                    f"Dockerfile line {instruction.line} copies a part of a virtual environment; copy the whole "
                    f"environment ({other.venv_at(path)})."
                )
            else:
                rest.append(source)
                # A folder that holds the environment takes it along.
                prefix = "" if path == "/" else path
                for venv in [item for item in other.venv_paths if item.startswith(prefix + "/")]:
                    self._take_venv(other, venv, self._stage.absolute(target).rstrip("/") + venv.removeprefix(prefix))
        found = [path for source in rest for path in self._matches(other.root, source, instruction)]
        self._place(found, target, instruction, several=len(found) > 1 or len(sources) > 1)

    def _take_venv(self, other: Stage, source: str, target: str) -> None:
        path = self._stage.venv.path
        self._stage.venv = other.venv.copy_of(path)
        if source in other.venv_paths:
            self._stage.add_venv(target)
