"""A list of messages that remembers how many of them have been looked through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

from verifiers.types import Message


class Conversation(list[Message]):
    """A list like any other, whose first `checked` items are known to be messages of ours, so that a turn looks only at
    what is new. Whatever may bring something else in between sets `checked` to 0.
    """

    __slots__ = ("checked",)

    def __init__(self, messages: Iterable[Message] = (), checked: int = 0) -> None:
        super().__init__(messages)
        self.checked = checked

    def __add__(self, other: Any) -> Conversation:
        joined = Conversation(self, min(self.checked, len(self)))
        joined.extend(other)
        return joined

    def copy(self) -> Conversation:
        return Conversation(self, self.checked)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.checked = 0
        super().__setitem__(index, value)

    def __delitem__(self, index: Any) -> None:
        self.checked = 0
        super().__delitem__(index)

    def insert(self, index: SupportsIndex, message: Message, /) -> None:
        self.checked = 0
        super().insert(index, message)

    def pop(self, index: SupportsIndex = -1, /) -> Message:
        self.checked = 0
        return super().pop(index)

    def remove(self, message: Message, /) -> None:
        self.checked = 0
        super().remove(message)

    def clear(self) -> None:
        self.checked = 0
        super().clear()

    def reverse(self) -> None:
        self.checked = 0
        super().reverse()

    def sort(self, **options: Any) -> None:
        self.checked = 0
        super().sort(**options)
