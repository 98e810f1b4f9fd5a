"""A way to a Hub on which a connection is cut off at a chosen request: what a client that is killed there leaves behind."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from types import TracebackType
from typing import Self

STEPS = {
    "resolve": rb"POST /api/v1/environmentshub/resolve",
    "wheel": rb"POST /api/v1/environmentshub/\w+/wheels ",
    "wheel-put": rb"PUT /api/v1/uploads/wheel/",
    "wheel-finalize": rb"POST /api/v1/environmentshub/\w+/wheels/\w+/finalize",
    "version": rb"POST /api/v1/environmentshub/\w+/versions ",
    "version-put": rb"PUT /api/v1/uploads/archive/",
    "version-finalize": rb"POST /api/v1/environmentshub/\w+/versions/\w+/finalize",
}
"""How each request of a push begins, in their order."""


class CuttingProxy:
    """Passes bytes on to a Hub; the request that begins with `pattern` is not, and its connection is closed.

    With `after` it is passed on, and closed is the connection before the answer comes.
    """

    def __init__(self, port: int, pattern: bytes, after: bool = False) -> None:
        self._port, self._pattern, self._after = port, re.compile(pattern), after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                hub = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._send, args=(client, hub), daemon=True).start()
                threading.Thread(target=self._answer, args=(hub, client), daemon=True).start()

    def _send(self, client: socket.socket, hub: socket.socket) -> None:
        with contextlib.suppress(OSError), client, hub:
            while data := client.recv(65536):
                if not self.cut.is_set() and self._pattern.match(data):
                    self.cut.set()
                    if self._after:
                        hub.sendall(data)
                        hub.settimeout(5)
                        hub.recv(1)
                    return
                hub.sendall(data)

    def _answer(self, hub: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := hub.recv(65536)) and not self.cut.is_set():  # an answer that came after the cut is lost, too
                client.sendall(data)
