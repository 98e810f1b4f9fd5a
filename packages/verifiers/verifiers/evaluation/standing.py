"""Where a run stands, in words: the parts that the live view and the plain lines are made of."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prime_evals.rendering import number, seconds
from verifiers.evaluation.report import one_line
from verifiers.evaluation.tally import Progress
from verifiers.utils.activity import ANOTHER_ATTEMPT, MODEL_AGAIN, ORDER, Activity

SLOW_AFTER_SECONDS = 30.0
"""A rollout that has waited so long for one thing is named."""
STUCK_AFTER_SECONDS = 60.0
"""So long nothing at all may happen before a run is called stuck."""
_LONGEST_REASON = 90
_NAMED = 2
"""How many slow rollouts are named; the others are counted."""


@dataclass(slots=True)
class Watched:
    """One environment's run, as those who watch it see it. `activities`: by (example_id, rollout_index)."""

    name: str
    progress: Progress
    activities: Mapping[Any, Activity]


def big(value: int) -> str:
    """950, 12.3k, 4.5M."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return str(value)


def reward(progress: Progress) -> str:
    """The mean of the scored rollouts, and half of its 95 % interval."""
    half = progress.rewards.half_interval
    interval = "" if half is None else f" ± {number(half) if half else '0'}"
    return f"reward {number(progress.rewards.mean)}{interval}"


def pace(progress: Progress, now: float) -> list[str]:
    """Rollouts a second or a minute, and how long the rest takes at this pace."""
    rate = progress.rate(lambda: now)
    if rate is None or progress.finished >= progress.total:
        return []
    shown = f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"
    return [shown, f"{seconds((progress.total - progress.finished) / rate)} left"]


def used(progress: Progress) -> list[str]:
    """Tokens and money of the finished rollouts, where the endpoint tells."""
    parts = []
    if progress.input_tokens or progress.output_tokens:
        parts.append(f"{big(progress.input_tokens)} tokens in, {big(progress.output_tokens)} out")
    if progress.cost is not None:
        parts.append(f"${progress.cost:.4f}" if progress.cost < 1 else f"${progress.cost:,.2f}")
    return parts


def doings(watched: Watched) -> list[str]:
    """How many rollouts run and what they wait for, how many are still to come."""
    progress = watched.progress
    waits = Counter(activity.waits for activity in list(watched.activities.values()))
    parts = []
    if progress.running:
        # Always in the same order, so that the line stays calm while the numbers change.
        known = [name for name in ORDER if name in waits]
        inside = ", ".join(f"{waits[name]} {name}" for name in [*known, *sorted(waits.keys() - set(ORDER))])
        parts.append(f"{progress.running} running" + (f": {inside}" if inside else ""))
    if progress.unscored_yet:
        parts.append(f"{progress.unscored_yet} played, not yet scored")
    if progress.waiting:
        parts.append(f"{progress.waiting:,} waiting")
    return parts


def troubles(watched: Watched) -> list[str]:
    """Errors by type, and what was tried again and why."""
    progress = watched.progress
    parts = []
    if progress.errors:
        kinds = ", ".join(f"{count} {name}" for name, count in progress.errors_by_type.most_common())
        parts.append(f"errors: {kinds}")
    if progress.retries:
        parts.append(f"{progress.retries} retried" + _reason(watched, ANOTHER_ATTEMPT))
    if progress.request_retries:
        again = "1 request" if progress.request_retries == 1 else f"{progress.request_retries} requests"
        parts.append(f"{again} asked again ({_short(progress.last_request_retry)})")
    if progress.resumed:
        parts.append(f"{progress.resumed:,} from before")
    return parts


def _reason(watched: Watched, waits_for: str) -> str:
    why = next((one.detail for one in list(watched.activities.values()) if one.waits == waits_for), "")
    return f" ({_short(why)})" if why else ""


def slow(watched: Watched, now: float, after: float = SLOW_AFTER_SECONDS) -> list[str]:
    """The rollouts that have waited longest for one thing, by name, where that is longer than `after` seconds."""
    late = [(now - one.since, key, one) for key, one in list(watched.activities.items()) if now - one.since > after]
    late.sort(key=lambda item: -item[0])
    parts = []
    for waited, (example, index), one in late[:_NAMED]:
        why = f" ({_short(one.detail)})" if one.detail else ""
        parts.append(f"example {example}, rollout {index}: {seconds(waited)} {one.waits}{why}")
    if len(late) > _NAMED:
        parts.append(f"{len(late) - _NAMED} more have waited over {seconds(after)}")
    return parts


def stuck(watched: Watched, now: float, after: float = STUCK_AFTER_SECONDS) -> str | None:
    """A sentence where no rollout has taken a step for `after` seconds. One that waits before it asks again, or for
    another attempt, knows why it waits.
    """
    running = list(watched.activities.values())
    if not running:
        return None
    last = max(one.since for one in running)
    knows_why = any(one.waits in (MODEL_AGAIN, ANOTHER_ATTEMPT) for one in running)
    if now - last <= after or knows_why:
        return None
    waits = Counter(one.waits for one in running).most_common(1)[0]
    return f"nothing has moved for {seconds(now - last)}: {waits[1]} of {len(running)} rollouts wait {waits[0]}"


def busy(blocked: float) -> str:
    """What keeps everything waiting, where the event loop does not answer."""
    return (
        f"code of the environment has kept this program busy for {seconds(blocked)}, and nothing else can go on meanwhile: "
        "make it async, or let it run in a thread"
    )


def line(watched: Watched, now: float | None = None) -> str:
    """Everything that is to be said, in one line."""
    now = time.monotonic() if now is None else now
    progress = watched.progress
    parts = [f"{progress.finished:,}/{progress.total:,} rollouts", reward(progress), *pace(progress, now)]
    parts += [*doings(watched), *used(progress), *troubles(watched)]
    if late := slow(watched, now):
        parts.append(f"slow: {'; '.join(late)}")
    if still := stuck(watched, now):
        parts.append(still)
    return ", ".join(parts)


def _short(text: str) -> str:
    # The address is the same every time.
    flat = re.sub(r"The model endpoint \S+ failed: ", "", one_line(text))
    return flat if len(flat) <= _LONGEST_REASON else flat[: _LONGEST_REASON - 1] + "…"
