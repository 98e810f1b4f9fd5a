"""The lines of `attempts.jsonl`, one at a time, with where each lies.

Rollouts that are scored together become final together: their lines say `"of": [k, n]`, the k-th of n in one append, and
count as final only when all n of them are there. A kill in the middle of the append leaves none of them final.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prime_evals.errors import NotARun

FILE_NAME = "attempts.jsonl"
Key = tuple[Any, int]
"""(example_id, rollout_index): which rollout of a run."""


@dataclass(slots=True)
class Record:
    """One line: where it begins, how many bytes it has (without the line break), what it says.

    final: whether it is the result of its rollout, until a later one is.
    """

    offset: int
    length: int
    data: dict[str, Any]
    final: bool = False

    @property
    def end(self) -> int:
        return self.offset + self.length


def scan(path: Path, start: int = 0) -> Iterator[Record]:
    """The records from byte `start` on; a torn last line is left out, a broken one before it is a NotARun.

    Needs the memory of one line.
    """
    broken: int | None = None
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            begun, offset = offset, offset + len(line)
            if broken is not None:
                raise NotARun(
                    f"Line {_number(path, broken)} of {path} is not JSON, so the run cannot be trusted; mend or remove the "
                    "line."
                )
            text = line.rstrip(b"\r\n")
            if not text.strip():
                continue
            try:
                data = json.loads(text)
            except ValueError:
                broken = begun
                continue
            if not isinstance(data, dict):
                raise NotARun(
                    f"Line {_number(path, begun)} of {path} is not a JSON object, so the run cannot be trusted."
                )
            yield Record(begun, len(text), data)


def settled(records: Iterator[Record], at_end: bool = True) -> Iterator[Record]:
    """The records with their `final` settled.

    at_end: what a half-written group at the very end is: True gives it as not final; False leaves it out, since the rest
    may be on its way.
    """
    group: list[Record] = []
    for record in records:
        place = _place(record)
        if group and (place is None or place != (len(group) + 1, _size(group[0]))):
            yield from group
            group = []
        if place is None or (not group and place[0] != 1):
            record.final = (
                place is None and record.data.get("kind") == "attempt" and bool(record.data.get("final", True))
            )
            yield record
            continue
        group.append(record)
        if len(group) == place[1]:
            for one in group:
                one.final = True
            yield from group
            group = []
    if at_end:
        yield from group


def read_at(path: Path, offset: int, length: int) -> dict[str, Any]:
    """The record at a place. Raises NotARun when there is none."""
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read(length)
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise NotARun(f"There is no record at byte {offset} of {path}: the file was changed since it was read.")
    return data


def _place(record: Record) -> tuple[int, int] | None:
    of = record.data.get("of") if record.data.get("kind") == "attempt" and record.data.get("final", True) else None
    return (int(of[0]), int(of[1])) if isinstance(of, list) and len(of) == 2 and of[1] > 1 else None


def _size(record: Record) -> int:
    return int(record.data["of"][1])


def _number(path: Path, offset: int) -> int:
    """The line that begins at `offset`, counted from 1."""
    lines, left = 1, offset
    with path.open("rb") as file:
        while left and (piece := file.read(min(left, 1 << 20))):
            lines += piece.count(b"\n")
            left -= len(piece)
    return lines
