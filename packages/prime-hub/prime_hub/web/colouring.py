"""Source code in colours: a file's lines as HTML, harmless whatever is in it."""

from __future__ import annotations

import asyncio
import html
import json
import re
import sys
from collections import OrderedDict
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

PROGRAM = Path(__file__).with_name("colouring_program.py")
COLOURED_CHARACTERS = 128 * 1024
"""Longer texts are shown plain."""
CPU_SECONDS = 2
MEMORY_BYTES = 512 * 1024 * 1024
WAIT_SECONDS = 20
"""For a processor that is busy with something else."""
AT_ONCE = 2
KEPT, KEPT_PIECES = 32, 200_000
LINE_CHARACTERS = 20_000
"""Of a line; how many more there are is told."""
PAGE_CHARACTERS = 2 * 1024 * 1024
"""Of HTML; what comes after that is only counted."""

# Control characters, and those that turn the direction of text, so that it reads as something else than it is.
_UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")

Words = list[tuple[str, str]]


class Colouring:
    """Colours texts, a few at a time, and remembers the newest."""

    def __init__(self) -> None:
        self._at_work = asyncio.Semaphore(AT_ONCE)
        self._kept: OrderedDict[tuple[str, str], Words] = OrderedDict()

    async def words(self, name: str, text: str, sha256: str) -> Words:
        """The text in pieces, each with its kind ("" where there is none); one piece where it is not coloured."""
        plain = [("", text)]
        if not text or len(text) > COLOURED_CHARACTERS:
            return plain
        key = (sha256, name)
        found = self._kept.get(key)
        if found is None:
            async with self._at_work:
                # A file without an ending is of no language; names of languages have no dot.
                found = (await _words([(name if "." in name else f"{name}.", text)]))[0] or plain
            self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT or sum(len(one) for one in self._kept.values()) > KEPT_PIECES:
            self._kept.popitem(last=False)
        return found

    async def blocks(self, blocks: list[tuple[str, str]]) -> list[Words | None]:
        """Pieces of code, each with the name of its language, coloured as far as there is time for all of them. Not kept."""
        async with self._at_work:
            return await _words(blocks) if blocks else []

    async def html(self, words: Words, most: int) -> tuple[list[Markup], bool]:
        """`lines` of them."""
        async with self._at_work:
            return await asyncio.to_thread(lines, words, most)


COLOURING = Colouring()
"""The one of all pages."""


async def _words(pieces: list[tuple[str, str]]) -> list[Words | None]:
    """None where a text is of no language we know; for all where they are too much for the time that there is."""
    nothing: list[Words | None] = [None] * len(pieces)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(PROGRAM),
            str(CPU_SECONDS),
            str(MEMORY_BYTES),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
    except OSError:  # no process more
        return nothing
    try:
        answer, _ = await asyncio.wait_for(process.communicate(json.dumps(pieces).encode()), WAIT_SECONDS)
    except TimeoutError:
        return nothing
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode or not answer:
        return nothing
    return [_whole(found, text) for found, (_, text) in zip(json.loads(answer), pieces, strict=True)]


def _whole(found: list[list[str]] | None, text: str) -> Words | None:
    """The words of a text. What is shown is the text, whatever a highlighter makes of it."""
    words = [(str(kind), str(piece)) for kind, piece in found or ()]
    return words if "".join(piece for _, piece in words) == text else None


class Room:
    """What one page has room for: the lines that it shows as HTML. `cut`: something was left out."""

    def __init__(self) -> None:
        self.cut = False
        self._left = PAGE_CHARACTERS

    def line(self, pieces: Words, end: str = "") -> Markup:
        """A line's pieces and its end as HTML, and how much of it is not shown."""
        from markupsafe import Markup

        done: list[str] = []
        room, missing = LINE_CHARACTERS, 0
        for kind, text in pieces:
            shown = text[:room] if self._left > 0 else ""
            room -= len(shown)
            missing += len(text) - len(shown)
            done.append(piece_html(kind, shown))
            self._left -= len(done[-1])
        if missing:
            self.cut = True
            done.append(f'<span class="unseen">… {missing} more character{"" if missing == 1 else "s"}</span>')
        return Markup("".join([*done, end]))


def lines(words: Words, most: int) -> tuple[list[Markup], bool]:
    """The text line by line, each with the newline that ends it, as HTML; and whether that is not all of it."""
    room = Room()
    done: list[Markup] = []
    line: Words = []
    for kind, text in words:
        first, *others = text.split("\n")
        line.append((kind, first))
        for piece in others:
            if len(done) == most:
                return done, True
            done.append(room.line(line, "\n"))
            line = [(kind, piece)]
    if any(piece for _, piece in line):
        if len(done) == most:
            return done, True
        done.append(room.line(line))
    return done, room.cut


def piece_html(kind: str, text: str) -> str:
    """A word in its colour."""
    shown = _UNSEEN.sub(_seen, html.escape(text, quote=False))
    return f'<span class="c-{kind}">{shown}</span>' if kind and shown else shown


def _seen(found: re.Match[str]) -> str:
    names = []
    for sign, same in groupby(found[0]):
        count = sum(1 for _ in same)
        names.append(f"U+{ord(sign):04X}" + (f" ×{count}" if count > 1 else ""))
    return f'<span class="unseen">{" ".join(names)}</span>'
