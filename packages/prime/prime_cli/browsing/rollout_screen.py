"""One rollout: the conversation, with what it was scored; raw JSON; the attempts before; search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from prime_cli.browsing.conversation import parts_of, raw
from prime_cli.browsing.text_view import Part, TextView
from prime_evals.sources import OfficialRun, OwnRun


class RolloutScreen(Screen[int]):
    """Shows the rollouts of `places`, beginning with number `at`; gives the number that was shown last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket,l", "step(1)", "Next"),
        Binding("left_square_bracket,h", "step(-1)", "Before"),
        Binding("slash", "search", "Search"),
        Binding("n", "found(1)", "Next found", show=False),
        Binding("N", "found(-1)", "Found before", show=False),
        Binding("r", "raw", "Raw"),
        Binding("a", "everything", "Show all", show=False),
        Binding("t", "attempt", "Attempts"),
        Binding("y", "copy", "Copy", show=False),
        Binding("escape,backspace", "back", "Back"),
    ]

    def __init__(self, source: OwnRun | OfficialRun, places: Sequence[int], at: int, words: str = "") -> None:
        super().__init__()
        self.source, self.places, self.at, self.words = source, places, at, words
        self.is_raw = self.is_whole = False
        self.rows: list[dict[str, Any]] = []
        self.number = 0

    def compose(self) -> ComposeResult:
        """Title, text, search, keys."""
        yield Static("", classes="title", id="title", markup=False)
        yield TextView(id="text")
        yield Input(placeholder="search in this rollout", classes="entry", id="search")
        yield Footer()

    def on_mount(self) -> None:
        """The first one; what led here is marked."""
        self.query_one(TextView).focus()
        self.query_one(TextView).term = self.words
        self._open()
        if self.words:
            self.call_after_refresh(self.action_found, 1)

    def _open(self) -> None:
        place = self.places[self.at]
        self.rows = self.source.attempts(place) or [self.source.row(place)]
        self.number = len(self.rows) - 1
        self.is_whole = False
        self._show()

    def _show(self) -> None:
        self.query_one(TextView).show(self.parts(self.rows[self.number]))
        self._entitle()

    def parts(self, row: Mapping[str, Any]) -> list[Part]:
        """What is to be read of a row."""
        return raw(row) if self.is_raw else parts_of(row, self.source.about.threshold, self.is_whole)

    def _entitle(self, note: str = "") -> None:
        told = [f"{self.at + 1:,} of {len(self.places):,}"]
        if len(self.rows) > 1:
            told.append(f"attempt {self.number + 1} of {len(self.rows)}")
        if self.is_raw:
            told.append("raw")
        if note:
            told.append(note)
        self.query_one("#title", Static).update(" · ".join(told))

    # What the keys do

    def action_step(self, by: int) -> None:
        """The next rollout of the table, or the one before."""
        at = max(0, min(self.at + by, len(self.places) - 1))
        if at != self.at:
            self.at = at
            self._open()

    def action_raw(self) -> None:
        """The row as it is recorded, or the conversation again."""
        self.is_raw = not self.is_raw
        self._show()

    def action_everything(self) -> None:
        """Long messages in full."""
        self.is_whole = True
        self._show()

    def action_attempt(self) -> None:
        """The attempt before the one that is shown; after the first the last one again."""
        if len(self.rows) == 1:
            self.notify("There was one attempt at this rollout.")
            return
        self.number = (self.number - 1) % len(self.rows)
        self._show()

    def action_copy(self) -> None:
        """The row as JSON into the terminal's clipboard."""
        import json

        self.app.copy_to_clipboard(json.dumps(self.rows[self.number], ensure_ascii=False, indent=2))
        self.notify("The rollout's JSON is in the clipboard, where the terminal allows that.")

    def action_search(self) -> None:
        """Type what to look for."""
        entry = self.query_one("#search", Input)
        entry.add_class("-shown")
        entry.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Mark it as it is typed."""
        count = self.query_one(TextView).search(event.value)
        self._entitle(f"{count} lines" if event.value else "")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """To the first one."""
        self.query_one(TextView).focus()
        self.action_found(1)

    def action_found(self, by: int) -> None:
        """The next place, or the one before."""
        view = self.query_one(TextView)
        at = view.next_found(by)
        if view.term:
            self._entitle(f"{at} of {len(view.found)} lines" if at else f'no "{view.term}" here')

    def action_back(self) -> None:
        """Out of the search, else to the table."""
        entry = self.query_one("#search", Input)
        if entry.has_focus or entry.has_class("-shown"):
            entry.value = ""
            entry.remove_class("-shown")
            self.query_one(TextView).focus()
            self._entitle()
        else:
            self.dismiss(self.at)
