"""A suite that every runtime passes, whoever wrote it: `python -m prime_hub.runner.runtimes.conformance --runtime NAME`.

It drives a real runner program over its socket, as the Hub does, so it also covers what happens when the runner or the
Hub is killed in between. A check is a function of a `Host`; what a runtime does not claim (`Runtime.enforces`,
`Runtime.isolating`) is not asked of it.
"""

from __future__ import annotations

from prime_hub.runner.runtimes.conformance import (  # noqa: F401 - they register their checks
    building,
    commands,
    containment,
    files,
    lives,
    walls,
)
from prime_hub.runner.runtimes.conformance.checks import CHECKS, Check
from prime_hub.runner.runtimes.conformance.host import Host, Mismatch

__all__ = ["CHECKS", "Check", "Host", "Mismatch"]
