"""How a run shows that it moves: a live view on a terminal, plain lines elsewhere. Everything goes to stderr.

Both look at the run from a thread of their own, so that they move also while the run does not, and can say why.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, TextIO

from verifiers.evaluation.standing import (
    SLOW_AFTER_SECONDS,
    Watched,
    busy,
    doings,
    line,
    pace,
    reward,
    slow,
    stuck,
    troubles,
    used,
)

if TYPE_CHECKING:
    from rich.text import Text

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_EQUAL_LINES = 30.0
FRAMES_A_SECOND = 4
BLOCKED_AFTER_SECONDS = 10.0
_WIDEST_BAR = 30
_NARROWEST_WITH_BAR = 60


class _Pulse:
    """How long the event loop of whoever made this has not come round. Asked from another thread."""

    def __init__(self) -> None:
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._answered = time.monotonic()
        self._asked = False

    def blocked(self, now: float) -> float:
        """Seconds since the loop last answered, and ask it again."""
        waited = now - self._answered if self._asked else 0.0
        if not self._asked and self._loop is not None and not self._loop.is_closed():
            self._asked, self._answered = True, now
            self._loop.call_soon_threadsafe(self._answer)
        return waited

    def _answer(self) -> None:
        self._asked, self._answered = False, time.monotonic()


class PlainView:
    """A line every few seconds when something has happened, one now and then when nothing has, and one at the end."""

    def __init__(self, runs: Sequence[Watched], stream: TextIO) -> None:
        self.runs, self.stream = runs, stream
        self._pulse, self._began = _Pulse(), time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._said: dict[int, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for number, run in enumerate(self.runs):
            if self._said.get(number, (0.0, -1))[1] != run.progress.finished or not run.progress.finished:
                self._say(run, number)

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            now = time.monotonic()
            self.look(now)
            if (blocked := self._pulse.blocked(now)) > BLOCKED_AFTER_SECONDS and round(blocked) % 30 < 1:
                self._print(busy(blocked))

    def look(self, now: float) -> None:
        """Say what there is to say at the time `now` (monotonic)."""
        for number, run in enumerate(list(self.runs)):
            at, finished = self._said.get(number, (self._began, 0))
            rest = SECONDS_BETWEEN_LINES if run.progress.finished != finished else SECONDS_BETWEEN_EQUAL_LINES
            unfinished = run.progress.running or run.progress.finished != finished
            if unfinished and now - at >= rest:
                self._say(run, number, now)

    def _say(self, run: Watched, number: int, now: float | None = None) -> None:
        self._said[number] = (time.monotonic() if now is None else now, run.progress.finished)
        self._print(f"{run.name}: {line(run, now)}" if len(self.runs) > 1 else line(run, now))

    def _print(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class LiveView:
    """A few lines for every environment that change in place and are gone at the end."""

    def __init__(self, runs: Sequence[Watched], stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self.runs = runs
        self._pulse = _Pulse()
        self._console = Console(file=stream)
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            transient=True,
            refresh_per_second=FRAMES_A_SECOND,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _frame(self) -> Text:
        from rich.text import Text

        now = time.monotonic()
        size = self._console.size
        shown = frame(list(self.runs), size.width, size.height, now, ascii_only=self._console.options.ascii_only)
        if (blocked := self._pulse.blocked(now)) > BLOCKED_AFTER_SECONDS:
            shown += [Text(part, "yellow") for part in _flow([busy(blocked)], size.width, "  ")]
        return Text("\n", no_wrap=True, overflow="crop").join(shown)


def frame(runs: Sequence[Watched], width: int, height: int, now: float, *, ascii_only: bool = False) -> list[Text]:
    """The lines of the live view: none wider than `width`, no more than fit into `height`."""
    whole = [_run(run, width, now, ascii_only) for run in runs]
    room = max(1, height - 2)
    if sum(map(len, whole)) <= room:
        return [part for lines in whole for part in lines]
    if len(runs) == 1:
        return whole[0][:room]
    # Too many: one line each, those that play first.
    order = sorted(range(len(runs)), key=lambda index: not runs[index].progress.running)
    first = [whole[index][0] for index in order]
    if len(first) <= room:
        return first
    from rich.text import Text

    return [*first[: room - 1], Text(f"… and {len(first) - room + 1} more environments"[:width], "dim")]


def _run(run: Watched, width: int, now: float, ascii_only: bool) -> list[Text]:
    from rich.text import Text

    progress = run.progress
    count = f"{progress.finished:,}/{progress.total:,}"
    share = progress.finished / progress.total if progress.total else 1.0
    long = min(_WIDEST_BAR, width - len(run.name) - len(count) - 32) if width >= _NARROWEST_WITH_BAR else 0
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f"{run.name}  ", "bold")
    if long >= 8:
        full = round(share * long)
        dash = ("#", ".") if ascii_only else ("━", "━")
        head.append(dash[0] * full, "green")
        head.append(dash[1] * (long - full) + "  ", "bright_black")
    head.append(f"{count}  ")
    head.append(reward(progress), "cyan")
    head.truncate(width, overflow="ellipsis")
    still = stuck(run, now)
    said = (
        ([*pace(progress, now), *used(progress)], ""),
        (doings(run), "dim"),
        (troubles(run), "yellow" if progress.errors else "dim"),
        ([f"slow: {part}" for part in slow(run, now, SLOW_AFTER_SECONDS)], "yellow"),
        ([still] if still else [], "bold yellow"),
    )
    return [head, *(Text(text, style) for parts, style in said for text in _flow(parts, width, "  "))]


def _flow(parts: Sequence[str], width: int, indent: str) -> list[str]:
    """The parts side by side as long as they fit; one that is too long alone is broken between words."""
    import textwrap

    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(
                part, max(8, width), initial_indent=indent, subsequent_indent=indent * 2, break_on_hyphens=False
            ) or [indent]
    return lines


def view(runs: Sequence[Watched], stream: TextIO | None = None) -> LiveView | PlainView:
    """The view that fits `stream` (stderr). `runs` may grow while it is shown."""
    out = sys.stderr if stream is None else stream
    return LiveView(runs, out) if out.isatty() else PlainView(runs, out)
