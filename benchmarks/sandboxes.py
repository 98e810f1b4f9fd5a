"""Sandboxes of each runtime beside the bare thing: start, starts a second, commands and builds."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from boxes.bare import Child, Engine
from boxes.hub import Place, place
from boxes.ours import Ours
from official.scratch import Failed
from speed.cli import count, end_by_signals, tell
from speed.report import aligned

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "sandboxes_results.md"
AT_ONCE = (1, 8, 32)
GOAL = 1.10
MORE = """\
The server is a small FastAPI one, built as an image on a Hub of its own for each runtime. Bare: the same server as a child
process in the image's own environment (process, bubblewrap), or `docker run` of the same image (docker, podman). Both in
turn, round by round; medians, and the median of the rounds' own ratios.

docker and podman are measured where PRIME_TEST_DOCKER and PRIME_TEST_PODMAN name their sockets (script/engines starts both).
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench sandboxes",
        description=__doc__,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=7, help="of each single measurement (default: %(default)s)")
    parser.add_argument("--runtime", action="append", help="only this one; may be repeated")
    parser.add_argument("--record", action="store_true", help=f"write the tables into benchmarks/{RESULTS.name}")
    chosen = parser.parse_args()
    end_by_signals()
    try:
        return _run(chosen)
    except Failed as error:
        print(f"benchmarks/sandboxes: {error}", file=sys.stderr)
        return 1


def _engine(runtime: str) -> str | None:
    return os.environ.get(f"PRIME_TEST_{runtime.upper()}") if runtime in ("docker", "podman") else None


def _run(chosen: argparse.Namespace) -> int:
    wanted = chosen.runtime or [
        name
        for name in ("process", "bubblewrap", "docker", "podman")
        if name in ("process", "bubblewrap") or _engine(name)
    ]
    before = os.getloadavg()[0]
    singles: list[list[str]] = [["runtime", "what", "bare ms", "ours ms", "ours/bare", "of the rounds"]]
    many: list[list[str]] = [["runtime", "at once", "bare starts/s", "ours starts/s", "ours/bare"]]
    met = True
    for runtime in wanted:
        tell(f"{runtime}: building the image in a Hub of its own ...")
        with place(runtime, _engine(runtime)) as where:
            bare: Any = Engine(where) if where.engine else Child(where)
            ours = Ours(where)
            try:
                rows, starts = _singles(where, bare, ours, chosen.rounds)
                singles += rows
                met = met and starts <= GOAL
                many += _many(where, bare, ours)
            finally:
                ours.close()
    busy = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    text = [f"{os.cpu_count()} cores, rounds: {chosen.rounds}, {busy}", "", *aligned(singles), "", *aligned(many), ""]
    text += [
        f"{'met' if met else 'not met':>7}  start of a server at most {GOAL:.2f} of the bare thing, on every runtime"
    ]
    print("\n".join(text), flush=True)
    if chosen.record:
        RESULTS.write_text(
            "# Sandboxes beside the bare thing\n\nWritten by `script/bench sandboxes --record` on two cores, which servers, Hub and "
            "client share.\nRatios of one run can be compared, times of two machines cannot.\n\n```\n"
            + "\n".join(text)
            + "\n```\n"
        )
    return 0


def _singles(where: Place, bare: Any, ours: Ours, rounds: int) -> tuple[list[list[str]], float]:
    """Rows of what is done one at a time, and the ratio of starts."""
    found: dict[str, list[tuple[float, float]]] = {"create to healthy": [], "delete": [], "command": [], "build": []}
    for number in range(rounds):
        tell(f"{where.runtime}: round {number + 1} ...")
        pair: list[dict[str, float]] = []
        for side in (bare, ours)[:: 1 if number % 2 == 0 else -1]:
            took: dict[str, float] = {}
            started = _timed(took, "create to healthy", side.start)
            side.execute(started)
            _timed(took, "command", lambda side=side, started=started: [side.execute(started) for _ in range(10)])
            took["command"] /= 10
            _timed(took, "delete", lambda side=side, started=started: side.end(started))
            if number < 2:
                _timed(took, "build", lambda side=side, number=number: side.build(number))
            pair.append(took)
        first, second = pair[:: 1 if number % 2 == 0 else -1]
        for what, values in found.items():
            if what in first:
                values.append((first[what], second[what]))
    rows = []
    for what, values in found.items():
        ratios = sorted(mine / theirs for theirs, mine in values)
        theirs, mine = (median(value[side] for value in values) * 1000 for side in (0, 1))
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        rows.append([where.runtime, what, f"{theirs:.1f}", f"{mine:.1f}", f"{median(ratios):.2f}", spread])
    return rows, median(mine / theirs for theirs, mine in found["create to healthy"])


def _timed(took: dict[str, float], what: str, work: Callable[[], Any]) -> Any:
    began = time.monotonic()
    answer = work()
    took[what] = time.monotonic() - began
    return answer


def _many(where: Place, bare: Any, ours: Ours) -> list[list[str]]:
    rows = []
    for at_once in AT_ONCE:
        total = max(8, at_once)
        tell(f"{where.runtime}: {total} sandboxes, {at_once} at once ...")
        began = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: bare.end(bare.start()), range(total)))
        theirs = total / (time.monotonic() - began)
        mine = total / ours.many(at_once, total)
        rows.append([where.runtime, str(at_once), f"{theirs:.2f}", f"{mine:.2f}", f"{mine / theirs:.2f}"])
    return rows


if __name__ == "__main__":
    sys.exit(main())
