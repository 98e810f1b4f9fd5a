"""An OpenAI-compatible server, and small environments."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from openai_server import OpenAIServer
from words_env import command, work

import verifiers as vf

__all__ = ["command", "work"]
"""Fixtures of a module of its own."""


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    """A fresh model server for one test."""
    server = OpenAIServer()
    yield server
    server.close()


@pytest.fixture
def asks(openai_server: OpenAIServer) -> Callable[..., Awaitable[Any]]:
    """Ask the server once: `await asks(client_type, prompt, config={…}, **options of get_response)`."""

    async def ask(
        client_type: str, prompt: Any = "hi", max_retries: int = 0, config: Any = None, **options: Any
    ) -> vf.Response:
        settings = {"api_base_url": openai_server.url, "max_retries": max_retries, **(config or {})}
        client = vf.as_client(vf.ClientConfig(client_type=client_type, **settings))
        client.retry_delay_seconds = 0.001
        try:
            return await client.get_response(prompt, "m", **options)
        finally:
            await client.close()

    return ask
