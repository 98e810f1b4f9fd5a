"""A profile's functions, put together by the layer of the house that they belong to."""

from __future__ import annotations

import pstats
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Function = tuple[str, int, str]

JSON_LAYER = "json"
LOOP = "event loop: tasks, futures, timers in Python"
LIBRARY = "websockets (Sans-I/O)"
IN_C = "event loop and sockets in C and the kernel"
OTHER = "other"
# The first that is part of a file's path says where its functions belong.
PLACES: list[tuple[str, str]] = [
    ("verifiers/openenv/websocket.py", "our websocket"),
    ("verifiers/openenv/session.py", "our session"),
    ("verifiers/openenv/wire.py", "our wire"),
    ("verifiers/openenv/", "pool, sandboxes"),
    ("verifiers/envs/integrations/", "OpenEnvEnv and chat"),
    ("verifiers/utils/message_utils.py", "messages and state"),
    ("verifiers/types.py", "messages and state"),
    ("verifiers/clients/", "model client"),
    ("verifiers/evaluation/policies.py", "model client"),
    ("verifiers/rubrics/", "scoring"),
    ("verifiers/evaluation/outputs.py", "outputs"),
    ("verifiers/evaluation/report.py", "outputs"),
    ("prime_evals/", "outputs"),
    ("verifiers/evaluation/", "runner"),
    ("verifiers/envs/", "rollout loop (envs)"),
    ("verifiers/decorators.py", "rollout loop (envs)"),
    ("verifiers/utils/", "rollout loop (envs)"),
    ("verifiers/", OTHER),
    ("benchmarks/speed/", "the benchmark's own model and renderer"),
    ("/websockets/", LIBRARY),
    ("/json/", JSON_LAYER),
    ("/asyncio/", LOOP),
]
BUILT_IN: list[tuple[str, str]] = [("_json", JSON_LAYER), ("_asyncio", LOOP), ("uvloop", LOOP)]


class Layers:
    """Seconds by layer. What is in no layer (built-in functions, the standard library) is its callers'."""

    def __init__(self, stats: pstats.Stats) -> None:
        self._stats: dict[Function, Any] = stats.stats  # type: ignore[attr-defined]
        self._shares: dict[Function, dict[str, float]] = {}

    def seconds(self) -> dict[str, float]:
        """The functions' own time, by layer."""
        found: dict[str, float] = defaultdict(float)
        for function, (_, _, own, _, _) in self._stats.items():
            for layer, share in self._share(function, ()).items():
                found[layer] += own * share
        return dict(found)

    def dearest(self, count: int) -> list[tuple[str, int, float]]:
        """The functions with most time of their own: name and place, calls, seconds."""
        by_time = sorted(self._stats.items(), key=lambda item: -item[1][2])[:count]
        return [(described(function), calls, own) for function, (_, calls, own, _, _) in by_time]

    def _share(self, function: Function, above: tuple[Function, ...]) -> dict[str, float]:
        if function in self._shares:
            return self._shares[function]
        layer = layer_of(function)
        if layer is not None:
            return {layer: 1.0}
        own: Callable[[Any], float] = lambda call: call[2] + 1e-12  # noqa: E731
        callers = {caller: own(call) for caller, call in self._stats[function][4].items() if caller not in above}
        if not callers:
            return {OTHER: 1.0}
        share: dict[str, float] = defaultdict(float)
        for caller, weight in callers.items():
            for name, part in self._share(caller, (*above, function)).items():
                share[name] += part * weight / sum(callers.values())
        if not above:  # below, a circle of callers may have been cut
            self._shares[function] = dict(share)
        return dict(share)


def layer_of(function: Function) -> str | None:
    """The layer of a function, None when it belongs to whoever calls it."""
    file, _, name = function
    if file == "~":
        return next((layer for part, layer in BUILT_IN if part in name), None)
    path = Path(file).as_posix()
    if name == "_flush" and path.endswith("verifiers/openenv/websocket.py"):
        return IN_C  # its own time is nearly all that of the transport's write, which a profiler does not see
    return next((layer for part, layer in PLACES if part in path), None)


def described(function: Function) -> str:
    """`name (file:line)`, the file without what is above its package."""
    file, line, name = function
    if file == "~":
        return name.strip("<>")
    return f"{name} ({'/'.join(Path(file).parts[-2:])}:{line})"
