"""Whose turn it is: one of each account after the other, and within an account the oldest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """Something that waits for an account."""

    @property
    def owner_id(self) -> str:
        """The account."""
        ...


T = TypeVar("T", bound=Waiting)


class Turns:
    """Remembers which account was served last; forgetting that, at a restart, costs nobody more than a turn."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._count = 0

    def take(self, waiting: Sequence[T], fits: Callable[[T], bool], room: int) -> list[T]:
        """At most `room` of `waiting`, which is oldest first.

        `fits` is asked once for each that is about to be taken, and counts it. An account whose oldest does not fit
        waits with all its others: what is small does not overtake for ever what is large.
        """
        queues: dict[str, deque[T]] = {}
        for item in waiting:
            queues.setdefault(item.owner_id, deque()).append(item)
        order = deque(sorted(queues, key=lambda owner: self._served.get(owner, 0)))
        taken: list[T] = []
        while order and len(taken) < room:
            owner = order.popleft()
            if not fits(queues[owner][0]):
                continue
            taken.append(queues[owner].popleft())
            self._count += 1
            self._served[owner] = self._count
            if queues[owner]:
                order.append(owner)
        return taken
