"""Numbers with their uncertainty: means that respect that several rollouts are of one example, pass@k and pass^k.

What a run tells is about the examples it might have been given: another run would draw other ones. Rollouts of one example
resemble each other, so they count as one cluster; treating them as independent makes intervals too narrow. Formulas and
sources: docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prime_evals.distributions import normal_quantile, t_quantile

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the interval around it.

    `low` and `high` are None where the data cannot tell (one example, and no count of successes). `count`: values that went
    in; `clusters`: examples they are of.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    count: int
    clusters: int
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return asdict(self)


def number(value: Any) -> float | None:
    """A score as a number: True is 1.0; None for what is none (None, NaN, an infinity, text)."""
    if isinstance(value, bool | int | float):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def by_example(pairs: Iterable[tuple[Hashable, Any]]) -> dict[Hashable, list[float]]:
    """Values in groups of their examples, without those that are no numbers."""
    groups: dict[Hashable, list[float]] = {}
    for example, value in pairs:
        if (found := number(value)) is not None:
            groups.setdefault(example, []).append(found)
    return groups


def clustered_mean(
    groups: Mapping[Any, Sequence[float]], confidence: float = CONFIDENCE, *, shares: bool = True
) -> Estimate | None:
    """The mean of all values, and its interval from the spread between examples; None of nothing.

    With n values x_gi in G examples g and their mean m, the cluster-robust standard error (Miller, "Adding Error Bars to
    Evals", 2024, eq. 4; Liang and Zeger 1986) is

        SE = sqrt(G / (G - 1)) * sqrt(sum_g (sum_i (x_gi - m))^2) / n

    and the interval m ± t(G - 1) * SE. Values that are all 0 or 1 get an interval inside [0, 1]: Wilson's for single
    rollouts, and where SE is 0, with G in place of n; unless `shares` says that they are no successes and failures.
    """
    groups = {example: values for example, values in groups.items() if values}
    values = [value for found in groups.values() for value in found]
    if not values:
        return None
    count, clusters = len(values), len(groups)
    mean = math.fsum(values) / count
    binary = shares and all(value in (0.0, 1.0) for value in values)
    error = None
    if clusters > 1:
        residues = (math.fsum(value - mean for value in found) for found in groups.values())
        error = math.sqrt(clusters / (clusters - 1) * math.fsum(residue**2 for residue in residues)) / count
        # What only rounding has left of equal values is no spread.
        error = 0.0 if error <= 1e-12 * max(1.0, abs(mean)) else error
    return _around(mean, error, count, clusters, confidence, share=binary, single=count == clusters)


def pass_at_k(
    groups: Mapping[Any, Sequence[float]],
    k: int,
    threshold: float = 0.5,
    *,
    every: bool = False,
    confidence: float = CONFIDENCE,
) -> Estimate | None:
    """pass@k, the chance that one of k rollouts of an example reaches `threshold`; with `every` pass^k, that each does.

    Of an example with n >= k rollouts of which c passed: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, "Evaluating Large
    Language Models Trained on Code", eq. 1), and C(c, k) / C(n, k) (Yao et al. 2024, tau-bench); the mean over examples, with
    Student's interval from the spread between them. None where no example has k rollouts.
    """
    chances = []
    for values in groups.values():
        n, c = len(values), sum(1 for value in values if value >= threshold)
        if n >= k:
            chances.append(math.comb(c, k) / math.comb(n, k) if every else 1 - math.comb(n - c, k) / math.comb(n, k))
    if not chances:
        return None
    clusters = len(chances)
    mean = math.fsum(chances) / clusters
    error = None
    if clusters > 1:
        error = math.sqrt(math.fsum((chance - mean) ** 2 for chance in chances) / (clusters - 1) / clusters)
        error = 0.0 if error <= 1e-12 else error
    single = all(chance in (0.0, 1.0) for chance in chances)
    return _around(mean, error, clusters, clusters, confidence, share=True, single=single)


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4 … up to `most`: the k that are told of."""
    return [1 << power for power in range(most.bit_length())] if most > 0 else []


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share of `count` independent successes and failures; never empty, never outside
    [0, 1].
    """
    z = normal_quantile((1 + confidence) / 2)
    wide = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / wide
    half = z / wide * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _around(
    mean: float, error: float | None, count: int, clusters: int, confidence: float, *, share: bool, single: bool
) -> Estimate:
    """`share`: the values are chances; `single`: each stands alone and is 0 or 1, or each example has one."""
    if share and (single or not error):
        low, high = wilson(min(1.0, max(0.0, mean)), clusters, confidence)
        return Estimate(mean, low, high, error, count, clusters, confidence)
    if error is None:
        return Estimate(mean, None, None, None, count, clusters, confidence)
    half = t_quantile(confidence, clusters - 1) * error
    low, high = mean - half, mean + half
    if share:
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(mean, low, high, error, count, clusters, confidence)
