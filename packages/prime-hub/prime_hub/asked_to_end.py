"""A server that SIGINT and SIGTERM end in good order, with exit code 0: that was asked for, and was done."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator

import uvicorn


class EndingServer(uvicorn.Server):
    """uvicorn, which by itself raises the signal again at its end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """The signals end the server meanwhile; afterwards they do what they did before."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
