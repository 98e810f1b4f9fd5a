"""A Dockerfile read as a recipe for a tree and a virtual environment.

FROM (stages), WORKDIR, ENV, ARG, COPY, ADD, RUN, EXPOSE, CMD and ENTRYPOINT are honoured; the others are named in the
log and in the image's notes.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import uuid
from collections.abc import Callable
from pathlib import Path

from prime_core.dockerfile import Instruction, exec_form, exposed_port, key_values, parse_dockerfile
from prime_core.dockerfile import Stage as Recipe
from prime_core.errors import PrimeError
from prime_hub.runner.building import trees
from prime_hub.runner.building.copying import Copying
from prime_hub.runner.building.interpreters import Interpreters
from prime_hub.runner.building.layers import Layers
from prime_hub.runner.building.runs import Runs
from prime_hub.runner.building.stage import Stage
from prime_hub.runner.building.store import ImageStore
from prime_hub.runner.building.venvs import UvRunner, Venv
from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import BuildError, BuildLog
from prime_hub.runner.runtimes.values import BuildRequest, Image, ImageConfig

_NOT_HONOURED = {
    "HEALTHCHECK": "health is asked for over the network",
    "USER": "the server runs as the user of the Hub",
    "LABEL": "labels are not kept",
    "MAINTAINER": "labels are not kept",
    "STOPSIGNAL": "servers are ended with SIGTERM",
    "VOLUME": "every sandbox has its own copy of the files",
    "SHELL": "RUN lines are interpreted, not given to a shell",
    "ONBUILD": "images are not built upon here",
}
_PORT = re.compile(r"--port[= ](\d{2,5})\b|:(\d{4,5})\b")


class VenvBuilder:
    """Builds images for the runtimes that work with virtual environments; everything in `folder` is scratch."""

    def __init__(self, folder: Path, store: ImageStore, layers: Layers, children: Children) -> None:
        self._folder = folder
        self._store = store
        self._layers = layers
        self._children = children
        self._interpreters = Interpreters(children)

    async def build(self, request: BuildRequest, log: BuildLog) -> Image:
        """The image of a context. Raises BuildError, OSError; nothing is left in the scratch folder."""
        scratch = self._folder / uuid.uuid4().hex
        scratch.mkdir(parents=True)
        uv = UvRunner(self._children, log, scratch)
        try:
            return await _Build(
                request, log, scratch, self._store, self._layers, self._interpreters, self._children, uv
            ).run()
        except PrimeError as error:
            raise BuildError(f"{error}{f' {error.hint}' if error.hint else ''}") from None
        finally:
            await asyncio.shield(uv.end())
            await asyncio.shield(asyncio.to_thread(trees.remove, scratch))
            await asyncio.to_thread(self._layers.prune)


class _Build:
    """One build."""

    def __init__(
        self,
        request: BuildRequest,
        log: BuildLog,
        scratch: Path,
        store: ImageStore,
        layers: Layers,
        interpreters: Interpreters,
        children: Children,
        uv: UvRunner,
    ) -> None:
        self._request = request
        self._log = log
        self._scratch = scratch
        self._store = store
        self._layers = layers
        self._interpreters = interpreters
        self._children = children
        self._uv = uv
        self._stages: list[Stage] = []

    async def run(self) -> Image:
        context = self._scratch / "context"
        await asyncio.to_thread(trees.unpack, self._request.context, context)
        recipes = parse_dockerfile(self._dockerfile(context), self._request.build_args)
        needed = _needed(recipes)
        for number, recipe in enumerate(recipes):
            if number not in needed:
                self._log.write(f"Stage {recipe.name or number} is not needed for the image and is left out.\n")
            self._stages.append(await self._stage(number, recipe, recipes, context, number in needed))
        stage = self._stages[-1]
        await asyncio.to_thread(trees.check_links, stage.root)
        await stage.venv.put()
        config = ImageConfig(
            cmd=command(stage.entrypoint, stage.cmd),
            env=stage.env,
            workdir=stage.workdir,
            port=exposed_port(recipes[-1]) or named_port(command(stage.entrypoint, stage.cmd)),
            notes=stage.notes,
        )
        identity = stage.venv.interpreter.identity
        return await self._store.publish(stage.root.parent, config, stage.venv_paths, stage.workdirs, identity)

    def _dockerfile(self, context: Path) -> str:
        path = trees.place(context, trees.absolute(self._request.dockerfile, "/"))
        try:
            return path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise BuildError(f"The build context has no {self._request.dockerfile}.") from None
        except (OSError, UnicodeDecodeError):
            raise BuildError(f"{self._request.dockerfile} is not a readable text file.") from None

    async def _stage(self, number: int, recipe: Recipe, recipes: list[Recipe], context: Path, needed: bool) -> Stage:
        folder = self._scratch / f"stage-{number}"
        root = folder / "root"
        root.mkdir(parents=True)
        parent = next(
            (
                stage
                for stage, other in zip(self._stages, recipes, strict=False)
                if other.name and other.name.lower() == recipe.base.lower()
            ),
            None,
        )
        final = number == len(recipes) - 1
        if parent is not None:
            stage = Stage(
                root, parent.venv.copy_of(folder / "venv"), self._log, final, parent.workdir, list(parent.workdirs)
            )
            stage.env, stage.venv_paths, stage.notes = dict(parent.env), list(parent.venv_paths), list(parent.notes)
            stage.cmd, stage.entrypoint = parent.cmd, parent.entrypoint
            await asyncio.to_thread(trees.copy, parent.root, root)
        else:
            interpreter, said = await self._interpreters.for_base(recipe.base)
            venv = Venv(folder / "venv", interpreter, self._layers, self._uv, self._log, fresh=self._request.no_cache)
            stage = Stage(root, venv, self._log, final)
            if needed:
                self._log.write(f"Step {recipe.line}: {said}\n")
        if not needed:
            return stage
        runs = Runs(stage, self._children, self._uv)
        copying = Copying(stage, context, self._other_stage(recipes))
        for instruction in recipe.instructions:
            self._log.write(f"Step {instruction.line}: {instruction.op} {_shown(instruction)}\n")
            await self._honour(instruction, stage, runs, copying)
        return stage

    def _other_stage(self, recipes: list[Recipe]) -> Callable[[str], Stage | None]:
        def find(name: str) -> Stage | None:
            for number, stage in enumerate(self._stages):
                if name == str(number) or (recipes[number].name or "").lower() == name.lower():
                    return stage
            return None

        return find

    async def _honour(self, instruction: Instruction, stage: Stage, runs: Runs, copying: Copying) -> None:
        op, value = instruction.op, instruction.value
        if op == "WORKDIR":
            stage.enter(value.strip("\"'"))
        elif op == "ENV":
            stage.env |= key_values(value, instruction.line)
        elif op in ("COPY", "ADD"):
            await copying.copy(instruction)
        elif op == "RUN":
            await runs.run(value, exec_form(value), {**_base_env(), **instruction.env}, instruction.line)
        elif op == "CMD":
            stage.cmd = exec_form(value) or value
        elif op == "ENTRYPOINT":
            stage.entrypoint, stage.cmd = exec_form(value) or value, None
        elif op in _NOT_HONOURED:
            stage.note(f"line {instruction.line}: {op} is not honoured; {_NOT_HONOURED[op]}.")


def _base_env() -> dict[str, str]:
    return {"HOME": "/root"}


def _shown(instruction: Instruction) -> str:
    text = " ".join(re.sub(r"://[^/@\s]+@", "://", instruction.raw).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _needed(recipes: list[Recipe]) -> set[int]:
    """The stages that the last one is made from."""
    names = {recipe.name.lower(): number for number, recipe in enumerate(recipes) if recipe.name}
    needed: set[int] = set()
    todo = [len(recipes) - 1]
    while todo:
        number = todo.pop()
        if number in needed:
            continue
        needed.add(number)
        recipe = recipes[number]
        wanted = [recipe.base, *(item.flags.get("from", "") for item in recipe.instructions)]
        for name in wanted:
            other = int(name) if name.isdigit() else names.get(name.lower())
            if other is not None and other < number:
                todo.append(other)
    return needed


def command(entrypoint: list[str] | str | None, cmd: list[str] | str | None) -> list[str] | str | None:
    """What a container would run, ENTRYPOINT and CMD together; a shell-form ENTRYPOINT takes no CMD."""
    if entrypoint is None or entrypoint == []:
        return cmd or None
    if isinstance(entrypoint, str) or not cmd:
        return entrypoint
    return [*entrypoint, *(cmd if isinstance(cmd, list) else ["/bin/sh", "-c", cmd])]


def named_port(cmd: list[str] | str | None) -> int | None:
    """The port that a command line names, or None."""
    if cmd is None:
        return None
    match = _PORT.search(cmd if isinstance(cmd, str) else shlex.join(cmd))
    return int(match[1] or match[2]) if match else None
