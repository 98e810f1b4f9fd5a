"""What it costs and leaves behind: processes, memory, network, time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from statistics import median
from typing import Any, Protocol, runtime_checkable

from prime_core.checks.report import Result, Verdict, failed, passed, skipped, warned
from verifiers.checking.case import Blocked, Case, Target
from verifiers.checking.package import settings
from verifiers.checking.playing import play
from verifiers.openenv.source import ServerSource

SEED = 1
SEEDS = (1, 2, 3, 4)
SETTLE = (0.1, 0.3, 0.6, 1.0)  # seconds
STEPS = 3
AT_ONCE = 3
UNSEEN = "What the server's sandbox uses cannot be seen from here."


@runtime_checkable
class Isolable(Protocol):
    """A source of servers that can be kept from the network."""

    async def network_reason(self) -> str | None:
        """Why they cannot be kept from it here, None when they can."""
        ...

    def without_network(self) -> ServerSource:
        """The same servers, which reach nothing outside."""
        ...


async def _sessions(case: Case, count: int) -> None:
    """So many short episodes, one after another."""
    moves = await case.moves()
    for number in range(count):
        async with case.playing(number) as (session, episode):
            await play(session, episode, moves, "random", STEPS, case.limits.request, float("inf"))


async def processes_left(case: Case) -> Verdict:
    await _sessions(case, 1)
    _, before = await case.usage()
    if before is None:
        return skipped(UNSEEN)
    count = case.limits.sessions // 2
    await _sessions(case, count)
    left = 0
    for pause in (0.0, *SETTLE):
        await asyncio.sleep(pause)
        _, after = await case.usage()
        left = (after or before) - before
        if left <= 1:
            return passed(processes=after)
    return failed(
        "processes-left",
        f"{count} sessions were closed, and {left} processes more than before are running.",
        f"{case.where}, close",
        "End in close() what was started in reset or step, and wait for it; a child in a process group of its own can be "
        "ended with all that it started (os.killpg).",
        processes_left=left,
    )


async def memory_leak(case: Case) -> Verdict:
    verdict = await case.once("verdict processes-left", lambda: processes_left(case))
    if verdict.outcome == "fail":
        raise Blocked("Processes that were left behind count in (processes-left).")
    limits = case.limits
    await _sessions(case, limits.sessions)  # what is made once: caches, pools, compiled code
    sizes = [(await case.usage())[0]]
    if sizes[0] is None:
        return skipped(UNSEEN)
    for _ in range(limits.rounds - 1):
        await _sessions(case, limits.sessions)
        sizes.append((await case.usage())[0])
    known = [size for size in sizes if size is not None]
    growth = [later - earlier for earlier, later in pairwise(known)]
    facts: dict[str, Any] = {"memory_bytes": known[-1], **await _each(case)}
    if growth and min(growth) > limits.leak * limits.sessions:
        each = min(growth) / limits.sessions
        return failed(
            "memory-leak",
            f"Every session leaves {each / 2**20:.1f} MiB behind: after {limits.sessions} sessions each, the server used "
            f"{', '.join(f'{size / 2**20:.0f}' for size in known)} MiB.",
            case.where,
            "Let nothing hold an episode after its session: module-level lists and caches without a bound, callbacks, "
            "threads that still run.",
            **facts,
        )
    return passed(**facts)


async def _each(case: Case) -> dict[str, Any]:
    """Bytes of memory that a session takes while it is open, measured on a few."""
    if case.dialect != "ws":
        return {}
    before, _ = await case.usage()
    try:
        async with AsyncExitStack() as stack:
            for seed in range(AT_ONCE):
                async with asyncio.timeout(case.limits.request):
                    await stack.enter_async_context(case.session(seed))
            after, _ = await case.usage()
    except (Blocked, TimeoutError):  # it takes fewer at once
        return {}
    return {} if before is None or after is None else {"memory_per_session_bytes": max(0, (after - before) // AT_ONCE)}


async def needs_network(case: Case) -> Verdict:
    if settings(case.target.folder).get("network") is True:
        return skipped("It declares that it needs a network ([tool.verifiers.check] network = true).")
    source = await case.source()
    if not isinstance(source, Isolable):
        return skipped("Whether it needs a network can be told of a server in a sandbox only.")
    if (reason := await source.network_reason()) is not None:
        return skipped(reason)
    await case.episode(SEED)  # with a network it plays
    found: list[Result] = []
    offline = source.without_network()
    alone = Case(Target(manifest=case.target.manifest, source=offline, python=None), case.limits, found=found.append)
    try:
        await alone.episode(SEED)
    except Blocked as blocked:
        told = [finding.sentence for result in found for finding in result.verdict.findings]
        sentence = told[0] if told else str(blocked)
        return failed(
            "needs-network",
            f"It does not play in a sandbox that reaches nothing outside: {sentence}",
            case.where,
            "Fetch what it needs when the image is built (RUN … in the Dockerfile); or declare that it needs a network: "
            "network = true in [tool.verifiers.check] of pyproject.toml.",
        )
    finally:
        await alone.aclose()
    return passed()


async def step_slow(case: Case) -> Verdict:
    episodes = [await case.episode(seed) for seed in SEEDS]
    seconds = sorted(second for episode in episodes for second in episode.seconds)
    if not seconds:
        return skipped("No step was taken.")
    middle, late = median(seconds), seconds[int(len(seconds) * 0.95)]
    facts = {"step_seconds_median": round(middle, 6), "step_seconds_p95": round(late, 6)}
    if middle <= case.limits.slow_step:
        return passed(**facts)
    return warned(
        "step-slow",
        f"Half of the steps take longer than {middle:.2g} s.",
        f"{case.where}, step",
        "Load data and models once, when the server starts, not in every step; look at it with a profiler.",
        **facts,
    )


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "processes-left": lambda case: case.once("verdict processes-left", lambda: processes_left(case)),
    "memory-leak": memory_leak,
    "needs-network": needs_network,
    "step-slow": step_slow,
}
