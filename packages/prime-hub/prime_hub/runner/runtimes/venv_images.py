"""What the runtimes have in common whose images are virtual environments: they build, keep and delete them."""

from __future__ import annotations

import asyncio
from abc import ABC

from prime_core.paths import cache_dir
from prime_hub.runner import processes
from prime_hub.runner.building import trees
from prime_hub.runner.building.builder import VenvBuilder
from prime_hub.runner.building.layers import Layers
from prime_hub.runner.building.store import ImageStore
from prime_hub.runner.building.venvs import BUILD_MARK
from prime_hub.runner.runtimes.base import BuildLog, Runtime, Setup
from prime_hub.runner.runtimes.values import BuildRequest, Image


class VenvRuntime(Runtime, ABC):
    """A runtime of images under `folder/images`; one of this kind starts what another one has built."""

    images_kind = "venv"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.children = setup.children
        self._scratch = setup.folder / "scratch"
        self._store = ImageStore(setup.folder / "images")
        self._builder = VenvBuilder(self._scratch, self._store, Layers(cache_dir() / "layers"), setup.children)

    async def open(self) -> None:
        await processes.kill_marked(BUILD_MARK, str(self._scratch))
        await asyncio.to_thread(trees.remove, self._scratch)
        await asyncio.to_thread(self._store.sweep)

    async def build(self, request: BuildRequest, log: BuildLog) -> Image:
        return await self._builder.build(request, log)

    async def image(self, digest: str) -> Image:
        return self._store.get(digest).image

    async def images(self) -> list[Image]:
        return [found.image for found in await asyncio.to_thread(self._store.all)]

    async def delete_image(self, digest: str) -> None:
        await self._store.delete(digest)
