"""Building the image of an OpenEnv project on the Hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prime_core.connection import Connection
    from prime_core.manifest import Manifest
    from prime_core.project import OpenEnvProject
    from prime_sandboxes import ImageBuild

BUILD_SECONDS = 1200.0


async def build_image(
    project: OpenEnvProject,
    name: str,
    tag: str,
    connection: Connection,
    *,
    no_cache: bool = False,
    on_log: Callable[[str], object] | None = None,
) -> ImageBuild:
    """Build the project's image as NAME:TAG and wait until that has ended, well or not.

    Raises TimeoutError after twenty minutes, when it was cancelled, and what a Hub raises.
    """
    from prime_sandboxes import AsyncImageClient

    async with AsyncImageClient(connection) as client, asyncio.timeout(BUILD_SECONDS):
        return await client.build(
            name,
            tag,
            project.root,
            dockerfile=project.dockerfile,
            no_cache=no_cache,
            on_log=on_log,
            port=project.port,
        )


async def delete_image(reference: str, connection: Connection) -> None:
    """Delete an image by its reference. Raises what a Hub raises."""
    from prime_sandboxes import AsyncImageClient

    async with AsyncImageClient(connection) as client:
        await client.delete(reference)


def manifest_of(
    project: OpenEnvProject, name: str, contract: str, context_digest: str, image: str, image_digest: str | None
) -> Manifest:
    """The manifest of a project whose image was built."""
    from prime_core.manifest import Manifest
    from prime_core.project import default_start_command

    return Manifest(
        image=image,
        port=project.port,
        start_command=default_start_command(project),
        contract=contract,
        environment_id=name,
        app=project.app,
        image_status="ready",
        image_digest=image_digest,
        context_digest=context_digest,
    )
