"""How pages write scores: few digits, intervals, chances."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

NOTHING = "–"
MOST_JSON = 20_000


def score(value: float | None, signed: bool = False) -> str:
    """Three digits after the point, four significant ones of what is large or small: `0.290`, `1,234`, `0.0001234`."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size >= 1e9:
        text = f"{value:.3g}"
    elif size >= 1000 or value == int(value):
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.2f}"
    elif size >= 0.001:
        text = f"{value:.3f}"
    else:
        text = f"{value:.2g}"
    text = text.replace("-", "−")
    return f"+{text}" if signed and value > 0 else text


def interval(found: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`0.257 to 0.323`; nothing where the data cannot tell."""
    if not found or found.get("low") is None or found.get("high") is None:
        return ""
    return f"{score(found['low'], signed)} to {score(found['high'], signed)}"


def percent(share: float | None) -> str:
    """`12.5 %`."""
    if share is None:
        return NOTHING
    return f"{100 * share:.3g} %" if share in (0, 1) or share >= 0.001 else "< 0.1 %"


def chance(value: float | None) -> str:
    """A p-value: `0.034`, `< 0.001`."""
    if value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.995 else "1.0"


def seconds(value: float | None) -> str:
    """`350 ms`, `4.2 s`, `3.5 min`."""
    if value is None:
        return NOTHING
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def amount(value: float | None) -> str:
    """A number of tokens or turns, which may be a mean."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.1f}"


def dollars(value: float | None) -> str:
    """`$0.0123`."""
    if value is None:
        return NOTHING
    return f"${value:,.2f}" if value >= 1 else f"${value:.4f}"


def plain_json(value: Any) -> str:
    """Indented JSON, so much of it."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= MOST_JSON else text[:MOST_JSON] + "\n…"


FILTERS = {
    "plain_json": plain_json,
    "score": score,
    "interval": interval,
    "percent": percent,
    "chance": chance,
    "seconds": seconds,
    "amount": amount,
    "dollars": dollars,
}
"""For templates."""
