"""Images that an environment makes by itself: a Python base image, with packages or without.

The runtimes without a container engine take nothing from registries, but build `FROM python:3.11-slim` with a Python of
their machine; the others fetch the base when they build. So one line of Dockerfile gives either of them the image.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verifiers.errors import SandboxError
from verifiers.openenv.sandbox import BUILD_SECONDS, sentence_of

if TYPE_CHECKING:
    from prime_sandboxes import ImageBuild

_PYTHON = re.compile(r"(?:docker\.io/)?(?:library/)?python:(\d+(?:\.\d+){0,2}(?:-[\w.-]+)?)")
logger = logging.getLogger("verifiers.sandboxes")


class SandboxCreationError(SandboxError):
    """The Hub gave no sandbox, or no image for it."""


@dataclass(frozen=True)
class Recipe:
    """An image's name and tag on the Hub, and its Dockerfile."""

    name: str
    tag: str
    dockerfile: str


class Images:
    """What one environment has built on its Hub; each image once, for all rollouts that wait for it."""

    def __init__(self) -> None:
        self._building: dict[tuple[Recipe, str | None, int], asyncio.Task[ImageBuild]] = {}

    def base(self, reference: str, packages: Sequence[str] = ()) -> Recipe | None:
        """The recipe of a Python base image with `packages` (as pip takes them); None for any other image."""
        found = _PYTHON.fullmatch(reference)
        if found is None:
            return None
        if not packages:
            return Recipe("python", found[1], f"FROM {reference}\n")
        dockerfile = f"FROM {reference}\nRUN pip install {shlex.join(packages)}\n"
        return Recipe("python-env", f"{found[1]}-{hashlib.sha256(dockerfile.encode()).hexdigest()[:12]}", dockerfile)

    async def built(self, recipe: Recipe, team_id: str | None = None) -> ImageBuild:
        """The image of `recipe`, built where the Hub does not have it yet. Raises SandboxCreationError."""
        key = recipe, team_id, id(asyncio.get_running_loop())
        task = self._building.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._building[key] = asyncio.ensure_future(_build(recipe, team_id))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Cancel what is still being built; the next rollout begins anew."""
        tasks, loop = [*self._building.values()], asyncio.get_running_loop()
        self._building.clear()
        for task in (mine := [task for task in tasks if task.get_loop() is loop]):
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)


async def _build(recipe: Recipe, team_id: str | None) -> ImageBuild:
    from prime_sandboxes import AsyncImageClient

    words = f"The image {recipe.name}:{recipe.tag} could not be made on the Hub"
    log: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(Path(folder, "Dockerfile").write_text, recipe.dockerfile)
        try:
            async with AsyncImageClient() as client, asyncio.timeout(BUILD_SECONDS):
                build = await client.build(recipe.name, recipe.tag, Path(folder), on_log=log.append, team_id=team_id)
        except Exception as error:
            raise SandboxCreationError(f"{words} ({recipe.dockerfile.strip()!r}). {sentence_of(error)}") from error
    if build.status != "COMPLETED":
        tail = "".join(log).strip()[-1000:]
        raise SandboxCreationError(f"{words} (status={build.status.lower()}). {build.error or ''}\n{tail}".strip())
    if not build.cached:
        logger.warning("Made the image %s on the Hub from %r.", build.image, recipe.dockerfile.strip())
    return build
