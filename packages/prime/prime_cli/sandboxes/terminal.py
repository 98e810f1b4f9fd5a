"""This terminal while it belongs to a program elsewhere: raw, its size passed on, restored however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

ESCAPE = b"~."
# What a program that was cut off leaves behind: a hidden cursor, mouse and paste modes; and, full-screen, the other screen.
TIDY = b"\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[0m"
OTHER_SCREEN = b"\x1b[?1049"
PIECE = 4096


def size() -> tuple[int, int]:
    """(rows, columns) of the terminal, 24 by 80 where it does not tell."""
    for stream in (sys.stdout, sys.stdin, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            found = os.get_terminal_size(stream.fileno())
            if found.lines and found.columns:
                return found.lines, found.columns
    return 24, 80


class RawTerminal:
    """Standard input, raw for the length of a `with` block."""

    def __init__(self) -> None:
        self._file = sys.stdin.fileno()
        self._saved: list[Any] | None = None
        self._elsewhere = False
        self.torn = True
        """Whether the program elsewhere did not end by itself, so that it cannot have tidied up."""

    def watch(self, data: bytes) -> None:
        """Look at what is shown here."""
        if OTHER_SCREEN in data:
            self._elsewhere = data.rfind(OTHER_SCREEN + b"h") > data.rfind(OTHER_SCREEN + b"l")

    def __enter__(self) -> Self:
        self._saved = termios.tcgetattr(self._file)
        tty.setraw(self._file, termios.TCSADRAIN)  # what was typed ahead is kept
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            if self.torn and sys.stdout.isatty():
                with contextlib.suppress(OSError):
                    os.write(sys.stdout.fileno(), (OTHER_SCREEN + b"l" if self._elsewhere else b"") + TIDY + b"\r\n")
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._saved)

    async def keys(self) -> AsyncIterator[bytes]:
        """What is typed, as it comes; over at the end of input, and after `Enter ~ .`."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes] = asyncio.Queue()

        def read() -> None:
            try:
                data = os.read(self._file, PIECE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            pieces.put_nowait(data)
            if not data:
                loop.remove_reader(self._file)

        loop.add_reader(self._file, read)
        last = b"\r"
        try:
            while data := await pieces.get():
                typed = last + data
                if any(end + ESCAPE in typed for end in (b"\r", b"\n")):
                    return
                # `~` after Enter may be the beginning of it; both characters come one by one from a keyboard.
                last = typed[-2:] if typed[-1:] == b"~" and typed[-2:-1] in (b"\r", b"\n") else typed[-1:]
                yield data
        finally:
            loop.remove_reader(self._file)


@contextlib.contextmanager
def on_signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Any:
    """Call these in the event loop when such a signal comes."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
