"""Numbers as people read them, and strangers' words as a terminal may have them."""

from __future__ import annotations

import re
import time

from prime_evals.rendering import NOTHING, number
from prime_evals.rendering import seconds as whole_seconds

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """The text without what would steer a terminal: such characters are shown as pictures of themselves."""
    return _UNSEEN.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\ufffd", text)


def signed(value: float | None) -> str:
    """With its sign."""
    if value is None:
        return NOTHING
    return f"+{number(value)}" if value > 0 else number(value)


def thousands(value: float) -> str:
    """12,345."""
    return f"{round(value):,}"


def seconds(value: float) -> str:
    """0.12 s; from ten on 12 s, 1:05 min, 2:03 h."""
    return f"{value:.2f} s" if value < 10 else whole_seconds(value)


def moment(at: float) -> str:
    """2026-11-30 14:05, in the machine's time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else "–"


BARS = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int) -> str:
    """A bar that fills `share` of `width` cells, to an eighth of a cell; nothing at all only for nothing."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (BARS[rest] if rest else "")).ljust(width)
