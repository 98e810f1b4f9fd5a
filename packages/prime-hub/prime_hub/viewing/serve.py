"""Serving the pages on this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from prime_hub.asked_to_end import EndingServer
from prime_hub.viewing.app import create_view
from prime_hub.viewing.guard import PARAMETER

HOST = "127.0.0.1"
GRACE_SECONDS = 2


class ViewError(Exception):
    """The pages cannot be served; the message is one sentence."""


def serve_view(places: Sequence[Path], port: int) -> None:
    """Serve until SIGINT or SIGTERM; the address is printed to stdout when it answers. Raises ViewError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.closing(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise ViewError(
                f"Port {port} cannot be used: {error.strerror}. Leave --port out for a free one, or name another."
            ) from None
        port = listener.getsockname()[1]
        secret = secrets.token_urlsafe(24)
        app = create_view(places, secret, frozenset({f"{HOST}:{port}", f"localhost:{port}"}), port)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        _Server(config, f"http://{HOST}:{port}/?{PARAMETER}={secret}").run(sockets=[listener])


class _Server(EndingServer):
    """uvicorn, which tells where it is, and ends without a word."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            print(self._address, flush=True)
            print("Only you can open it, with this address. Ctrl-C ends it.", file=sys.stderr, flush=True)
