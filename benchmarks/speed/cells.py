"""The warm comparison: the same episodes on the same server, the bare loop and ours in turn."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from official.scratch import Failed, Scratch, scratch

from speed.cli import tell
from speed.games import GAMES, STEPS, Game
from speed.players import Process, bare_player, our_player

MANY, MOST_AT_ONCE = 2000, 256
FEW = 200
IDLE_SECONDS = 2.0


@dataclass(frozen=True)
class Side:
    """One measurement of one client."""

    seconds: float
    cpu_seconds: float


@dataclass
class Cell:
    """So many rollouts of a game, so many at once, played by both, once a round, in the first round alone if `once`."""

    game: str
    rollouts: int
    concurrency: int
    once: bool = False
    bare: list[Side] = field(default_factory=list)
    ours: list[Side] = field(default_factory=list)

    def rate(self, sides: Sequence[Side]) -> float:
        """Rollouts a second, median of the rounds."""
        return self.rollouts / statistics.median(side.seconds for side in sides)

    def cpu(self, sides: Sequence[Side]) -> float:
        """Microseconds of the client's processor for a step, median of the rounds."""
        return statistics.median(side.cpu_seconds for side in sides) / (self.rollouts * STEPS) * 1e6

    @property
    def ratio(self) -> float:
        """Our rate by that of the bare loop."""
        return self.rate(self.ours) / self.rate(self.bare)

    @property
    def ratios(self) -> list[float]:
        """The same of every round by itself, lowest first."""
        return sorted(bare.seconds / ours.seconds for bare, ours in zip(self.bare, self.ours, strict=True))


@dataclass(frozen=True)
class Load:
    """2,000 rollouts in one process, 256 at once, once a round: seconds, how late its event loop was (milliseconds), and
    its memory (MiB).

    `peaks` are the most it had after its first rollout, after 200 further ones, and after the first 2,000. `idle_ms` is
    the lateness of the same loop with nothing to do: what the machine adds by itself.
    """

    seconds: list[float]
    lags_ms: list[list[float]]
    idle_ms: list[float]
    peaks: tuple[float, float, float]

    @property
    def late_ms(self) -> float:
        """The 99th percentile of the lateness, median of the rounds."""
        return statistics.median(quantile(lags, 0.99) for lags in self.lags_ms)

    @property
    def growth_kib(self) -> float:
        """KiB for each further rollout between 200 and 2,000: what is kept of it, its output above all."""
        return (self.peaks[2] - self.peaks[1]) * 1024 / (MANY - FEW)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def chosen_cells(*, quick: bool, full: bool) -> list[Cell]:
    """What is measured."""
    if quick:
        return [Cell("gym", 5, 1), Cell("gym", 200, 8), Cell("gym", 200, 32), Cell("mcp", 40, 8)]
    cells = []
    for game in GAMES:
        for rollouts in (5, FEW, MANY):
            for concurrency in (1, 8, 32, MOST_AT_ONCE):
                slow = game == "mcp" and rollouts == MANY  # minutes, all of them the server's
                if concurrency <= rollouts and (full or not slow):
                    cells.append(Cell(game, rollouts, concurrency, once=slow))
    return cells


@contextlib.contextmanager
def place(games: Sequence[str]) -> Iterator[Scratch]:
    """A scratch Hub with the images of these games."""
    by_folder = {GAMES[name].project.name: GAMES[name] for name in games}

    def prepare(folder: Path) -> None:
        by_folder[folder.name].prepare(folder)

    tell(f"Building {' and '.join(games)} in a Hub of its own ...")
    with scratch([game.project for game in by_folder.values()], prepare) as found:
        yield found


def measure(where: Scratch, cells: Sequence[Cell], rounds: int) -> dict[str, dict[str, Any]]:
    """Play every cell `rounds` times; what is said of the server of each game."""
    servers = {}
    for game in dict.fromkeys(cell.game for cell in cells):
        with (
            our_player(where, GAMES[game]) as (ours, server),
            bare_player(where, GAMES[game], server["url"]) as bare,
        ):
            servers[game] = server
            for number in range(rounds):
                for cell in cells:
                    if cell.game == game and not (cell.once and number):
                        tell(f"{game}, {cell.rollouts} rollouts, {cell.concurrency} at once, round {number + 1} ...")
                        _take_turns(cell, bare, ours, bare_first=number % 2 == 0)
    return servers


def _take_turns(cell: Cell, bare: Process, ours: Process, *, bare_first: bool) -> None:
    totals = []
    for player, sides in ((bare, cell.bare), (ours, cell.ours))[:: 1 if bare_first else -1]:
        answer = player.ask(rollouts=cell.rollouts, concurrency=cell.concurrency)
        sides.append(Side(answer["seconds"], answer["cpu_seconds"]))
        totals.append(answer["total"])
        if answer.get("servers", 1) != 1:
            raise Failed(f"Ours played on {answer['servers']} servers, the bare loop on one: nothing to compare.")
    if not math.isclose(*totals, abs_tol=1e-6):
        raise Failed(f"The two clients did not get the same rewards for the same episodes: {totals} ({cell.game}).")


def load(where: Scratch, game: Game, rounds: int) -> Load:
    """Play the load in a process that has played one rollout only."""
    with our_player(where, game) as (player, server):
        idle = player.ask(idle=IDLE_SECONDS)
        few = player.ask(rollouts=FEW, concurrency=MOST_AT_ONCE)
        played = []
        for number in range(rounds):
            tell(
                f"{game.name}, {MANY} rollouts, {MOST_AT_ONCE} at once, the event loop watched, round {number + 1} ..."
            )
            played.append(player.ask(rollouts=MANY, concurrency=MOST_AT_ONCE, lag=True))
    peaks = (server["peak_mib"], few["peak_mib"], played[0]["peak_mib"])
    return Load([run["seconds"] for run in played], [run["lag_ms"] for run in played], idle["lag_ms"], peaks)
