"""The runs of a folder: a table that fills while they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from prime_cli.browsing.sorted_screen import SortedScreen
from prime_cli.browsing.table import Cell, Column, Row, RowsTable
from prime_cli.browsing.words import moment
from prime_evals.estimates import by_example, clustered_mean
from prime_evals.rendering import number
from prime_evals.sources import About, find_folders, open_source

COLUMNS = (
    Column("", 1),
    Column("environment", 16, grows=True, sort="environment"),
    Column("model", 14, grows=True, sort="model"),
    Column("started", 16, drop=2, sort="started"),
    Column("rollouts", 13, right=True, drop=3, sort="rollouts"),
    Column("reward", 9, right=True, sort="reward"),
    Column("±", 6, right=True, drop=4),
    Column("errors", 8, right=True, drop=1, sort="errors"),
    Column("folder", 10, drop=5, sort="folder"),
)
_SHOWN_AT_ONCE = 25


@dataclass(slots=True)
class Entry:
    """A run in the list; the numbers come once it has been opened. `problem`: why it could not be."""

    directory: Path
    about: About | None = None
    finished: int = 0
    reward: float | None = None
    half: float | None = None
    errors: int = 0
    problem: str = ""


def entry_of(directory: Path) -> Entry:
    """What the list tells of one run."""
    try:
        source = open_source(directory)
    except Exception as error:  # whatever is wrong with a folder must not take the list away
        return Entry(directory, problem=str(error))
    try:
        columns = source.columns
        groups = by_example(zip(map(str, columns["example_id"]), columns["reward"], strict=True))
        found = clustered_mean(groups)
        half = (
            None
            if found is None or found.standard_error is None or found.high is None
            else max(found.high - found.value, found.value - (found.low or 0.0))
        )
        errors = sum(error is not None for error in columns["error"])
        reward = None if found is None else found.value
        return Entry(directory, source.about, len(columns["reward"]), reward, half, errors)
    finally:
        source.close()


class RunsScreen(SortedScreen[None]):
    """Enter opens a run, space marks two to compare."""

    COLUMNS = COLUMNS
    LARGEST_FIRST = ("started", "reward", "errors", "rollouts")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare marked"),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort by"),
        Binding("S", "turn", "Other way", show=False),
        Binding("r", "reload", "Look again"),
        Binding("escape", "clear", "Clear", show=False),
    ]

    def __init__(self, places: Sequence[Path]) -> None:
        super().__init__()
        self.places = places
        self.entries: list[Entry] = []
        self.shown: list[Entry] = []
        self.marked: list[Path] = []
        self.by, self.descending = "started", True
        self._has_looked = False

    def compose(self) -> ComposeResult:
        """Title, table, filter, keys."""
        yield Static("", classes="title", id="title", markup=False)
        yield RowsTable(COLUMNS, id="runs", empty="No runs here yet: prime eval run ENV makes one.")
        yield Input(placeholder="environment, model or folder", classes="entry", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """The table has the keys."""
        self.query_one(RowsTable).focus()

    def on_screen_resume(self) -> None:
        """Look for runs, the first time that this is seen; a run that was named is opened without."""
        if not self._has_looked:
            self.action_reload()

    def action_reload(self) -> None:
        """Look for runs again."""
        self._has_looked = True
        self.query_one("#title", Static).update(f"Looking for runs in {', '.join(map(str, self.places))} …")
        self._look()

    @work(thread=True, exclusive=True)
    def _look(self) -> None:
        worker = get_current_worker()
        directories = find_folders(self.places)
        known = {entry.directory: entry for entry in self.entries}
        entries = [known.get(directory) or Entry(directory) for directory in directories]
        self.app.call_from_thread(self._take, entries)
        for number_, directory in enumerate(directories):
            if worker.is_cancelled:
                return
            entries[number_] = entry_of(directory)
            if number_ % _SHOWN_AT_ONCE == 0 or number_ == len(directories) - 1:
                self.app.call_from_thread(self._take, list(entries))

    def _take(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._refill()

    def resort(self) -> None:
        """Show the runs in the order of `by`."""
        self._refill()

    def _refill(self) -> None:
        table = self.query_one(RowsTable)
        at = self.shown[table.cursor].directory if self.shown else None
        words = self.query_one("#filter", Input).value.casefold().split()
        wanted = [entry for entry in self.entries if all(word in _text(entry) for word in words)]
        have = [entry for entry in wanted if _value(entry, self.by) is not None]
        have.sort(key=lambda entry: _value(entry, self.by), reverse=self.descending)
        self.shown = have + [entry for entry in wanted if _value(entry, self.by) is None]
        directories = [entry.directory for entry in self.shown]
        table.order = (self.by, self.descending)
        table.empty = "No run is like that." if self.entries else "No runs here yet: prime eval run ENV makes one."
        table.show(len(self.shown), self._cells, directories.index(at) if at in directories else 0)
        places = ", ".join(map(str, self.places))
        count = f"{len(self.shown)} of {len(self.entries)}" if words else str(len(self.entries))
        self.query_one("#title", Static).update(f"{count} {'run' if count == '1' else 'runs'} in {places}")

    def _cells(self, row: int) -> Row:
        entry = self.shown[row]
        mark = Cell("*", "mark") if entry.directory in self.marked else ""
        if entry.problem:
            return (mark, Cell("cannot be read", "bad"), "", "", "", "", "", "", entry.directory.name)
        about = entry.about
        if about is None:
            return (mark, Cell("…", "dim"), "", "", "", "", "", "", entry.directory.name)
        whole = entry.finished >= about.planned
        played = f"{entry.finished:,}" if whole else f"{entry.finished:,}/{about.planned:,}"
        return (
            mark,
            about.env_id,
            about.model,
            Cell(moment(about.started_at), "dim"),
            played if whole else Cell(played, "mark"),
            number(entry.reward),
            Cell(number(entry.half), "dim"),
            Cell(str(entry.errors), "bad") if entry.errors else Cell("0", "dim"),
            Cell(entry.directory.name, "dim"),
        )

    # What the keys do

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Open."""
        from prime_cli.browsing.app import Browser

        if isinstance(self.app, Browser):
            self.app.open_run(self.shown[event.row].directory)

    def action_mark(self) -> None:
        """Mark the run, or take the mark away; the last two count."""
        if not self.shown:
            return
        directory = self.shown[self.query_one(RowsTable).cursor].directory
        if directory in self.marked:
            self.marked.remove(directory)
        else:
            self.marked = [*self.marked[-1:], directory]
        self._refill()

    def action_compare(self) -> None:
        """The two that are marked; or the marked one and the one at the cursor."""
        from prime_cli.browsing.app import Browser

        chosen = list(self.marked)
        if len(chosen) == 1 and self.shown:
            chosen.append(self.shown[self.query_one(RowsTable).cursor].directory)
        if len(set(chosen)) < 2:
            self.notify("Mark two runs with the space bar first.", severity="warning")
        elif isinstance(self.app, Browser):
            self.app.compare(chosen[0], chosen[1])

    def action_filter(self) -> None:
        """Type what to look for."""
        entry = self.query_one("#filter", Input)
        entry.add_class("-shown")
        entry.focus()

    def action_clear(self) -> None:
        """No filter, no marks."""
        entry = self.query_one("#filter", Input)
        entry.value = ""
        entry.remove_class("-shown")
        self.marked = []
        self.query_one(RowsTable).focus()
        self._refill()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self._refill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the table."""
        self.query_one(RowsTable).focus()


def _text(entry: Entry) -> str:
    about = entry.about
    names = (about.env_id, about.model, about.env_version or "") if about else ()
    return " ".join((*names, str(entry.directory))).casefold()


def _value(entry: Entry, by: str) -> Any:
    """What it is sorted by; None comes last."""
    about = entry.about
    if by == "folder":
        return str(entry.directory)
    if about is None:
        return None
    match by:
        case "environment":
            return about.env_id.casefold()
        case "model":
            return about.model.casefold()
        case "started":
            return about.started_at
        case "rollouts":
            return entry.finished
        case "errors":
            return entry.errors
    return entry.reward
