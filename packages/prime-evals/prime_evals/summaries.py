"""What a run's page and report tell: means with intervals, pass@k, bins of rewards, metrics, errors, tokens and time.

A `Summary` is fed one rollout after another and keeps numbers only, so a run of any size is summed up in little memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prime_evals.estimates import CONFIDENCE, Estimate, clustered_mean, number, pass_at_k, powers_of_two

BINS = 10
MOST_METRICS = 100
MOST_ERRORS = 50


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values lie from `low` up to `high`; the last bin has its `high`, too."""

    low: float
    high: float
    count: int


def histogram(values: Sequence[float], bins: int = BINS) -> list[Bin]:
    """Values in bins of equal width: from 0 to 1 where all lie there, else from the least to the greatest. Values that are
    all the same are one bin of no width, where they do not lie between 0 and 1. None: no bins.
    """
    if not values:
        return []
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    if low == high:
        return [Bin(low, high, len(values))]
    counts = [0] * bins
    for value in values:
        # In halves, since the width of what is very far apart is infinite.
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
        counts[min(bins - 1, int(share * bins + 1e-9))] += 1
    edges = [low * (1 - step / bins) + high * (step / bins) for step in range(bins + 1)]
    edges[-1] = high
    return [Bin(edges[step], edges[step + 1], counts[step]) for step in range(bins)]


@dataclass(slots=True)
class Spread:
    """Values of one kind by their examples."""

    groups: dict[Hashable, list[float]] = field(default_factory=dict)

    def add(self, example: Hashable, value: Any) -> None:
        """One more; what is no number is left out."""
        if (found := number(value)) is not None:
            self.groups.setdefault(example, []).append(found)

    def told(self, confidence: float = CONFIDENCE, shares: bool = False) -> dict[str, Any] | None:
        """The mean with its interval, the least, the greatest and the middle value; None of nothing."""
        # Of what is 1 every time nobody knows whether it is a share or a count, such as the turns of a game of one turn.
        kinds = {value for some in self.groups.values() for value in some}
        found = clustered_mean(self.groups, confidence, shares=shares or len(kinds) > 1)
        if found is None:
            return None
        values = sorted(value for some in self.groups.values() for value in some)
        return {**found.to_dict(), "min": values[0], "max": values[-1], "median": _median(values)}


def _median(values: Sequence[float]) -> float:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else values[middle - 1] / 2 + values[middle] / 2


class Summary:
    """Fed by `add`, read by `told`. `threshold`: from which reward on a rollout has passed."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold
        self.rewards = Spread()
        self._metrics: dict[str, Spread] = {}
        self._errors: Counter[str] = Counter()
        self._sentences: dict[str, str] = {}
        self._stops: Counter[str] = Counter()
        self._totals: dict[str, list[float]] = {}
        self._rollouts = 0
        self._truncated = 0
        self._examples: set[Hashable] = set()

    def add(
        self,
        example: Hashable,
        reward: Any,
        *,
        metrics: Mapping[str, Any] | None = None,
        error: str | None = None,
        sentence: str | None = None,
        stop: str | None = None,
        truncated: bool = False,
        amounts: Mapping[str, Any] | None = None,
    ) -> None:
        """One rollout. A `reward` that is no number leaves it unscored: counted, and in no mean. `amounts` are summed up:
        tokens, cost, seconds.
        """
        self._rollouts += 1
        self._examples.add(example)
        self._truncated += truncated
        scored = number(reward) is not None
        self.rewards.add(example, reward)
        if scored:
            for name, value in (metrics or {}).items():
                if name in self._metrics or len(self._metrics) < MOST_METRICS:
                    self._metrics.setdefault(name, Spread()).add(example, value)
        if error is not None and (error in self._errors or len(self._errors) < MOST_ERRORS):
            self._errors[error] += 1
            self._sentences.setdefault(error, sentence or error)
        if stop is not None and (stop in self._stops or len(self._stops) < MOST_ERRORS):
            self._stops[stop] += 1
        for name, value in (amounts or {}).items():
            if (found := number(value)) is not None:
                self._totals.setdefault(name, []).append(found)

    def told(self, confidence: float = CONFIDENCE) -> dict[str, Any]:
        """Everything as JSON-ready data; what there is nothing to tell of is None or empty."""
        groups = self.rewards.groups
        values = [value for some in groups.values() for value in some]
        most = max((len(some) for some in groups.values()), default=0)
        reached = {example: [float(value >= self.threshold) for value in some] for example, some in groups.items()}
        return {
            "num_rollouts": self._rollouts,
            "num_examples": len(self._examples),
            "num_scored": len(values),
            "num_errors": self._errors.total(),
            "num_truncated": self._truncated,
            "confidence": confidence,
            "pass_threshold": self.threshold,
            "reward": self.rewards.told(confidence, shares=True),
            "passed": _dict(clustered_mean(reached, confidence)),
            "pass_at_k": self._passes(most, confidence, every=False),
            "pass_all_k": self._passes(most, confidence, every=True),
            "histogram": [[one.low, one.high, one.count] for one in histogram(values)],
            "metrics": {name: told for name, spread in self._metrics.items() if (told := spread.told(confidence))},
            "errors": [
                {"error": name, "count": count, "message": self._sentences[name]}
                for name, count in self._errors.most_common()
            ],
            "stop_conditions": dict(self._stops.most_common()),
            "amounts": {
                name: {"total": math.fsum(found), "mean": math.fsum(found) / len(found), "count": len(found)}
                for name, found in self._totals.items()
            },
        }

    def _passes(self, most: int, confidence: float, *, every: bool) -> dict[str, Any]:
        found = {
            str(k): pass_at_k(self.rewards.groups, k, self.threshold, every=every, confidence=confidence)
            for k in (powers_of_two(most) if most > 1 else [])
        }
        return {k: one.to_dict() for k, one in found.items() if one is not None}


def _dict(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.to_dict()


def summarize_rollouts(rows: Iterable[Mapping[str, Any]], threshold: float = 0.5) -> dict[str, Any]:
    """The summary of rows of results.jsonl."""
    summary = Summary(threshold)
    for row in rows:
        error = row.get("error")
        named = error if isinstance(error, Mapping) else {}
        usage = row.get("token_usage")
        timing = row.get("timing")
        metrics = row.get("metrics")
        summary.add(
            row.get("example_id"),
            row.get("reward"),
            metrics=metrics if isinstance(metrics, Mapping) else None,
            error=str(named.get("error") or "Error") if error else None,
            sentence=str(named.get("message") or error) if error else None,
            stop=row.get("stop_condition") if isinstance(row.get("stop_condition"), str) else None,
            truncated=row.get("is_truncated") is True,
            amounts={
                **(usage if isinstance(usage, Mapping) else {}),
                **({"seconds": timing.get("total")} if isinstance(timing, Mapping) else {}),
            },
        )
    return summary.told()
