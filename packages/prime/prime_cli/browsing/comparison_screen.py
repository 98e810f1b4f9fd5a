"""Two runs, example by example: what was gained and lost, and whether chance explains the difference."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Footer, Static

from prime_cli.browsing.conversation import parts_of, raw
from prime_cli.browsing.sorted_screen import SortedScreen
from prime_cli.browsing.summary import title
from prime_cli.browsing.table import Cell, Column, Row, RowsTable
from prime_cli.browsing.text_view import TextView
from prime_cli.browsing.words import signed
from prime_evals.comparison import Comparison, Pair, compare_runs, unlike
from prime_evals.estimates import by_example
from prime_evals.rendering import number
from prime_evals.sources import OfficialRun, OwnRun

COLUMNS = (
    Column("example", 10, grows=True, sort="example"),
    Column("first", 8, right=True, sort="before"),
    Column("second", 9, right=True, sort="after"),
    Column("difference", 13, right=True, sort="difference"),
    Column("", 8, drop=1),
)
SHOWN = ("all", "changed", "gained", "lost")


def rewards(source: OwnRun | OfficialRun) -> dict[Hashable, list[float]]:
    """The rewards of the scored rollouts by example."""
    return by_example(zip(map(str, source.columns["example_id"]), source.columns["reward"], strict=True))


def told(found: Comparison) -> str:
    """The comparison in words."""
    count = len(found.pairs)
    lines = []
    estimate = found.difference
    if estimate is None:
        lines.append("The runs have no example in common that both have scored.")
    else:
        interval = "" if estimate.low is None else f"  ({signed(estimate.low)} to {signed(estimate.high)})"
        chance = "" if found.p_value is None else f", p = {_p(found.p_value)} (paired t test)"
        lines.append(f"difference  {signed(estimate.value)}{interval} over {count} common examples{chance}")
        lines.append(
            f"flips       {len(found.gained)} gained, {len(found.lost)} lost, p = {_p(found.flips_p_value)} (McNemar's test)"
        )
    alone = [(len(found.only_before), "the first"), (len(found.only_after), "the second")]
    apart = [f"{many} only in {where}" for many, where in alone if many]
    if apart:
        lines.append(f"left out    {', '.join(apart)}")
    return "\n".join(lines)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


class ComparisonScreen(SortedScreen[None]):
    """Enter opens an example in both runs."""

    COLUMNS = COLUMNS
    LARGEST_FIRST = ("before", "after", "difference")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "show", "All, changed, gained, lost"),
        Binding("s", "sort", "Sort by"),
        Binding("S", "turn", "Other way", show=False),
        Binding("x", "exchange", "Exchange"),
        Binding("escape,backspace", "dismiss", "Back"),
    ]

    def __init__(self, first: OwnRun | OfficialRun, second: OwnRun | OfficialRun) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.by, self.descending, self.kind = "difference", True, SHOWN[0]
        self.shown: list[Pair] = []
        self._compare()

    def _compare(self) -> None:
        self.found = compare_runs(rewards(self.first), rewards(self.second), self.first.about.threshold)

    def compose(self) -> ComposeResult:
        """The two names, the numbers, the table, keys."""
        yield Static("", classes="title", id="title", markup=False)
        yield Static("", classes="facts", id="facts", markup=False)
        yield Static("", classes="note", id="note", markup=False)
        yield RowsTable(COLUMNS, id="pairs", empty="No example is like that.")
        yield Footer()

    def on_mount(self) -> None:
        """Show it."""
        self.query_one(RowsTable).focus()
        self._refill()

    def on_unmount(self) -> None:
        """Let go of the files."""
        self.first.close()
        self.second.close()

    def resort(self) -> None:
        """Show the examples in the order of `by`."""
        self._refill()

    def _refill(self) -> None:
        self.query_one("#title", Static).update(
            f"first   {title(self.first.about)}\nsecond  {title(self.second.about)}"
        )
        one, two = self.first.about, self.second.about
        doubt = unlike(one.env_id, two.env_id, one.env_args, two.env_args)
        self.query_one("#facts", Static).update("\n".join(filter(None, (doubt, told(self.found)))))
        keep = {
            "all": lambda pair: True,
            "changed": lambda pair: pair.difference != 0,
            "gained": lambda pair: pair.flip > 0,
            "lost": lambda pair: pair.flip < 0,
        }[self.kind]
        self.shown = [pair for pair in self.found.pairs if keep(pair)]
        if self.by == "difference":
            self.shown.sort(key=lambda pair: pair.difference, reverse=self.descending)
        elif self.by != "example":
            self.shown.sort(key=lambda pair: getattr(pair, self.by), reverse=self.descending)
        elif self.descending:
            self.shown.reverse()
        table = self.query_one(RowsTable)
        table.order = (self.by, self.descending)
        table.show(len(self.shown), self._cells)
        self.query_one("#note", Static).update(
            f"{len(self.shown):,} of {len(self.found.pairs):,} examples: {self.kind}"
        )

    def _cells(self, row: int) -> Row:
        pair = self.shown[row]
        style = "good" if pair.difference > 0 else "bad" if pair.difference < 0 else "dim"
        flip = {1: Cell("gained", "good"), -1: Cell("lost", "bad"), 0: ""}[pair.flip]
        return (
            str(pair.example),
            number(pair.before),
            number(pair.after),
            Cell(signed(pair.difference), style),
            flip,
        )

    # What the keys do

    def on_rows_table_chosen(self, event: RowsTable.Chosen) -> None:
        """Open the example in both."""
        self.app.push_screen(BothScreen(self.first, self.second, [str(pair.example) for pair in self.shown], event.row))

    def action_show(self) -> None:
        """All examples, or some."""
        self.kind = SHOWN[(SHOWN.index(self.kind) + 1) % len(SHOWN)]
        self._refill()

    def action_exchange(self) -> None:
        """The second run becomes the first."""
        self.first, self.second = self.second, self.first
        self._compare()
        self._refill()


class BothScreen(Screen[None]):
    """The rollouts of one example in both runs, beside each other, or one at a time where the terminal is narrow."""

    DEFAULT_CSS = """
    BothScreen Horizontal { height: 1fr; }
    BothScreen TextView { width: 1fr; border-left: solid $panel; }
    BothScreen TextView:focus { border-left: solid $primary; }
    BothScreen.-narrow TextView { display: none; width: 100%; }
    BothScreen.-narrow TextView.-front { display: block; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "other", "Other run", priority=True),
        Binding("right_square_bracket,l", "step(1)", "Next"),
        Binding("left_square_bracket,h", "step(-1)", "Before"),
        Binding("o", "rollout", "Next rollout"),
        Binding("r", "raw", "Raw"),
        Binding("escape,backspace", "dismiss", "Back"),
    ]

    def __init__(
        self, first: OwnRun | OfficialRun, second: OwnRun | OfficialRun, examples: Sequence[str], at: int
    ) -> None:
        super().__init__()
        self.sources, self.examples, self.at = (first, second), examples, at
        self.rollout, self.is_raw, self.front = 0, False, 0
        self._places = [_places(source) for source in self.sources]

    def compose(self) -> ComposeResult:
        """Title, two texts, keys."""
        yield Static("", classes="title", id="title", markup=False)
        with Horizontal():
            yield TextView(id="side-0")
            yield TextView(id="side-1")
        yield Footer()

    def on_mount(self) -> None:
        """The first run in front."""
        self._bring(0)
        self._show()

    def _show(self) -> None:
        example = self.examples[self.at]
        counts = []
        for number_, source in enumerate(self.sources):
            places = self._places[number_].get(example, [])
            counts.append(len(places))
            row: dict[str, Any] = source.row(places[min(self.rollout, len(places) - 1)])
            self.query_one(f"#side-{number_}", TextView).show(
                raw(row) if self.is_raw else parts_of(row, source.about.threshold)
            )
        most = max(counts)
        rollout = f" · rollout {self.rollout + 1} of {most}" if most > 1 else ""
        self.query_one("#title", Static).update(
            f"{self.at + 1:,} of {len(self.examples):,} · example {example}{rollout}"
        )

    def _bring(self, side: int) -> None:
        self.front = side
        for number_ in (0, 1):
            view = self.query_one(f"#side-{number_}", TextView)
            view.set_class(number_ == side, "-front")
            if number_ == side:
                view.focus()

    def action_other(self) -> None:
        """The other run."""
        self._bring(1 - self.front)

    def action_step(self, by: int) -> None:
        """The next example, or the one before."""
        self.at = max(0, min(self.at + by, len(self.examples) - 1))
        self.rollout = 0
        self._show()

    def action_rollout(self) -> None:
        """The next rollout of this example in both."""
        most = max(len(places.get(self.examples[self.at], [])) for places in self._places)
        self.rollout = (self.rollout + 1) % most
        self._show()

    def action_raw(self) -> None:
        """As recorded, or to read."""
        self.is_raw = not self.is_raw
        self._show()


def _places(source: OwnRun | OfficialRun) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, example in enumerate(source.columns["example_id"]):
        found.setdefault(str(example), []).append(place)
    return found
