"""Numbers as people read them, and strangers' words as a terminal may have them."""

from __future__ import annotations

import math
import re
import time
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """The text without what would steer a terminal: such characters are shown as pictures of themselves."""
    return _UNSEEN.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 0x20 else "\ufffd", text)


def number(value: Any) -> str:
    """Three digits after the point where they say something; a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3f}"


def signed(value: float | None) -> str:
    """With its sign."""
    if value is None:
        return "–"
    return f"+{number(value)}" if value > 0 else number(value)


def thousands(value: float) -> str:
    """12,345."""
    return f"{round(value):,}"


def seconds(value: float) -> str:
    """0.12 s, 8 s, 1:05 min, 2:03 h."""
    if value < 10:
        return f"{value:.2f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


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
