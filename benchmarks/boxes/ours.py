"""Ours: the same through the Hub, by the SDK."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from boxes.bare import until_healthy
from boxes.hub import Place
from prime_sandboxes import AsyncSandboxClient, CreateSandboxRequest, ImageClient, SandboxClient

LEASE_SECONDS = 120.0


class Ours:
    """Sandboxes of a Hub."""

    def __init__(self, where: Place) -> None:
        self.name = f"ours ({where.runtime})"
        self._where = where
        self._client = SandboxClient(where.connection)

    def _request(self) -> CreateSandboxRequest:
        return CreateSandboxRequest(
            name="bench",
            docker_image=self._where.image,
            image_digest=self._where.digest,
            port=8000,
            memory_gb=0.5,
            disk_size_gb=0.25,
            lease_seconds=LEASE_SECONDS,
        )

    def start(self) -> str:
        """Create one and wait until its server is healthy; its id."""
        box = self._client.create(self._request())
        self._client.wait_for_creation(box.id)
        exposed = self._client.expose(box.id, 8000, protocol="TCP")
        address = urlsplit(f"http://{exposed.external_endpoint}")
        until_healthy(str(address.hostname), int(address.port or 80))
        return box.id

    def end(self, box: str) -> None:
        """Delete it."""
        self._client.delete(box)

    def execute(self, box: str) -> None:
        """A shell command in it."""
        self._client.execute_command(box, "true")

    def build(self, number: int) -> None:
        """Build the image anew."""
        with ImageClient(self._where.connection) as images:
            images.build("bench", "again", self._where.context, no_cache=True, port=8000)

    def many(self, at_once: int, total: int) -> float:
        """Seconds for `total` sandboxes, so many at once, each until it is healthy and then deleted."""

        async def go() -> float:
            async with AsyncSandboxClient(self._where.connection) as client:
                gate = asyncio.Semaphore(at_once)

                async def one() -> None:
                    async with gate:
                        box = await client.create(self._request())
                        await client.wait_for_creation(box.id, max_attempts=300)
                        exposed = await client.expose(box.id, 8000, protocol="TCP")
                        address = urlsplit(f"http://{exposed.external_endpoint}")
                        await asyncio.to_thread(until_healthy, str(address.hostname), int(address.port or 80))
                        await client.delete(box.id)

                began = time.monotonic()
                await asyncio.gather(*(one() for _ in range(total)))
                return time.monotonic() - began

        return asyncio.run(go())

    def close(self) -> None:
        """End the client."""
        self._client.close()
