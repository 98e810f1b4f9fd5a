"""What was measured, as text: the tables, and the goals beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speed.cells import FEW, MANY, MOST_AT_ONCE, Cell, Load, quantile
from speed.games import GAMES, STEPS

INSTANT = "policy"  # the model inside the process, as official/compare.py calls it
LEAST_RATIO = 0.70
MOST_LAG_MS = 100.0
LEAST_TIMES = {FEW: 50.0, MANY: 150.0}

COLUMNS: list[tuple[str, Callable[[Cell], str]]] = [
    ("game", lambda cell: cell.game),
    ("rollouts", lambda cell: str(cell.rollouts)),
    ("at once", lambda cell: str(cell.concurrency)),
    ("rounds", lambda cell: str(len(cell.ours))),
    ("bare rollouts/s", lambda cell: _figure(cell.rate(cell.bare))),
    ("ours rollouts/s", lambda cell: _figure(cell.rate(cell.ours))),
    ("bare steps/s", lambda cell: f"{cell.rate(cell.bare) * STEPS:.0f}"),
    ("ours steps/s", lambda cell: f"{cell.rate(cell.ours) * STEPS:.0f}"),
    ("ours/bare", lambda cell: f"{cell.ratio:.2f}"),
    ("of each round", lambda cell: f"{cell.ratios[0]:.2f}-{cell.ratios[-1]:.2f}"),
    ("bare CPU us/step", lambda cell: f"{cell.cpu(cell.bare):.0f}"),
    ("ours CPU us/step", lambda cell: f"{cell.cpu(cell.ours):.0f}"),
]
NOTES = f"""\
Rollouts are of {STEPS} steps, every one checked for its score. bare: a loop on `websockets`, a connection an episode, by TCP, plain
asyncio.run. ours: OpenEnvEnv with a model inside the process that answers at once, by the loop of vf-eval and evaluate_sync. Both on
the same running server, in turn; medians of the rounds. of each round: the lowest and highest ours/bare of a single round.
CPU: of the client's process alone; wall time also holds the server's share, where it is the slower one."""


@dataclass(frozen=True)
class Goal:
    """What is wanted and what was measured."""

    wanted: str
    measured: str
    met: bool

    def __str__(self) -> str:
        return f"{'met' if self.met else 'not met':>7}  {self.wanted}: {self.measured}"


def warm_table(cells: Sequence[Cell], servers: Mapping[str, Mapping[str, Any]]) -> str:
    """The warm comparison."""
    ways = {True: "by unix socket", False: "by TCP"}
    games = [
        f"{name}: {GAMES[name].title}; ours {ways[bool(server['unix_socket'])]}" for name, server in servers.items()
    ]
    lines = [[heading for heading, _ in COLUMNS], *([show(cell) for _, show in COLUMNS] for cell in cells)]
    return "\n".join([*aligned(lines), "", *games, NOTES])


def load_table(load: Load) -> str:
    """The event loop's lateness, and memory."""
    first, few, many = load.peaks
    lines = [["ms", "p50", "p99", "highest", "rollouts/s"], ["idle", *_spread(load.idle_ms), ""]]
    for number, (seconds, lags) in enumerate(zip(load.seconds, load.lags_ms, strict=True), 1):
        lines.append([f"round {number}", *_spread(lags), _figure(MANY / seconds)])
    return "\n".join(
        [
            f"gym, {MANY} rollouts, {MOST_AT_ONCE} at once, in one process",
            "How late a task woke that sleeps 5 ms again and again, before with nothing to do and while they were played:",
            *aligned(lines),
            f"Highest memory of the process: {first:.0f} MiB after its first rollout, {few:.0f} after {FEW} more, "
            f"{many:.0f} after {MANY} more: {load.growth_kib:.1f} KiB for each further rollout.",
        ]
    )


def warm_goals(cells: Sequence[Cell], load: Load | None) -> list[Goal]:
    """The goals of the warm comparison and of the load."""
    goals = []
    at_32 = [cell for cell in cells if cell.game == "gym" and cell.concurrency == 32]
    if at_32:
        cell = max(at_32, key=lambda cell: cell.rollouts)
        wanted = f"at least {LEAST_RATIO:.0%} of the bare loop's steps/s at 32 sessions (gym, {cell.rollouts} rollouts)"
        goals.append(Goal(wanted, f"{cell.ratio:.0%}", cell.ratio >= LEAST_RATIO))
    if load is not None:
        wanted = f"event loop late by less than {MOST_LAG_MS:.0f} ms (p99) with {MOST_AT_ONCE} rollouts at once"
        goals.append(Goal(wanted, f"{load.late_ms:.1f} ms", load.late_ms < MOST_LAG_MS))
    return goals


def official_goals(rows: Sequence[Mapping[str, Any]]) -> list[Goal]:
    """The goals against the official client; `rows` are those of official/compare.py --json.

    Cold: our rate from constructing the environment, start of servers included, by the rate at which the official
    client plays once it is constructed, both with a model inside the process. A model behind HTTP has rows, and no goal:
    they show what a call through the `openai` package costs, which is the same for every environment.
    """
    goals = []
    theirs = [row["play_rate"] for row in rows if row["client"] == "official" and row["model"] == INSTANT]
    for row in rows:
        if theirs and row["client"] == "ours" and row["model"] == INSTANT and row["rollouts"] in LEAST_TIMES:
            least, times = LEAST_TIMES[row["rollouts"]], row["cold_rate"] / max(theirs)
            wanted = f"{row['rollouts']} rollouts from cold at {least:.0f}x the official rate or more, instant model"
            shown = f"{times:.0f}x ({_figure(row['cold_rate'])} by {_figure(max(theirs))} rollouts/s)"
            goals.append(Goal(wanted, shown, times >= least))
    return goals


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines]


def _spread(values: Sequence[float]) -> list[str]:
    return [f"{value:.1f}" for value in (quantile(values, 0.5), quantile(values, 0.99), max(values))]


def _figure(rate: float) -> str:
    return f"{rate:.2f}" if rate < 10 else f"{rate:.0f}"
