"""What a rollout costs beside its model: time, memory, lateness of the loop, imports and size, beside the official library."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from official.scratch import Failed
from overhead.places import Place, places
from speed.cells import quantile
from speed.cli import count, end_by_signals, tell
from speed.report import Goal, aligned

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "library_results.md"
LIMIT_SECONDS = 600
AT_ONCE = 32
TURNS, MORE_TURNS, TOOL_TURNS = 51, 510, 6
IMPORTS = {
    "import verifiers": "import verifiers as vf",
    "and the first environment class": "import verifiers as vf; vf.SingleTurnEnv",
}
MORE = """\
Both libraries play the same file, benchmarks/overhead/plays.py, each in a virtual environment of a base install, the official one
verifiers 0.1.14; in turn, a process of its own for every round. The model is an object in the process that answers at once.
"""


@dataclass
class Scene:
    """What is played by both, and every round's report by name of the side."""

    title: str
    options: list[str]
    rollouts: int
    turns: int = 1
    at_once: int = AT_ONCE
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def ms(self, side: str, per: int = 1) -> float:
        """Milliseconds a rollout, or of each of `per` parts of one; median of the rounds."""
        return median(report["seconds"] for report in self.reports[side]) / self.rollouts / per * 1000

    def late(self, side: str) -> float:
        """The 99th percentile of how late the loop was, milliseconds; median of the rounds."""
        return median(quantile(report["late_ms"] or [0.0], 0.99) for report in self.reports[side])

    def peak(self, side: str) -> float:
        """The most memory of the process, MiB; median of the rounds."""
        return median(report["peak_mib"] for report in self.reports[side])

    def row(self) -> list[str]:
        """The scene's line of the table."""
        theirs, ours = self.ms("official"), self.ms("ours")
        cells = [self.title, str(self.at_once), f"{theirs:.3f}", f"{ours:.3f}"]
        cells += [f"{self.ms(side, self.turns):.4f}" for side in ("official", "ours")]
        cells += [f"{ours / theirs:.2f}"]
        cells += [f"{self.late(side):.0f}" for side in ("official", "ours")]
        return [*cells, *(f"{self.peak(side):.0f}" for side in ("official", "ours"))]


HEADINGS = ["rollouts", "at once", "official ms", "ours ms", "official ms/turn", "ours ms/turn", "ours/official"]
HEADINGS += ["official late ms", "ours late ms", "official MiB", "ours MiB"]
NOTES = """\
late: how late a task woke that sleeps 5 ms again and again (99th percentile). MiB: the most the process had."""


def scenes(scale: float) -> list[Scene]:
    """What is measured, smaller or larger by `scale`."""

    def many(rollouts: int) -> int:
        return max(20, round(rollouts * scale))

    turns, more = ["--turns", str(TURNS)], ["--turns", str(MORE_TURNS)]
    return [
        Scene("single-turn", [], many(2000)),
        Scene(f"{TURNS} turns", turns, many(200), TURNS),
        Scene(f"{MORE_TURNS} turns", more, many(20), MORE_TURNS, at_once=8),
        Scene(f"{TOOL_TURNS} tool turns", ["--tool-turns", str(TOOL_TURNS)], many(400), TOOL_TURNS + 1),
        Scene("single-turn, many", [], many(10_000), at_once=512),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench library",
        description=__doc__,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=3, help="of everything, in turn (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rollouts (default: %(default)s)")
    parser.add_argument("--record", action="store_true", help=f"write the tables into benchmarks/{RESULTS.name}")
    chosen = parser.parse_args()
    end_by_signals()
    try:
        return _run(chosen)
    except Failed as error:
        print(f"benchmarks/library: {error}", file=sys.stderr)
        return 1


def _run(chosen: argparse.Namespace) -> int:
    both = places()
    before = os.getloadavg()[0]
    played = scenes(chosen.scale)
    imports: dict[tuple[str, str], list[float]] = {}
    for number in range(chosen.rounds):
        tell(f"Round {number + 1} of {chosen.rounds} ...")
        for scene in played:
            for place in both if number % 2 == 0 else reversed(both):
                scene.reports.setdefault(place.name, []).append(_play(place, scene))
        for place in both:
            for what, code in IMPORTS.items():
                took = [_timed(place, code) - _timed(place, "pass") for _ in range(3)]
                imports.setdefault((place.name, what), []).append(min(took))
    theirs, ours = both
    table = [["base install", "official", "ours", "ours/official"]]
    table.append(["MiB", f"{theirs.mib:.0f}", f"{ours.mib:.0f}", f"{ours.mib / theirs.mib:.3f}"])
    table.append(["distributions", str(theirs.distributions), str(ours.distributions), ""])
    for what in IMPORTS:
        seconds = [median(imports[place.name, what]) for place in both]
        table.append([f"{what}, s", *(f"{one:.2f}" for one in seconds), f"{seconds[1] / seconds[0]:.2f}"])
    title = f"{os.cpu_count()} cores, rounds: {chosen.rounds}, load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    text = [title, "", *aligned([HEADINGS, *(scene.row() for scene in played)]), "", NOTES, "", *aligned(table), ""]
    goals = _goals(played, both, median(imports["ours", "and the first environment class"]))
    text += map(str, goals)
    print("\n".join(text), flush=True)
    if chosen.record:
        RESULTS.write_text(
            "# The environment library beside the official one\n\nWritten by `script/bench library --record`. Ratios of one run can be "
            "compared, times of two machines cannot.\n\n```\n" + "\n".join(line.rstrip() for line in text) + "\n```\n"
        )
    return 0 if all(_right(scene) for scene in played) else 1


def _goals(played: Sequence[Scene], both: Sequence[Place], imported: float) -> list[Goal]:
    single, some, more, tools, _ = played
    goals = []
    for scene in (single, some, tools):
        ratio = scene.ms("ours") / scene.ms("official")
        goals.append(Goal(f"{scene.title}: at most half of the official time", f"{ratio:.2f}", ratio <= 0.5))
    grown = more.ms("ours", more.turns) / some.ms("ours", some.turns)
    wanted = f"linear in turns: a turn of {MORE_TURNS} costs at most 1.5 times one of {TURNS}"
    goals.append(Goal(wanted, f"{grown:.2f}", grown <= 1.5))
    theirs, ours = both
    share = ours.mib / theirs.mib
    goals.append(Goal("base install under a tenth of the official one", f"{share:.3f}", share < 0.1))
    goals.append(Goal("import and first environment class under 0.4 s", f"{imported:.2f}", imported < 0.4))
    return goals


def _right(scene: Scene) -> bool:
    worst = min(report["right"] for report in scene.reports["ours"])
    if worst != scene.rollouts:
        print(f"{scene.title}: {scene.rollouts - worst} of ours were not scored 1.0.", file=sys.stderr)
    return worst == scene.rollouts


def _play(place: Place, scene: Scene) -> dict[str, Any]:
    command = [str(place.python), str(HERE / "overhead" / "plays.py"), *scene.options]
    command += ["--rollouts", str(scene.rollouts), "--at-once", str(scene.at_once)]
    with tempfile.TemporaryDirectory(prefix="prime-bench-") as folder:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, timeout=LIMIT_SECONDS, env=_variables(folder)
        )
    if done.returncode:
        raise Failed(f"{place.name}, {scene.title}: ended with {done.returncode}:\n{done.stderr.strip()[-3000:]}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _timed(place: Place, code: str) -> float:
    began = time.perf_counter()
    subprocess.run([str(place.python), "-c", code], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def _variables(home: str) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main())
