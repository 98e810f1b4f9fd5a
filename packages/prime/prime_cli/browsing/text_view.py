"""Long text to read: wrapped to the width, searched, and drawn only where it is in sight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from prime_cli.browsing.words import visible

KINDS = ("plain", "head", "system", "user", "assistant", "tool", "call", "good", "bad", "dim")


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of text of one kind (of KINDS), moved in by `indent` cells."""

    text: str
    kind: str = "plain"
    indent: int = 0


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, broken between words where that is possible."""
    lines: list[str] = []
    for line in visible(text.replace("\r\n", "\n").replace("\t", "    ")).split("\n"):
        if len(line) * 2 <= width or cell_len(line) <= width:
            lines.append(line)
            continue
        current = ""
        for word in re.findall(r"\s+|\S+", line):
            if cell_len(current) + cell_len(word) <= width:
                current += word
            elif word.isspace():
                lines.append(current)
                current = ""
            else:
                if current.strip():
                    lines.append(current.rstrip())
                    current = ""
                *whole, current = chop_cells(current + word, width)
                lines += whole
        lines.append(current)
    return lines


class TextView(ScrollView, can_focus=True):
    """Shows parts; `search` finds and marks."""

    DEFAULT_CSS = """
    TextView { height: 1fr; overflow-x: hidden; padding: 0 1; }
    TextView > .text--plain { color: $text; }
    TextView > .text--head { text-style: bold; color: $text-muted; }
    TextView > .text--system { color: $text-muted; text-style: bold; }
    TextView > .text--user { color: $text-primary; text-style: bold; }
    TextView > .text--assistant { color: $text-success; text-style: bold; }
    TextView > .text--tool { color: $text-warning; text-style: bold; }
    TextView > .text--call { color: $text-accent; }
    TextView > .text--good { color: $text-success; }
    TextView > .text--bad { color: $text-error; }
    TextView > .text--dim { color: $text-muted; }
    TextView > .text--found { background: $warning; color: $background; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"text--{kind}" for kind in (*KINDS, "found")}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", "Up", show=False),
        Binding("down,j", "by(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,space,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "to(0)", "Top", show=False),
        Binding("end,G", "to(1)", "Bottom", show=False),
        Binding("right", "screen.step(1)", "Next", show=False),
        Binding("left", "screen.step(-1)", "Before", show=False),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.parts: Sequence[Part] = ()
        self.lines: list[tuple[str, str, int]] = []
        self.term = ""
        self.found: list[int] = []
        self.at = -1
        self._width = 0

    def show(self, parts: Sequence[Part]) -> None:
        """Show other text, from its beginning."""
        self.parts = parts
        self._wrap()
        self.scroll_to(y=0, animate=False)

    def _wrap(self) -> None:
        self._width = width = max(10, self.scrollable_content_region.width)
        self.lines = [
            (line, part.kind, part.indent)
            for part in self.parts
            for line in wrap(part.text, max(8, width - part.indent))
        ]
        self.virtual_size = Size(width, len(self.lines))
        self.search(self.term)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Wrapped anew for another width."""
        if self.parts and max(10, self.scrollable_content_region.width) != self._width:
            self._wrap()

    def search(self, term: str) -> int:
        """Mark `term`, in whatever case; how many lines have it."""
        self.term = term
        wanted = term.casefold()
        self.found = [i for i, (text, _, _) in enumerate(self.lines) if wanted in text.casefold()] if term else []
        self.at = -1
        self.refresh()
        return len(self.found)

    def next_found(self, by: int = 1) -> int:
        """Go to the next, or with -1 the one before; its number, counted from 1, 0 where there is none."""
        if not self.found:
            return 0
        self.at = (self.at + by) % len(self.found) if self.at >= 0 else (0 if by > 0 else len(self.found) - 1)
        self.scroll_to(y=max(0, self.found[self.at] - self.size.height // 3), animate=False)
        self.refresh()
        return self.at + 1

    def render_line(self, y: int) -> Strip:
        """One wrapped line."""
        number = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        base = self.get_component_rich_style("text--plain")
        if number >= len(self.lines):
            return Strip.blank(width, base)
        text, kind, indent = self.lines[number]
        style = self.get_component_rich_style(f"text--{kind}")
        segments = [Segment(" " * indent, base)] if indent else []
        if self.term and number in self._marked():
            marked = self.get_component_rich_style("text--found")
            # Where lower and upper case differ in length the places would not fit.
            low = text.lower()
            parts = _split(text, low if len(low) == len(text) else text, self.term.lower())
            segments += [Segment(part, marked if hit else style) for part, hit in parts]
        else:
            segments.append(Segment(text, style))
        return Strip(segments).adjust_cell_length(width, base)

    def _marked(self) -> set[int]:
        return set(self.found) if len(self.found) < 1000 else set(range(len(self.lines)))

    def action_by(self, lines: int) -> None:
        """Some lines on."""
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False)

    def action_page(self, by: int) -> None:
        """One screen on."""
        self.scroll_to(y=self.scroll_offset.y + by * max(1, self.size.height - 1), animate=False)

    def action_to(self, end: int) -> None:
        """To the top or the bottom."""
        self.scroll_to(y=len(self.lines) if end else 0, animate=False)


def _split(text: str, low: str, term: str) -> list[tuple[str, bool]]:
    parts, at = [], 0
    while term and (hit := low.find(term, at)) >= 0:
        parts += [(text[at:hit], False), (text[hit : hit + len(term)], True)]
        at = hit + len(term)
    return [part for part in [*parts, (text[at:], False)] if part[0]]
