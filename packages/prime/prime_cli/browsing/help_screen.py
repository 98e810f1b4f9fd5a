"""The keys of the screen below."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from prime_cli.browsing.run_screen import RunScreen
from prime_cli.browsing.wanted import HELP

_OF_THE_FRAME = frozenset(
    {
        "scroll_left",
        "scroll_right",
        "page_left",
        "page_right",
        "app.focus_next",
        "app.focus_previous",
        "screen.copy_text",
    }
)


class HelpScreen(ModalScreen[None]):
    """Any key closes it."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > Static { width: auto; max-width: 90%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
        border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "close", "Close")]

    def __init__(self, below: Screen) -> None:
        super().__init__()
        self._below = below

    def compose(self) -> ComposeResult:
        """One line a key."""
        lines: dict[str, str] = {}
        for active in self._below.active_bindings.values():
            binding = active.binding
            ours = binding.action.partition("(")[0] not in _OF_THE_FRAME
            if binding.description and not binding.system and ours:
                known = lines.get(binding.description)
                key = self.app.get_key_display(binding)
                lines[binding.description] = f"{known} {key}" if known else key
        width = max(map(len, lines.values()))
        told = [f"{keys:<{width}}  {what}" for what, keys in lines.items()]
        if isinstance(self._below, RunScreen):
            told += ["", "In a filter:", *(f"  {part}" for part in HELP.split(" · "))]
        yield Static("\n".join(told), markup=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss()
