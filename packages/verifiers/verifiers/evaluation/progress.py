"""How a run shows that it moves: one live line on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from typing import Any, Self, TextIO

from verifiers.evaluation.report import number, one_line
from verifiers.evaluation.runner import Progress
from verifiers.types import RolloutOutput

SECONDS_BETWEEN_LINES = 5.0


def line(progress: Progress) -> str:
    """Where the run stands, in one line."""
    mean = progress.reward_sum / progress.scored if progress.scored else None
    parts = [
        f"{progress.finished}/{progress.total} rollouts",
        f"reward {number(mean)}",
        f"{min(progress.running, progress.total - progress.finished)} running",
    ]
    if progress.errors:
        parts.append(f"{progress.errors} with errors")
    if progress.retries:
        parts.append(f"{progress.retries} retried")
    if progress.request_retries:
        again = "1 request" if progress.request_retries == 1 else f"{progress.request_retries} requests"
        parts.append(f"{again} asked again ({one_line(progress.last_request_retry)})")
    if progress.resumed:
        parts.append(f"{progress.resumed} from before")
    return ", ".join(parts)


class PlainView:
    """A line every few seconds, and one at the end."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.shown_at = time.monotonic()
        self.last: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.last is not None:
            self._show(self.last)

    def __call__(self, progress: Progress, new: list[RolloutOutput]) -> None:
        self.last = progress
        if time.monotonic() - self.shown_at >= SECONDS_BETWEEN_LINES:
            self._show(progress)

    def _show(self, progress: Progress) -> None:
        self.shown_at = time.monotonic()
        print(line(progress), file=self.stream, flush=True)


class LiveView:
    """One line that changes in place and is gone at the end."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._live = Live(console=Console(file=stream), transient=True, refresh_per_second=8, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, progress: Progress, new: list[RolloutOutput]) -> None:
        self._live.update(self._text(line(progress), no_wrap=True, overflow="ellipsis"))


def view(stream: TextIO | None = None) -> Any:
    """The view that fits `stream` (stderr)."""
    out = sys.stderr if stream is None else stream
    return LiveView(out) if out.isatty() else PlainView(out)
