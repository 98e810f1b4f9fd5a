"""How a page tells sizes, times to come, and what a program has printed."""

from __future__ import annotations

import re
from datetime import datetime
from unicodedata import category

from prime_hub.db.types import now

LOG_CHARACTERS = 64 * 1024

# What programs send to a terminal (ECMA-48): sequences with parameters, strings such as titles and links, and short ones.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|(?=\n)|\Z)"
    r"|\x1b[ -/]*[0-~]"
)
_ASCII = re.compile(r"[\n\t\x20-\x7e]*")


def plain(text: str) -> str:
    """A log as text: without escape sequences, lines that were written over, and signs that cannot be seen."""
    lines = _SEQUENCES.sub("", text).split("\n")
    # What a terminal would still show of a line is what came after the last carriage return.
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    if _ASCII.fullmatch(text):
        return text
    signs = (sign if sign.isprintable() or sign in "\n\t" else " " if category(sign) == "Zs" else "" for sign in text)
    return "".join(signs)


def end_of_log(text: str, most: int = LOG_CHARACTERS) -> tuple[str, bool]:
    """The end of a log as `plain` text, from the beginning of a line on, and whether something is left out before it."""
    cut = len(text) > most
    if cut:
        text = text[-most:]
        _, newline, rest = text.partition("\n")
        text = rest if newline and rest else text
    return plain(text), cut


def size(count: int | None) -> str:
    """Bytes for a person, in powers of 1000: `12.3 kB`."""
    count = count or 0
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    for unit, of in (("kB", 1000), ("MB", 1000**2)):
        if count < 999.95 * of:
            return f"{count / of:.1f} {unit}"
    return f"{count / 1000**3:.1f} GB"


def memory(count: float | None) -> str:
    """Memory or disk of a sandbox, in the units in which its limits are asked for: powers of 1024."""
    amount = (count or 0) / (1 << 20)
    return f"{amount:.4g} MB" if amount < 1023.5 else f"{amount / 1024:.4g} GB"


def span(seconds: float) -> str:
    """`2 hours`."""
    left = max(0, round(seconds))
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if left >= 2 * length or left == length:
            return f"{left // length} {name}{'' if left // length == 1 else 's'}"
    return f"{left} second{'' if left == 1 else 's'}"


def until(moment: datetime) -> str:
    """`in 2 hours`."""
    return f"in {span((moment - now()).total_seconds())}"
