"""A hundred rounds of SIGKILL to evaluator, Hub or runner: what is left one lease later, and how long it took."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from speed.cli import count, end_by_signals, tell

from tests.conftest import RunningHub
from tests.soak.rounds import LEASE, Round, Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench soak", description=__doc__)
    parser.add_argument("--rounds", type=count, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--runtime", default="process", help="which runtime (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: %(default)s)")
    chosen = parser.parse_args()
    end_by_signals()
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
            for number in range(chosen.rounds):
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


if __name__ == "__main__":
    sys.exit(main())
