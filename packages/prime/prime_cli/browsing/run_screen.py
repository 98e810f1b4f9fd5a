"""One run: what it measured, the spread of its rewards, and every rollout in a table to filter and sort."""

from __future__ import annotations

import math
from array import array
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from prime_cli.browsing.order import sorted_places
from prime_cli.browsing.sorted_screen import SortedScreen
from prime_cli.browsing.summary import facts, histogram_text, title
from prime_cli.browsing.table import Cell, Column, Row, RowsTable
from prime_cli.browsing.wanted import HELP, Wanted, parse
from prime_cli.browsing.words import thousands
from prime_evals import EvalsError
from prime_evals.rendering import number
from prime_evals.sources import OfficialRun, OwnRun, open_source

COLUMNS = (
    Column("example", 9, grows=True, sort="example"),
    Column("rollout", 7, right=True, drop=2),
    Column("reward", 9, right=True, sort="reward"),
    Column("stopped by", 18, grows=True, drop=1, sort="stop"),
    Column("error", 16, grows=True, drop=4, sort="error"),
    Column("seconds", 9, right=True, drop=3, sort="seconds"),
    Column("tokens in", 11, right=True, drop=6, sort="input"),
    Column("out", 8, right=True, drop=6, sort="output"),
    Column("cost", 8, right=True, drop=7, sort="cost"),
    Column("attempt", 9, right=True, drop=5, sort="attempt"),
)
_TOLD_EVERY = 2000


class RunScreen(SortedScreen[None]):
    """Enter opens a rollout."""

    DEFAULT_CSS = """
    RunScreen #summary { height: auto; max-height: 45%; overflow-y: auto; }
    RunScreen #summary.-hidden { display: none; }
    RunScreen #facts { width: 1fr; }
    RunScreen #bars { width: 46; }
    RunScreen.-narrow #bars { display: none; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]
    COLUMNS = COLUMNS
    LARGEST_FIRST = ("seconds", "input", "output", "cost", "attempt")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort by"),
        Binding("S", "turn", "Other way", show=False),
        Binding("e", "only('error')", "Errors"),
        Binding("u", "only('unscored')", "Unscored"),
        Binding("i", "summary", "Summary", show=False),
        Binding("r", "reload", "Look again", show=False),
        Binding("c", "compare", "Compare", show=False),
        Binding("escape,backspace", "back", "Back"),
    ]

    def __init__(self, source: OwnRun | OfficialRun) -> None:
        super().__init__()
        self.source = source
        self.columns = source.columns
        self.count = len(self.columns["reward"])
        self.by, self.descending = "example", False
        self.wanted = Wanted()
        self.places: array[int] = array("q", range(self.count))

    def compose(self) -> ComposeResult:
        """Title, summary and histogram, table, filter, keys."""
        yield Static(title(self.source.about), classes="title", markup=False)
        with Horizontal(id="summary"):
            yield Static("", classes="facts", id="facts", markup=False)
            yield Static(histogram_text(self.columns["reward"]), classes="facts", id="bars", markup=False)
        yield Static("", classes="note", id="note", markup=False)
        yield RowsTable(COLUMNS, id="rollouts", empty="No rollout is like that.")
        yield Input(placeholder=HELP, classes="entry", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Show the rows, and add up."""
        self.query_one(RowsTable).focus()
        self.query_one("#facts", Static).update("…")
        self._refill(self.places)
        self._add_up()

    def on_unmount(self) -> None:
        """Let go of the files."""
        self.source.close()

    @work(thread=True, group="summary")
    def _add_up(self) -> None:
        told = facts(self.source)
        self.app.call_from_thread(self.query_one("#facts", Static).update, told)

    def resort(self) -> None:
        """Show the same rollouts in the order of `by`."""
        self._refill(self.places)

    def _refill(self, places: array[int], note: str = "") -> None:
        self.places = sorted_places(self.columns, places, self.by, self.descending)
        table = self.query_one(RowsTable)
        table.order = (self.by, self.descending)
        table.show(len(self.places), self._cells)
        shown = f"{len(self.places):,} of {self.count:,} rollouts"
        self.query_one("#note", Static).update(f"{shown}  {note}" if note else shown)

    def _cells(self, row: int) -> Row:
        place, columns = self.places[row], self.columns
        reward, error = columns["reward"][place], columns["error"][place]
        passed = "good" if reward >= self.source.about.threshold else ""
        attempt = columns["attempt"][place]
        cost = columns["cost"][place]
        return (
            str(columns["example_id"][place]),
            Cell(str(columns["rollout_index"][place]), "dim"),
            Cell("–", "bad") if math.isnan(reward) else Cell(number(reward), passed),
            (columns["stop_condition"][place] or "") + (" ✂" if columns["is_truncated"][place] else ""),
            Cell(error or "", "bad"),
            _or_dash(columns["seconds"][place], "{:.2f}"),
            _or_dash(columns["input_tokens"][place], "{:,.0f}"),
            _or_dash(columns["output_tokens"][place], "{:,.0f}"),
            "" if math.isnan(cost) else f"${cost:.4f}",
            Cell(str(attempt), "mark") if attempt > 1 else Cell("1", "dim"),
        )

    # What the keys do

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Open the rollout."""
        from prime_cli.browsing.rollout_screen import RolloutScreen

        self.app.push_screen(RolloutScreen(self.source, self.places, event.row, self.wanted.words), self._returned)

    def _returned(self, row: int | None) -> None:
        table = self.query_one(RowsTable)
        if row is not None:
            table.show(len(self.places), self._cells, row)

    def action_only(self, word: str) -> None:
        """Put a word into the filter, or take it out."""
        entry = self.query_one("#filter", Input)
        words = entry.value.split()
        entry.value = " ".join([one for one in words if one != word] if word in words else [*words, word])
        entry.set_class(bool(entry.value), "-shown")
        self._apply(entry.value)

    def action_filter(self) -> None:
        """Type what to look for."""
        entry = self.query_one("#filter", Input)
        entry.add_class("-shown")
        entry.focus()

    def action_reload(self) -> None:
        """Read the run again: rollouts may have come."""
        try:
            source = open_source(self.source.directory)
        except (EvalsError, OSError) as error:
            self.notify(str(error), severity="error", timeout=10, markup=False)
            return
        self.source.close()
        self.source, self.columns = source, source.columns
        self.count = len(self.columns["reward"])
        self.query_one("#bars", Static).update(histogram_text(self.columns["reward"]))
        self._apply(self.query_one("#filter", Input).value)
        self._add_up()

    def action_summary(self) -> None:
        """Away with the summary, or back."""
        self.query_one("#summary").toggle_class("-hidden")

    def action_compare(self) -> None:
        """How to compare."""
        self.notify("In the list of runs, mark two with the space bar and press c.")

    def action_back(self) -> None:
        """Out of the filter, else to the list."""
        entry = self.query_one("#filter", Input)
        if entry.value or entry.has_focus:
            entry.value = ""
            entry.remove_class("-shown")
            self.query_one(RowsTable).focus()
            self._apply("")
        else:
            self.dismiss()

    def on_input_changed(self, event: Input.Changed) -> None:
        """What the columns tell is filtered as it is typed; conversations are read on enter."""
        wanted = parse(event.value)
        if not wanted.words:
            self._apply(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Filter, and back to the table."""
        self._apply(event.value)
        self.query_one(RowsTable).focus()

    def _apply(self, text: str) -> None:
        self.wanted = wanted = parse(text)
        places = array("q", range(self.count))
        if wanted.tests:
            places = array("q", (place for place in places if wanted.holds(self.columns, place)))
        self._refill(places, wanted.mistake)
        if wanted.words:
            self._read(wanted.words, places)
        else:
            self.workers.cancel_group(self, "reading")

    @work(thread=True, exclusive=True, group="reading")
    def _read(self, words: str, places: array[int]) -> None:
        worker = get_current_worker()
        found = array("q")
        for number_, (place, has) in enumerate(self.source.having(words, places), 1):
            if worker.is_cancelled:
                return
            if has:
                found.append(place)
            if number_ % _TOLD_EVERY == 0:
                note = f"reading: {thousands(number_)} of {thousands(len(places))}, {thousands(len(found))} found"
                self.app.call_from_thread(self.query_one("#note", Static).update, note)
        self.app.call_from_thread(self._refill, found, f'with "{words}"')


def _or_dash(value: float, form: str) -> str:
    return "–" if math.isnan(value) else form.format(value)
