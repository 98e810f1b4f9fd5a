"""What a check is, and the list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prime_hub.runner.runtimes.conformance.host import Host


@dataclass(frozen=True)
class Check:
    """One thing that a runtime has to do. `needs`: what it must claim to be asked, of `enforces` and `isolating`."""

    name: str
    title: str
    needs: frozenset[str]
    run: Callable[[Host], None]

    def missing(self, host: Host) -> set[str]:
        """What the runtime does not claim, so that the check is not for it."""
        return set(self.needs) - host.claims


CHECKS: list[Check] = []


def check(*needs: str) -> Callable[[Callable[[Host], None]], Callable[[Host], None]]:
    """Add a function to the suite; its docstring is the title."""

    def add(function: Callable[[Host], None]) -> Callable[[Host], None]:
        name = getattr(function, "__name__", repr(function))
        title = (function.__doc__ or name).strip().splitlines()[0]
        CHECKS.append(Check(name, title, frozenset(needs), function))
        return function

    return add
