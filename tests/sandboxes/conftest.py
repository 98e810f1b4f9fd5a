"""One running sandbox for the tests of a module: what is done inside it is what they are about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prime_core.connection import Connection
from prime_sandboxes import ImageClient, RunningSandbox, Sandbox, SandboxClient

DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
COPY start.sh .
CMD ["sh", "start.sh"]
"""
START = "echo ready; while :; do sleep 1; done\n"


@pytest.fixture(scope="module")
def connection(module_hub) -> Connection:
    module_hub.wait_for_runner()
    return Connection(module_hub.url, module_hub.url, module_hub.token)


@pytest.fixture(scope="module")
def plain_image(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image whose server only lives."""
    folder: Path = tmp_path_factory.mktemp("plain")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "start.sh").write_text(START)
    with ImageClient(connection) as images:
        built = images.build("plain", "latest", folder)
    assert built.status == "COMPLETED", built.error
    return built.image


@pytest.fixture(scope="module")
def client(connection: Connection) -> Iterator[SandboxClient]:
    with SandboxClient(connection) as made:
        yield made


@pytest.fixture(scope="module")
def box(client: SandboxClient, plain_image: str) -> Iterator[RunningSandbox]:
    with Sandbox.create(plain_image, client, env={"GREETING": "hello"}) as made:
        yield made
