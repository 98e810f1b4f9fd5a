"""Where words go: data to stdout, everything else to stderr.

Three modes: `human` (tables drawn, colour when stdout is a terminal), `plain` (`--plain`: no colour, aligned columns)
and `json` (asked for by a command's own `--output json`). Colour never appears in a pipe nor with NO_COLOR
(https://no-color.org) set.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO


class Format(StrEnum):
    """Values of `--output`."""

    table = "table"
    json = "json"


class Output:
    """The one writer of the command. `plain` is set from `--plain` before a command runs."""

    def __init__(self, plain: bool = False):
        self.plain = plain

    def data(self, text: str = "") -> None:
        """A line that the user asked for, to stdout."""
        print(text, file=sys.stdout, flush=True)

    def json(self, value: Any) -> None:
        """A value as JSON, to stdout, never wrapped nor coloured."""
        self.data(json.dumps(value, indent=2, ensure_ascii=False))

    def success(self, text: str) -> None:
        """The line that says what was done, to stdout."""
        self.data(f"{self._paint('✓', '32', sys.stdout)} {text}")

    def mark(self, good: bool) -> str:
        """`✓` or `✗` for a line of stdout, coloured where colour is wanted."""
        return self._paint("✓", "32", sys.stdout) if good else self._paint("✗", "31", sys.stdout)

    def bare(self, text: str) -> str:
        """Text without the colour that `mark` gives it."""
        return re.sub(r"\x1b\[\d+m", "", text)

    def note(self, text: str = "") -> None:
        """Progress and remarks, to stderr."""
        print(text, file=sys.stderr, flush=True)

    def log(self, text: str) -> None:
        """A piece of a log, to stderr as it is."""
        sys.stderr.write(text)
        sys.stderr.flush()

    def warning(self, text: str) -> None:
        """Something that went on but deserves a look, to stderr."""
        self.note(f"{self._paint('Warning:', '33', sys.stderr)} {text}")

    def error(self, sentence: str, hint: str | None = None) -> None:
        """`Error: …` and, below it, what to run next; to stderr."""
        self.note(f"{self._paint('Error:', '31', sys.stderr)} {sentence}")
        if hint:
            self.note(hint)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows of a list. Drawn by rich on a terminal, otherwise whitespace columns at their natural width."""
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        if not self.plain and sys.stdout.isatty():
            self._draw(columns, cells)
            return
        widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
        for row in [list(columns), *cells]:
            self.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def fields(self, values: Mapping[str, object]) -> None:
        """Name and value pairs, one a line; values that are None are left out."""
        shown = {name: value for name, value in values.items() if value is not None}
        width = max((len(name) for name in shown), default=0)
        for name, value in shown.items():
            self.data(f"{name.ljust(width)}  {value}".rstrip())

    def _draw(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table()
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for row in cells:
            drawn.add_row(*(Text(cell) for cell in row))  # Text: a name with [brackets] is not markup
        Console(no_color=not self._coloured(sys.stdout)).print(drawn)

    @property
    def coloured(self) -> bool:
        """Whether what goes to stdout may have colour."""
        return self._coloured(sys.stdout)

    def _coloured(self, stream: TextIO) -> bool:
        return (
            not self.plain and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
        )

    def _paint(self, text: str, code: str, stream: TextIO) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured(stream) else text


out = Output()


def masked(secret: str | None) -> str | None:
    """A key so that it can be recognised and not used: `pit_go***6789`; short ones are hidden whole."""
    if not secret:
        return None
    return f"{secret[:6]}***{secret[-4:]}" if len(secret) >= 16 else "***"
