"""The rows of the conformance plan (hub.md §7): each noted by the test that goes through it, listed at the run's end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

ROWS = {
    1: "config set-api-key, whoami",
    2: "login --headless",
    3: "a wrong key, and none",
    4: "env push, the first time",
    5: "env push, the same again",
    6: "env push --auto-bump",
    7: "env list with --search, --owner, --tag, --mine, --page",
    8: "env status, env info, an unknown name",
    9: "env inspect, and a file of it",
    10: "env version list --full-hashes",
    11: "env pull, and of a version",
    12: "env install, of a version, --with pip; imported",
    13: "a private environment: push, info, install, without a key",
    14: "env secret and env var: create, list, update, delete",
    15: "fork by another account, and its pull",
    16: "env version delete and env delete, each twice",
    17: "images push, list, publish, update, delete",
    18: "images push-bulk",
    19: "eval push, list, get, samples, push again, an unknown environment",
    20: "eval run --hosted, eval logs, eval stop",
    21: "answers that go wrong: 422, 500, plain text, an array",
}
NOTE = "conformance row"


class Rows:
    """Notes of one test: `with rows(4): ...` around the steps of a row."""

    def __init__(self, item: pytest.Item) -> None:
        self._notes = item.user_properties

    @contextmanager
    def __call__(self, number: int) -> Iterator[None]:
        note = [number, "failed"]
        assert number in ROWS
        self._notes.append((NOTE, note))
        yield
        note[1] = "passed"


def told(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each row that was noted. A row that several tests go through has passed when it has in all of them."""
    outcomes: dict[int, set[str]] = {}
    for report in reports:
        for name, note in report.user_properties:
            if name == NOTE:
                outcomes.setdefault(note[0], set()).add(note[1])
    return [
        f"row {number:>2}  {'failed' if 'failed' in outcomes[number] else 'passed'}  {ROWS[number]}"
        for number in sorted(outcomes)
    ]
