"""`python -m prime_hub.runner.runtimes.conformance --runtime NAME [--option NAME=VALUE] [CHECK …]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from prime_hub.runner.runtimes import choice
from prime_hub.runner.runtimes.conformance import CHECKS, Host


def main(arguments: list[str] | None = None) -> int:
    """Run the suite and print a line for each check; 0 when none failed."""
    parser = argparse.ArgumentParser(prog="python -m prime_hub.runner.runtimes.conformance", description=__doc__)
    parser.add_argument("--runtime", required=True, choices=choice.names())
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the runtime")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="only these")
    given = parser.parse_args(arguments)
    wanted = [item for item in CHECKS if not given.checks or item.name in given.checks]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="prime-conformance-") as folder:
        host = Host(Path(folder) / "runner", given.runtime, tuple(w for o in given.option for w in ("--option", o)))
        try:
            host.start()
            for item in wanted:
                if missing := item.missing(host):
                    print(f"-     {item.name}: not claimed ({', '.join(sorted(missing))})", flush=True)
                    continue
                began = time.monotonic()
                try:
                    item.run(host)
                except Exception as error:
                    failed += 1
                    print(f"FAIL  {item.name}: {type(error).__name__}: {error}", flush=True)
                    continue
                print(f"ok    {item.name} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            host.stop()
    print(f"{len(wanted) - failed} of {len(wanted)} checks passed or were not claimed, {failed} failed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
