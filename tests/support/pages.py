"""The blocks of a page of the documentation, and its shell blocks as the commands that they are."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HERE = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page at which its text begins."""

    language: str
    text: str
    line: int

    def commands(self) -> list[str]:
        """Of a shell block: one item for each command, a here-document with the command that reads it."""
        found: list[str] = []
        lines = iter(self.text.splitlines())
        for line in lines:
            command = line
            if (here := _HERE.search(line)) is not None:
                for more in lines:
                    command += f"\n{more}"
                    if more == here[1]:
                        break
            elif not shlex.split(line, comments=True):
                continue
            found.append(command)
        return found


def blocks(page: Path) -> list[Block]:
    """All fenced blocks that name a language, in the order of the page."""
    text = page.read_text(encoding="utf-8")
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in _FENCE.finditer(text)]
