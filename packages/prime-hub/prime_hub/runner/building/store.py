"""Images on disk: `images/<digest>/{image.json, root/, venv/}`, put in place in one step, named by their content."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_hub.runner.building import trees
from prime_hub.runner.runtimes.base import ImageMissing
from prime_hub.runner.runtimes.values import Image, ImageConfig

FORMAT = "prime-venv-image/1"
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
# Lines of a RECORD that differ from build to build of the same content.
_VARYING = re.compile(r"\.pyc,|/direct_url\.json,|/uv_cache\.json,|/uv_build\.json,|/INSTALLER,|/REQUESTED,|/RECORD,")


@dataclass(frozen=True)
class VenvImage:
    """An image and where its parts lie. `venv_paths` and `workdirs` are paths of the image."""

    image: Image
    folder: Path
    venv_paths: list[str] = field(default_factory=list)
    workdirs: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The image's `/`."""
        return self.folder / "root"

    @property
    def venv(self) -> Path:
        """The image's virtual environment."""
        return self.folder / "venv"


class ImageStore:
    """The images of one runner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str) -> VenvImage:
        """The image of that digest, with or without `sha256:`. Raises ImageMissing."""
        match = _DIGEST.fullmatch(digest)
        folder = self._folder / (match[1] if match else "-")
        try:
            content = json.loads((folder / "image.json").read_text(encoding="utf-8"))
            config = ImageConfig(**content["config"])
            image = Image(content["digest"], config, content["size"])
            return VenvImage(image, folder, content["venv_paths"], content["workdirs"])
        except (OSError, ValueError, TypeError, KeyError):
            raise ImageMissing(f"The image {digest} is not on this machine; build it again with 'vf-build'.") from None

    def all(self) -> list[VenvImage]:
        """Every image, by digest."""
        if not self._folder.is_dir():
            return []
        found = []
        for folder in sorted(self._folder.iterdir()):
            try:
                found.append(self.get(folder.name))
            except ImageMissing:
                continue
        return found

    async def publish(
        self, scratch: Path, config: ImageConfig, venv_paths: list[str], workdirs: list[str], python: str
    ) -> Image:
        """Move a finished `scratch/{root,venv}` into place; the image, which may have been there before."""
        digest = await asyncio.to_thread(_digest, scratch, config, venv_paths, python)
        size = await asyncio.to_thread(trees.size, scratch)
        content: dict[str, Any] = {
            "format": FORMAT,
            "digest": f"sha256:{digest}",
            "size": size,
            "python": python,
            "config": config.as_dict(),
            "venv_paths": venv_paths,
            "workdirs": workdirs,
        }
        (scratch / "image.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / digest
        try:
            scratch.rename(target)
        except OSError:
            # The same content is there already; anything else is an error worth telling.
            if not (target / "image.json").is_file():
                raise
            await asyncio.to_thread(trees.remove, scratch)
        return self.get(digest).image

    async def delete(self, digest: str) -> None:
        """Remove an image. Raises ImageMissing."""
        folder = self.get(digest).folder
        # Out of sight in one step, gone in its own time.
        aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        folder.rename(aside)
        await asyncio.to_thread(trees.remove, aside)

    def sweep(self) -> None:
        """Remove what a killed runner left half deleted."""
        for folder in self._folder.glob(".*") if self._folder.is_dir() else []:
            trees.remove(folder)


def _digest(scratch: Path, config: ImageConfig, venv_paths: list[str], python: str) -> str:
    """SHA-256 over the tree, the installed distributions' own hashes and what is run."""
    total = hashlib.sha256(f"{FORMAT}\0{python}\0{json.dumps(config.as_dict(), sort_keys=True)}\0".encode())
    total.update("\0".join(sorted(venv_paths)).encode())
    total.update(trees.digest(scratch / "root").encode())
    for record in sorted((scratch / "venv").glob("lib/*/site-packages/*.dist-info/RECORD")):
        lines = [line for line in record.read_text(encoding="utf-8").splitlines() if not _VARYING.search(line)]
        total.update("\n".join([record.parent.name, *sorted(lines)]).encode())
    return total.hexdigest()
