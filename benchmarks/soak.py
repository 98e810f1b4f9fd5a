"""Rounds of SIGKILL: what sandboxes leave behind (`sandboxes`), and what evaluations lose (`evaluations`): nothing."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from killed_runs import Killed, KilledRun
from speed.cli import count, end_by_signals, tell

from tests.conftest import RunningHub
from tests.soak.rounds import LEASE, Round, Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench soak", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("sandboxes", "evaluations"), default="sandboxes")
    parser.add_argument("--rounds", type=count, help="how many (default: 100, of evaluations 200)")
    parser.add_argument("--runtime", default="process", help="which runtime (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: %(default)s)")
    parser.add_argument("--at-once", type=count, default=3, help="evaluations at a time (default: %(default)s)")
    chosen = parser.parse_args()
    end_by_signals()
    if chosen.what == "evaluations":
        return evaluations(chosen.rounds or 200, chosen.seed, chosen.at_once)
    options, engine = ["--runtime", chosen.runtime], None
    if chosen.runtime in ("docker", "podman"):
        engine = os.environ.get(f"PRIME_TEST_{chosen.runtime.upper()}")
        if not engine:
            parser.error(f"PRIME_TEST_{chosen.runtime.upper()} names no engine; script/engines starts one")
        options += ["--runtime-option", f"engine={engine}"]
    played: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="prime-soak-") as folder:
        hub = RunningHub(Path(folder) / "hub", tuple(options))
        try:
            soak = Soak(hub, Path(folder), chosen.seed, chosen.runtime, engine)
            for number in range(chosen.rounds or 100):
                played.append(soak.round())
                tell(f"round {number + 1}: {played[-1]}")
        except AssertionError as error:
            print(f"benchmarks/soak: round {len(played) + 1}: {error}", file=sys.stderr)
            return 1
        finally:
            hub.close()
    waits = sorted(item.clean_after for item in played)
    print(f"{len(played)} rounds on {chosen.runtime}, a lease of {LEASE:g} s; nothing was left after any of them")
    print(f"seconds after the last client's death until all was gone: median {median(waits):.1f}, most {waits[-1]:.1f}")
    for name in ("victim", "moment"):
        print(f"by {name}: {dict(Counter(getattr(item, name) for item in played))}")
    return 0


def evaluations(rounds: int, first: int, at_once: int) -> int:
    """Each seed from `first` on: the real command, killed and resumed, compared with an undisturbed run of it."""
    began = time.monotonic()
    wrong: list[str] = []
    stories: list[Killed] = []

    def play(seed: int) -> None:
        with tempfile.TemporaryDirectory(prefix="prime-soak-") as folder:
            try:
                stories.append(KilledRun(Path(folder), seed).play())
                tell(f"{len(stories)}: {stories[-1]}")
            except AssertionError as error:
                wrong.append(str(error))
                print(f"benchmarks/soak: {error}", file=sys.stderr)

    pool = ThreadPoolExecutor(at_once)
    try:
        list(pool.map(play, range(first, first + rounds)))
    finally:
        pool.shutdown(cancel_futures=True)
    kills = Counter(moment.split()[-1] for story in stories for moment in story.moments)
    faults = sum((story.faults for story in stories), Counter())
    attempts, failed = sum(story.attempts for story in stories), sum(story.failed_attempts for story in stories)
    print(
        f"{rounds} runs, seeds {first} to {first + rounds - 1}, {len(wrong)} of them wrong; {time.monotonic() - began:.0f} s"
    )
    print(f"killed {sum(kills.values())} times; by what the moment was chosen: {dict(kills)}")
    print(f"{attempts} attempts are recorded, {failed} of them failed ones")
    print(f"the model server failed {sum(faults.values())} times: {dict(faults.most_common())}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
