"""The two distributions that intervals and tests take, in closed form, so that nothing has to be installed for them.

The normal one is the standard library's. Student's t has a finite sum for whole degrees of freedom (Abramowitz and Stegun,
Handbook of Mathematical Functions, 26.7.3 and 26.7.4); its quantiles are found by halving. tests/evals compares both with
values that scipy gave.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()
_EXACT_UP_TO = 2_000
"""Degrees of freedom. Beyond, the expansion for many of them is exact to more digits than anybody prints."""


def normal_quantile(probability: float) -> float:
    """The point below which a standard normal value lies with this probability, in (0, 1)."""
    return _NORMAL.inv_cdf(probability)


def t_within(bound: float, freedom: int) -> float:
    """How likely a value of Student's t lies between `-bound` and `bound`; `freedom` >= 1 is a whole number."""
    if freedom < 1 or bound < 0:
        raise ValueError("Student's t takes at least one degree of freedom, and a bound of zero or more.")
    if math.isinf(bound):
        return 1.0
    if freedom > _EXACT_UP_TO:
        # Wallace's normal transformation of t.
        z = math.sqrt(freedom * math.log1p(bound * bound / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
        return 2 * _NORMAL.cdf(z) - 1
    angle = math.atan2(bound, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (step + 1) / (step + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def t_quantile(confidence: float, freedom: int) -> float:
    """The bound between whose negative and itself a value of Student's t lies with this probability, in (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence lies between 0 and 1, and is not {confidence}.")
    low, high = 0.0, 1.0
    while t_within(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def fair_coin(heads: int, tails: int) -> float:
    """How likely a fair coin falls at least as unevenly as this, either way (the exact two-sided sign test); 1.0 of none."""
    total = heads + tails
    if heads == tails:
        return 1.0
    few = min(heads, tails)
    return min(1.0, 2 * sum(math.comb(total, count) for count in range(few + 1)) / 2**total)
