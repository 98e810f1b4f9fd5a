"""Running the checks: which ones, in which order, within which time; what cannot be made is skipped with why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from importlib.metadata import version

from prime_core.checks.registry import CHECKS, Check, find
from prime_core.checks.report import Report, Result, Verdict, skipped
from prime_core.errors import APIError
from verifiers.checking import contract, episodes, hostile, image, loading, package, renderer, resources, reward
from verifiers.checking.case import Blocked, Case, Limits, Target

FUNCTIONS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    name: function
    for module in (package, loading, image, contract, episodes, hostile, reward, renderer, resources)
    for name, function in module.CHECKS.items()
}
LONGEST = 600.0
Progress = Callable[[Check, Result | None], None]
"""Told of each check when it begins (None) and when its result is there."""


def chosen(*, quick: bool = False, only: Iterable[str] = ()) -> list[Check]:
    """The checks of a run, in order. Raises UnknownCheck."""
    wanted = {find(name).id for name in only}
    checks = [check for check in CHECKS.values() if not wanted or check.id in wanted]
    return [check for check in checks if check.quick] if quick and not wanted else checks


async def run(
    target: Target,
    *,
    quick: bool = False,
    only: Iterable[str] = (),
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check the target; everything that was started for it is gone when this returns or is cancelled.

    Raises: UnknownCheck, and APIError when there is no Hub to start a server on.
    """
    only = list(only)
    checks = chosen(quick=quick, only=only)
    part = "only" if only else "quick" if quick else "full"
    report = Report(part, dict(target.details), checker=f"verifiers {version('verifiers')}")
    told = progress or (lambda check, result: None)

    def found(result: Result) -> None:
        report.add(result)
        told(CHECKS[result.id], result)

    case = Case(target, _limits(target, limits or Limits()), found)
    began = time.monotonic()
    try:
        for check in checks:
            if check.id not in report.results:
                told(check, None)
                found(await _made(case, check))
    except BaseException:
        report.complete = False
        raise
    finally:
        # To its end also when this is cancelled: what it started must not stay.
        await asyncio.shield(asyncio.ensure_future(case.aclose()))
        report.seconds = time.monotonic() - began
    report.environment.update(case.described())
    return report


def _limits(target: Target, limits: Limits) -> Limits:
    """The limits, with the longer times that the environment declares; ten minutes at most."""
    declared = package.settings(target.folder)
    times = {
        name: min(float(value), LONGEST)
        for name, key in (("startup", "startup_seconds"), ("request", "step_seconds"))
        if isinstance(value := declared.get(key), int | float) and value > getattr(limits, name)
    }
    return replace(limits, load=limits.load * max(1.0, times.get("request", 0.0) / limits.request), **times)


async def _made(case: Case, check: Check) -> Result:
    began = time.monotonic()
    try:
        verdict = await FUNCTIONS[check.id](case)
    except Blocked as blocked:
        verdict = skipped(str(blocked))
    except APIError:  # no Hub, or not with this login: then nothing can be told, and that is another error
        raise
    except Exception as error:
        verdict = skipped(f"The check itself could not be made ({type(error).__name__}: {error}).")
    return Result(check.id, verdict, time.monotonic() - began)
