"""Free TCP ports for sandboxes, never the same one twice, not even for two runners on one machine.

A port is held by a UDP socket of the same number on loopback: the kernel gives it to one holder only and takes it back
when the holder dies, and it is in nobody's way, because TCP has numbers of its own. Numbers come from below the range
out of which the kernel serves outgoing connections.
"""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20000, 32000
TRIES = 500


class NoFreePort(Exception):
    """No port could be held."""


class Ports:
    """The ports this runner holds, by number."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self) -> int:
        """Hold a free port and return it. Raises NoFreePort."""
        for _ in range(TRIES):
            port = random.randint(FIRST, LAST)
            if self.hold(port):
                return port
        raise NoFreePort(f"No free port was found between {FIRST} and {LAST} on this machine.")

    def hold(self, port: int) -> bool:
        """Hold this very port; False when a sandbox holds it or a program listens on it."""
        if port in self._held or not 0 < port < 65536:
            return False
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind((LOOPBACK, port))
            if not is_free(port):
                raise OSError
        except OSError:
            mark.close()
            return False
        self._held[port] = mark
        return True

    def hold_again(self, port: int) -> None:
        """Hold the port of a sandbox that was found alive and listens on it already."""
        if port in self._held:
            return
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind((LOOPBACK, port))
        except OSError:
            mark.close()
            return
        self._held[port] = mark

    def give_back(self, port: int) -> None:
        """Let the port go; nothing when it is not held."""
        mark = self._held.pop(port, None)
        if mark is not None:
            mark.close()

    def close(self) -> None:
        """Let all go."""
        for port in list(self._held):
            self.give_back(port)


def is_free(port: int) -> bool:
    """Whether a server could bind this port on every address of this machine now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
