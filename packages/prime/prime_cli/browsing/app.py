"""The browser's program: `prime eval tui`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from prime_evals.sources import is_run, open_source


class Browser(App[None]):
    """Starts with the runs at and under `places`; with the run itself where the one place is a run."""

    TITLE = "prime eval"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("question_mark", "help", "Keys"),
        Binding("d", "dark", "Dark or light", show=False),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]
    CSS = """
    .title { height: auto; padding: 0 1; text-style: bold; background: $primary-background; color: $text; }
    .facts { height: auto; padding: 0 1; color: $text; }
    .note { height: auto; padding: 0 1; color: $text-muted; }
    .entry { height: 3; display: none; }
    .entry.-shown { display: block; }
    """

    def __init__(self, places: Sequence[Path]) -> None:
        super().__init__()
        self.places = places

    def on_mount(self) -> None:
        """The first screen."""
        from prime_cli.browsing.runs_screen import RunsScreen

        # A run that was named alone is on top before the list below it is ever seen.
        self.push_screen(RunsScreen(self.places))
        if len(self.places) == 1 and is_run(self.places[0]):
            self.open_run(self.places[0])

    def open_run(self, directory: Path) -> None:
        """Show one run, or say why it cannot be shown."""
        from prime_cli.browsing.run_screen import RunScreen
        from prime_evals import EvalsError

        try:
            source = open_source(directory)
        except (EvalsError, OSError) as error:
            self.notify(str(error), severity="error", timeout=10, markup=False)
            return
        self.push_screen(RunScreen(source))

    def compare(self, one: Path, two: Path) -> None:
        """Show two runs side by side."""
        from prime_cli.browsing.comparison_screen import ComparisonScreen
        from prime_evals import EvalsError

        try:
            first, second = open_source(one), open_source(two)
        except (EvalsError, OSError) as error:
            self.notify(str(error), severity="error", timeout=10, markup=False)
            return
        self.push_screen(ComparisonScreen(first, second))

    def action_help(self) -> None:
        """All keys of what is on the screen."""
        from prime_cli.browsing.help_screen import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_dark(self) -> None:
        """The other kind of colours."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"
