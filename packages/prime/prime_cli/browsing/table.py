"""A table of any length: only the rows in sight are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from prime_cli.browsing.words import visible

GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """title: shown above. width: cells. right: numbers stand to the right. grows: takes what is left of the line.
    drop: columns with a higher number go first where the terminal is narrow; 0 never goes. sort: the key of the order it
    stands for, where the table can be sorted by it.
    """

    title: str
    width: int
    right: bool = False
    grows: bool = False
    drop: int = 0
    sort: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and a style: a component class of the table without its prefix (good, bad, dim, mark)."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


def fit(columns: Sequence[Column], width: int) -> list[tuple[int, Column, int]]:
    """(number, column, its width) of those that fit into `width` cells, in their order."""
    shown = list(enumerate(columns))
    while len(shown) > 1 and sum(column.width + GAP for _, column in shown) - GAP > width:
        last = max(shown, key=lambda item: (item[1].drop, item[0]))
        if not last[1].drop:
            break
        shown.remove(last)
    rest = width - sum(column.width + GAP for _, column in shown) + GAP
    growing = sum(column.grows for _, column in shown)
    return [
        (number, column, max(1, column.width + (rest // growing if column.grows else 0))) for number, column in shown
    ]


class RowsTable(ScrollView, can_focus=True):
    """`show` gives it the number of rows and a function for the cells of one."""

    DEFAULT_CSS = """
    RowsTable { height: 1fr; overflow-x: hidden; }
    RowsTable > .table--head { text-style: bold; color: $text-muted; background: $panel; }
    RowsTable > .table--row { color: $text; }
    RowsTable > .table--cursor { background: $primary 30%; color: $text; text-style: bold; }
    RowsTable:focus > .table--cursor { background: $primary; color: $text; text-style: bold; }
    RowsTable > .table--good { color: $text-success; }
    RowsTable > .table--bad { color: $text-error; }
    RowsTable > .table--dim { color: $text-muted; }
    RowsTable > .table--mark { color: $text-accent; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"table--{name}" for name in ("head", "row", "cursor", "good", "bad", "dim", "mark")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Open"),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "end(-1)", "First", show=False),
        Binding("end,G", "end(1)", "Last", show=False),
    ]

    class Chosen(Message):
        """A row was opened."""

        def __init__(self, row: int) -> None:
            self.row = row
            super().__init__()

    class HeadClicked(Message):
        """The head of a column that can be sorted by was clicked."""

        def __init__(self, sort: str) -> None:
            self.sort = sort
            super().__init__()

    def __init__(self, columns: Sequence[Column], id: str | None = None, empty: str = "Nothing here.") -> None:
        super().__init__(id=id)
        self.columns = columns
        self.empty = empty
        self.count = 0
        self.cursor = 0
        self.order: tuple[str, bool] = ("", False)
        self._cells: Callable[[int], Row] = lambda row: ()

    def show(self, count: int, cells: Callable[[int], Row], cursor: int = 0) -> None:
        """Show `count` rows; `cells(row)` is asked when the row comes into sight."""
        self.count, self._cells = count, cells
        self.cursor = max(0, min(cursor, count - 1))
        self._measure()
        self._follow()
        self.refresh()

    def _measure(self) -> None:
        self.virtual_size = Size(self.size.width, self.count + 1)

    def on_resize(self, event: Resize) -> None:
        """Columns come and go with the width."""
        self._measure()
        self._follow()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The head, or a row."""
        width = self.scrollable_content_region.width or self.size.width
        if y == 0:
            return self._head(width)
        row = self.scroll_offset.y + y - 1
        if row >= self.count:
            style = self.get_component_rich_style("table--dim")
            words = self.empty if not self.count and y == 1 else ""
            return Strip([Segment(set_cell_size(f" {words}", width), style)], width)
        return self._row(row, width)

    def _head(self, width: int) -> Strip:
        style = self.get_component_rich_style("table--head")
        by, descending = self.order
        segments = []
        for _, column, space in fit(self.columns, width - 2):
            mark = (" ▼" if descending else " ▲") if column.sort and column.sort == by else ""
            segments.append(Segment(_placed(column.title + mark, space, column.right) + " " * GAP, style))
        return Strip([Segment(" ", style), *segments]).adjust_cell_length(width, style)

    def _row(self, row: int, width: int) -> Strip:
        is_cursor = row == self.cursor
        base = self.get_component_rich_style("table--cursor" if is_cursor else "table--row")
        cells = self._cells(row)
        segments = [Segment(" ", base)]
        for number, column, space in fit(self.columns, width - 2):
            cell = cells[number] if number < len(cells) else ""
            text, style = (cell.text, cell.style) if isinstance(cell, Cell) else (cell, "")
            look = base
            if style and not is_cursor:
                look = self.get_component_rich_style(f"table--{style}")
            segments.append(Segment(_placed(text, space, column.right) + " " * GAP, look))
        return Strip(segments).adjust_cell_length(width, base)

    # Moving

    def action_move(self, by: int) -> None:
        """One row on."""
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """One screen on."""
        self._go(self.cursor + by * max(1, self.size.height - 2))

    def action_end(self, by: int) -> None:
        """To the first or the last row."""
        self._go(0 if by < 0 else self.count - 1)

    def action_choose(self) -> None:
        """Open the row at the cursor."""
        if self.count:
            self.post_message(self.Chosen(self.cursor))

    def _go(self, row: int) -> None:
        row = max(0, min(row, self.count - 1))
        if row == self.cursor:
            return
        before, self.cursor = self.cursor, row
        if not self._follow():
            top = self.scroll_offset.y
            self.refresh(Region(0, before - top + 1, self.size.width, 1), Region(0, row - top + 1, self.size.width, 1))

    def _follow(self) -> bool:
        """Bring the cursor into sight; whether anything moved."""
        top, rows = self.scroll_offset.y, max(1, self.size.height - 1)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + rows:
            self.scroll_to(y=self.cursor - rows + 1, animate=False)
        else:
            return False
        self.refresh()
        return True

    def on_click(self, event: Click) -> None:
        """A click moves the cursor, a second one opens; one on the head sorts."""
        if event.y == 0:
            at = 1
            for _, column, space in fit(self.columns, self.size.width - 2):
                if at <= event.x < at + space and column.sort:
                    self.post_message(self.HeadClicked(column.sort))
                at += space + GAP
            return
        row = self.scroll_offset.y + event.y - 1
        if row < self.count:
            self._go(row)
            if event.chain > 1:
                self.action_choose()


def _placed(text: str, width: int, right: bool) -> str:
    flat = visible(" ".join(text.split()) if "\n" in text or "\t" in text else text)
    long = cell_len(flat)
    if long > width:
        return set_cell_size(flat, width - 1) + "…"
    return " " * (width - long) + flat if right else flat + " " * (width - long)
