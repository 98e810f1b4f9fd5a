"""Where the time of a step goes in our client: 2,000 warm rollouts at 32 at once under cProfile, by layer."""

from __future__ import annotations

import argparse
import os
import pstats
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from official.scratch import Failed
from speed.cells import MANY, place
from speed.cli import count, end_by_signals, tell
from speed.games import GAMES, STEPS
from speed.layers import IN_C, Layers
from speed.players import Process, our_player
from speed.report import aligned

RESULTS = Path(__file__).resolve().parent / "openenv_profile.md"
CONCURRENCY = 32
PLAIN_RUNS = 3
DEAREST = 25
PAGE = """\
# Where the time of a step goes in our client

Written by `script/bench openenv_profile --record` on a machine of two cores: {rollouts} rollouts of {steps} steps, {concurrency} at once, gym, on a
server that already runs, with a model inside the process that answers at once. Time that belongs to a rollout (its session, its scoring,
its output) is spread over its ten steps.

Without a profiler ({runs} runs, median): {wall:.0f} us of wall time for a step, {cpu:.0f} of them on the client's processor{served}. Under cProfile:
{profiled_wall:.0f} us and {profiled_cpu:.0f}. The profiler makes Python calls look dearer than they are and C cheaper, so the middle column,
each layer's part of the {cpu:.0f} us, is an estimate.

```
{table}
```

The functions with most time of their own, under cProfile:

```
{functions}
```
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench openenv_profile", description=__doc__)
    parser.add_argument("--game", choices=GAMES, default="gym", help="default: gym")
    parser.add_argument("--rollouts", type=count, default=MANY, help=f"default: {MANY}")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep the profile, for `python -m pstats FILE`")
    parser.add_argument("--record", action="store_true", help=f"write benchmarks/{RESULTS.name}")
    chosen = parser.parse_args()
    if chosen.record and (chosen.game != "gym" or chosen.rollouts != MANY):
        parser.error(f"--record is for {MANY} rollouts of gym")
    end_by_signals()
    try:
        with place([chosen.game]) as where, our_player(where, GAMES[chosen.game]) as (player, server):
            text = _page(player, server["url"], chosen)
    except Failed as error:
        print(f"benchmarks/openenv_profile: {error}", file=sys.stderr)
        return 1
    print(text)
    if chosen.record:
        RESULTS.write_text(text)
    return 0


def _page(player: Process, url: str, chosen: argparse.Namespace) -> str:
    rollouts = chosen.rollouts
    steps = rollouts * STEPS
    order: dict[str, Any] = {"rollouts": rollouts, "concurrency": CONCURRENCY}
    plain = []
    server = server_process(url)
    before = None if server is None else cpu_seconds(server)
    for number in range(PLAIN_RUNS):
        tell(f"{rollouts} rollouts, {CONCURRENCY} at once, without a profiler, run {number + 1} ...")
        plain.append(player.ask(**order))
    served = ""
    if server is not None and before is not None and (after := cpu_seconds(server)) is not None:
        served = f" and {(after - before) / (steps * PLAIN_RUNS) * 1e6:.0f} on the server's"
    wall = statistics.median(run["seconds"] for run in plain)
    cpu = statistics.median(run["cpu_seconds"] for run in plain)
    tell("The same under cProfile ...")
    with tempfile.TemporaryDirectory() as folder:
        file = chosen.keep or Path(folder) / "profile"
        profiled = player.ask(**order, profile=str(Path(file).resolve()))
        stats = pstats.Stats(str(file))
    layers = Layers(stats)
    seconds = layers.seconds()
    # What no function of Python was running for is the event loop's own, or waiting, which takes no processor time.
    seconds[IN_C] = seconds.get(IN_C, 0.0) + max(0.0, profiled["cpu_seconds"] - sum(seconds.values()))
    busy = sum(seconds.values())
    lines = [["layer", "us/step under cProfile", "about us/step without", "per cent"]]
    for layer, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        share = spent / busy
        lines.append([layer, _us(spent / steps), _us(share * cpu / steps), f"{share:.1%}"])
    lines.append(["sum", _us(busy / steps), _us(cpu / steps), "100%"])
    dear = [["us/step", "calls a step", "function"]]
    dear += [[_us(own / steps), f"{calls / steps:.2f}", name] for name, calls, own in layers.dearest(DEAREST)]
    return PAGE.format(
        rollouts=rollouts,
        steps=STEPS,
        concurrency=CONCURRENCY,
        runs=PLAIN_RUNS,
        wall=wall / steps * 1e6,
        cpu=cpu / steps * 1e6,
        served=served,
        profiled_wall=profiled["seconds"] / steps * 1e6,
        profiled_cpu=profiled["cpu_seconds"] / steps * 1e6,
        table="\n".join(aligned(lines)),
        functions="\n".join(aligned(dear)),
    )


def server_process(url: str) -> int | None:
    """The process number of the server, where it tells (gym does)."""
    return httpx.get(f"{url}/health").json().get("pid")


def cpu_seconds(process: int) -> float | None:
    """The processor seconds that a process has used so far, None where that cannot be told."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


if __name__ == "__main__":
    sys.exit(main())
