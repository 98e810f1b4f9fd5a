"""Which rows are shown, and in which order."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

SORTS = {
    "example": "example",
    "reward": "reward",
    "attempt": "attempt",
    "error": "error",
    "stop": "stop_condition",
    "seconds": "seconds",
    "input": "input_tokens",
    "output": "output_tokens",
    "cost": "cost",
}


def sorted_places(columns: Mapping[str, Any], places: Iterable[int], by: str, descending: bool) -> array[int]:
    """The places by a column; what has no value comes last, either way. Equal ones keep their order."""
    if by == "example":
        found = array("q", places)
        return found[::-1] if descending else found
    column = columns[SORTS[by]]

    def missing(place: int) -> bool:
        value = column[place]
        return value is None or (isinstance(value, float) and math.isnan(value))

    have, lack = [], []
    for place in places:
        (lack if missing(place) else have).append(place)
    have.sort(key=column.__getitem__, reverse=descending)
    return array("q", have + lack)
