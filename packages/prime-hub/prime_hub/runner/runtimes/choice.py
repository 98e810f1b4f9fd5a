"""Which runtimes there are, and which one this host gets.

Runtimes come in by the entry point group `prime_hub.runtimes`: a name and a subclass of `Runtime`. Ours are entry points
like anybody's. With none named, the first of PREFERRED that this host can run is taken.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from prime_hub.runner.runtimes.base import RunnerError, Runtime, RuntimeUnavailable, Setup

GROUP = "prime_hub.runtimes"
PREFERRED = ("docker", "podman", "bubblewrap", "process")

log = logging.getLogger("prime_hub.runner")


def names() -> list[str]:
    """The names of all runtimes: ours in the order of preference, then others."""
    found = {point.name for point in entry_points(group=GROUP)}
    return [name for name in PREFERRED if name in found] + sorted(found - set(PREFERRED))


def runtime_class(name: str) -> type[Runtime]:
    """The runtime of that name. Raises RunnerError when there is none."""
    for point in entry_points(group=GROUP, name=name):
        return point.load()
    raise RunnerError(f"There is no runtime '{name}'; there are {', '.join(names())}.")


async def open_runtime(name: str | None, setup: Setup) -> Runtime:
    """The runtime of that name, or the best that works here, ready for use. Raises RunnerError."""
    if name is not None:
        runtime = runtime_class(name)(setup)
        await runtime.open()
        return runtime
    refused = []
    for candidate in [name for name in names() if name in PREFERRED]:
        runtime = runtime_class(candidate)(setup)
        try:
            await runtime.open()
        except RuntimeUnavailable as error:
            log.info("the runtime %s is not taken: %s", candidate, error)
            refused.append(f"{candidate}: {error}")
            await runtime.close()
            continue
        return runtime
    raise RuntimeUnavailable("No runtime works on this machine. " + " ".join(refused))
