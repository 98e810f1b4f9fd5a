"""Numbers of a run as people read them in a terminal."""

from __future__ import annotations

import math
from typing import Any

NOTHING = "–"


def number(value: Any) -> str:
    """Three digits after the point where they say something; a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3f}"


def seconds(value: float) -> str:
    """8 s, 1:05 min, 2:03 h."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
