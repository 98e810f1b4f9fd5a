"""Virtual environments that were installed before, by what was installed, so that the same requirements install once.

A layer is a folder named by its key and shared by hard links with every image that uses it, over all data folders of
this user. Layers are made aside and renamed into place; whoever comes second throws his own away.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path

from prime_hub.runner.building import trees

KEPT_SECONDS = 30 * 24 * 3600.0
ABANDONED_SECONDS = 24 * 3600.0
MOMENTS = (0.05, 0.2, 0.5, 0.0)
"""Seconds to wait for a layer that went while it was being taken."""


class Layers:
    """The cache in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, key: str) -> bool:
        """Whether the layer is there and its interpreter still exists; its use is noted."""
        layer = self._folder / key
        if not (layer / "bin" / "python").exists():
            return False
        with contextlib.suppress(OSError):
            os.utime(layer)
        return True

    def take(self, key: str, target: Path) -> bool:
        """Make `target` a copy of the layer; False when there is none (any more)."""
        if not self.has(key):
            return False
        for moment in MOMENTS:
            try:
                trees.link(self._folder / key, target)
                return True
            except FileNotFoundError:
                trees.remove(target)
            time.sleep(moment)  # another build may just be putting a new one in its place
        return False

    def keep(self, key: str, venv: Path, *, replace: bool = False) -> None:
        """Make a layer of a virtual environment. `replace` puts it in the place of one that exists."""
        self._folder.mkdir(parents=True, exist_ok=True)
        layer, aside = self._folder / key, self._folder / f".{key}.{uuid.uuid4().hex}"
        if layer.exists() and not replace and self.has(key):
            return
        try:
            trees.protect(venv)
            trees.link(venv, aside)
            if layer.exists():
                old = self._folder / f".{key}.{uuid.uuid4().hex}"
                with contextlib.suppress(FileNotFoundError):
                    layer.rename(old)
                trees.remove(old)
            with contextlib.suppress(OSError):
                aside.rename(layer)
        finally:
            trees.remove(aside)

    def prune(self) -> None:
        """Remove layers that nobody used for a month, and what interrupted builds left."""
        with contextlib.suppress(OSError):
            for layer in self._folder.iterdir():
                age = time.time() - layer.stat().st_mtime
                if age > (ABANDONED_SECONDS if layer.name.startswith(".") else KEPT_SECONDS):
                    trees.remove(layer)
