"""A screen whose table is sorted by one of its columns, by key or by a click on the head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, TypeVar

from textual.screen import Screen

from prime_cli.browsing.table import Column, RowsTable

Result = TypeVar("Result")


class SortedScreen(Screen[Result]):
    """`by` is a column's `sort`. A subclass has `resort`, and bindings for `sort` and `turn`."""

    COLUMNS: ClassVar[Sequence[Column]] = ()
    LARGEST_FIRST: ClassVar[Collection[str]] = ()
    """The columns that begin with the largest when they are chosen."""

    by = ""
    descending = False

    @abstractmethod
    def resort(self) -> None:
        """Show the rows in the order of `by`."""

    def on_rows_table_head_clicked(self, event: RowsTable.HeadClicked) -> None:
        """Sort by what was clicked; the other way where it is sorted so already."""
        self.descending = not self.descending if event.sort == self.by else event.sort in self.LARGEST_FIRST
        self.by = event.sort
        self.resort()

    def action_sort(self) -> None:
        """By the next column."""
        keys = [column.sort for column in self.COLUMNS if column.sort]
        self.by = keys[(keys.index(self.by) + 1) % len(keys)]
        self.descending = self.by in self.LARGEST_FIRST
        self.resort()

    def action_turn(self) -> None:
        """The other way round."""
        self.descending = not self.descending
        self.resort()
