"""Rollouts beside a bare websockets loop on the same server, warm; and beside the official client, cold."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from official.scratch import Failed
from speed.cells import Cell, Load, chosen_cells, load, measure, place
from speed.cli import count, end_by_signals, tell
from speed.games import GAMES
from speed.report import Goal, load_table, official_goals, warm_goals, warm_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "openenv_results.md"
MORE = """\
What is played: `gym`, a game behind a bare WebSocket server, and `mcp`, tool calls to an openenv-core server. Both from
images built by vf-build, in sandboxes of a Hub of their own, which is removed at the end.

examples:
  script/bench openenv --quick               a minute: few cells, one round, no official client
  script/bench openenv --skip-official       the warm comparison alone
  script/bench openenv --record              everything, and benchmarks/openenv_results.md written anew
  script/bench openenv_profile               where the time of a step goes
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench openenv",
        description=__doc__,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="few cells, one round, without the official client")
    extent.add_argument(
        "--full", action="store_true", help="2,000 mcp rollouts too, in one round: some twenty minutes more"
    )
    parser.add_argument("--skip-official", action="store_true", help="without the official client")
    parser.add_argument("--rounds", type=count, help="of the warm comparison (default: 3, with --quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there as well")
    parser.add_argument("--record", action="store_true", help=f"write the tables into benchmarks/{RESULTS.name}")
    chosen = parser.parse_args()
    if chosen.record and (chosen.quick or chosen.skip_official):
        parser.error("--record is for a complete run, without --quick and --skip-official")
    end_by_signals()
    try:
        return _run(chosen)
    except Failed as error:
        print(f"benchmarks/openenv: {error}", file=sys.stderr)
        return 1


def _run(chosen: argparse.Namespace) -> int:
    cells = chosen_cells(quick=chosen.quick, full=chosen.full)
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    before = os.getloadavg()[0]
    with place(list(GAMES)) as where:
        # In this order, what a busy machine spoils most is not measured last of all.
        servers = measure(where, [cell for cell in cells if cell.game == "gym"], rounds)
        loaded = load(where, GAMES["gym"], rounds)
        servers |= measure(where, [cell for cell in cells if cell.game != "gym"], rounds)
    busy = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    title = f"{os.cpu_count()} cores, rounds: {rounds}, {busy}"
    text = [f"Warm ({title})", "", warm_table(cells, servers), "", load_table(loaded)]
    print("\n" + "\n".join(text), flush=True)
    goals = warm_goals(cells, loaded)
    official: list[dict[str, Any]] = []
    if not (chosen.quick or chosen.skip_official):
        official, printed = _official()
        text += ["", "Cold, beside the official client", "", printed]
        goals += official_goals(official)
    summary = ["Goals", *map(str, goals)]
    print("\n" + "\n".join(summary), flush=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(_plain(rounds, cells, loaded, official, goals), indent=2) + "\n")
    if chosen.record:
        RESULTS.write_text(_page([*text, "", *summary]))
    return 0


def _official() -> tuple[list[dict[str, Any]], str]:
    """What official/compare.py measures, and what it prints."""
    tell("The official client and ours, from cold ...")
    with tempfile.TemporaryDirectory(prefix="prime-bench-") as folder:
        file = Path(folder) / "official.json"
        command = [sys.executable, str(HERE / "official" / "compare.py"), "--json", str(file)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            printed = child.communicate()[0].strip()
        finally:
            if child.poll() is None:
                child.terminate()  # it removes what it has started, which takes a while
                child.wait()
        if not file.is_file():
            raise Failed("The comparison with the official client gave no result; it says why above.")
        print("\n" + printed, flush=True)
        return json.loads(file.read_text()), printed


def _page(lines: list[str]) -> str:
    body = "\n".join(line.rstrip() for line in "\n".join(lines).splitlines())
    return (
        "# Rollouts beside a bare loop and beside the official client\n\n"
        "Written by `script/bench openenv --record` on a machine of two cores, which clients, servers and Hub share. Ratios of one\n"
        "run can be compared, rates of two machines cannot. The run itself is a load of about 2; what is above that is other work,\n"
        "which makes the event loop late and the rounds differ. Where the time of a step goes: [openenv_profile.md](openenv_profile.md).\n\n"
        f"```\n{body}\n```\n"
    )


def _plain(
    rounds: int, cells: list[Cell], loaded: Load, official: list[dict[str, Any]], goals: list[Goal]
) -> dict[str, Any]:
    warm = [{**asdict(cell), "ratio": cell.ratio} for cell in cells]
    return {
        "rounds": rounds,
        "warm": warm,
        "load": asdict(loaded),
        "official": official,
        "goals": [asdict(goal) for goal in goals],
    }


if __name__ == "__main__":
    sys.exit(main())
