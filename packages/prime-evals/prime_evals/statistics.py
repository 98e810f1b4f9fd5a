"""Averages over rollouts that were scored. Unscored ones (`reward` None) are counted, never averaged as zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Output = Mapping[str, Any]


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of nothing."""
    return sum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The population standard deviation, or None of nothing."""
    centre = mean(values)
    return None if centre is None else math.sqrt(sum((value - centre) ** 2 for value in values) / len(values))


def is_scored(output: Output) -> bool:
    """Whether the rollout says something about the model."""
    return output.get("reward") is not None


def rewards(outputs: Iterable[Output]) -> list[float]:
    """The rewards of the scored rollouts."""
    return [float(output["reward"]) for output in outputs if is_scored(output)]


def average_metrics(outputs: Iterable[Output]) -> dict[str, float]:
    """The mean of every metric over the scored rollouts that have it, in order of first appearance."""
    values: dict[str, list[float]] = {}
    for output in outputs:
        if is_scored(output):
            for name, value in (output.get("metrics") or {}).items():
                if value is not None:
                    values.setdefault(name, []).append(float(value))
    return {name: sum(found) / len(found) for name, found in values.items()}


def pass_at(outputs: Iterable[Output], rollouts: int, threshold: float) -> tuple[dict[str, float], dict[str, float]]:
    """(pass@k, pass^k) for k = 1, 2, 4 … up to `rollouts`: the chance that one, or each, of k rollouts reaches
    `threshold`.

    Unbiased estimates from n scored rollouts of an example of which c passed: 1 - C(n-c, k)/C(n, k) and C(c, k)/C(n,
    k), averaged over the examples with at least k scored rollouts. Empty for single rollouts.
    """
    counts: dict[Any, list[int]] = {}
    for output in outputs:
        if is_scored(output):
            count = counts.setdefault(output.get("example_id"), [0, 0])
            count[0] += 1
            count[1] += float(output["reward"]) >= threshold
    some: dict[str, float] = {}
    every: dict[str, float] = {}
    k = 1
    while rollouts > 1 and k <= rollouts:
        enough = [(n, c) for n, c in counts.values() if n >= k]
        if enough:
            some[str(k)] = sum(1 - math.comb(n - c, k) / math.comb(n, k) for n, c in enough) / len(enough)
            every[str(k)] = sum(math.comb(c, k) / math.comb(n, k) for n, c in enough) / len(enough)
        k *= 2
    return some, every


def average_usage(outputs: Iterable[Output]) -> dict[str, float] | None:
    """Mean tokens of a rollout, where the endpoint counted any; `cost` in USD is the mean of those whose price is known, and
    `total_cost` their sum.
    """
    counted = [usage for output in outputs if (usage := output.get("token_usage"))]
    if not any(any(usage.values()) for usage in counted):
        return None
    names = list(dict.fromkeys(name for usage in counted for name in usage))
    sums = {name: sum(float(usage.get(name, 0)) for usage in counted) for name in names}
    average = {name: value / len(counted) for name, value in sums.items()}
    if "cost" not in sums:
        return average
    priced = sum(1 for usage in counted if "cost" in usage)
    return {**average, "cost": sums["cost"] / priced, "total_cost": sums["cost"]}


def errors_by_type(outputs: Iterable[Output]) -> dict[str, tuple[int, str]]:
    """How often each kind of error ended a rollout, and one sentence of it, most frequent first."""
    found: dict[str, tuple[int, str]] = {}
    for output in outputs:
        error = output.get("error")
        if error:
            name = str(error.get("error", "Error"))
            count, sentence = found.get(name, (0, str(error.get("message") or error.get("error_chain_repr") or name)))
            found[name] = (count + 1, sentence)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))
