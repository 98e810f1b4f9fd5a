"""Two runs of the same examples, example by example: what changed, and whether chance explains it.

Most of the spread of two runs is that some examples are hard, for both; the differences of each example leave it out (Miller
2024, "Adding Error Bars to Evals", section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prime_evals.distributions import fair_coin, t_within
from prime_evals.estimates import CONFIDENCE, Estimate, clustered_mean

Groups = Mapping[Any, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Pair:
    """One example in both runs: the mean of its scored rollouts in each. `flip`: 1 passes only in the second, -1 only in
    the first.
    """

    example: Hashable
    before: float
    after: float
    flip: int

    @property
    def difference(self) -> float:
        """How much better the second is."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second run beside the first, over the examples that both have scored."""

    pairs: Sequence[Pair]
    difference: Estimate | None
    """Of the means of the examples; None without a common example."""
    p_value: float | None
    """Of a difference this large by chance, two-sided: the paired t test; None where one example cannot tell."""
    gained: Sequence[Hashable]
    """Examples that pass in the second run only."""
    lost: Sequence[Hashable]
    flips_p_value: float
    """Of flips this uneven by chance: McNemar's exact test."""
    only_before: Sequence[Hashable] = field(default_factory=tuple)
    only_after: Sequence[Hashable] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pairs that did not flip, as JSON-ready data."""
        return {
            "common_examples": len(self.pairs),
            "difference": None if self.difference is None else self.difference.to_dict(),
            "p_value": self.p_value,
            "gained": list(self.gained),
            "lost": list(self.lost),
            "flips_p_value": self.flips_p_value,
            "only_first": list(self.only_before),
            "only_second": list(self.only_after),
        }


def compare_runs(before: Groups, after: Groups, threshold: float = 0.5, confidence: float = CONFIDENCE) -> Comparison:
    """The second run beside the first. Each maps an example to the rewards of its scored rollouts.

    The difference is the mean over the common examples g of d_g = mean(after_g) - mean(before_g), with Student's interval
    of G values; the test is t = d / SE with G - 1 degrees of freedom. An example passes where at least half of its rollouts
    reach `threshold`.
    """
    common = [example for example, values in before.items() if values and after.get(example)]
    pairs = [_pair(example, before[example], after[example], threshold) for example in common]
    spread = {pair.example: [pair.difference] for pair in pairs}
    gained = [pair.example for pair in pairs if pair.flip > 0]
    lost = [pair.example for pair in pairs if pair.flip < 0]
    found = clustered_mean(spread, confidence, shares=False)
    known = set(common)
    return Comparison(
        pairs,
        found,
        _chance(pairs, found),
        gained,
        lost,
        fair_coin(len(gained), len(lost)),
        [example for example, values in before.items() if values and example not in known],
        [example for example, values in after.items() if values and example not in known],
    )


def unlike(
    first: str, second: str, first_args: Mapping[str, Any] | None = None, second_args: Mapping[str, Any] | None = None
) -> str:
    """A sentence where two runs are of other environments (`owner/name` or `name`), or of one with other arguments: then
    examples of the same number are not the same examples. "" where nothing speaks against comparing them.
    """
    names = [name.rpartition("/")[2].replace("_", "-").lower() for name in (first, second)]
    if all(names) and names[0] != names[1]:
        return (
            f"These are runs of two environments, {first} and {second}: examples of the same number have nothing to do with "
            "each other, so the numbers say nothing."
        )
    given = [dict(first_args or {}), dict(second_args or {})]
    different = [key for key in {**given[0], **given[1]} if given[0].get(key) != given[1].get(key)]
    if not different:
        return ""
    told = "; ".join(
        f"{key}: {given[0].get(key, 'not given')} and {given[1].get(key, 'not given')}" for key in different
    )
    return (
        f"The environment was loaded with other arguments ({told}), so examples of the same number may not be the same."
    )


def _pair(example: Hashable, before: Sequence[float], after: Sequence[float], threshold: float) -> Pair:
    passes = [2 * sum(value >= threshold for value in values) >= len(values) for values in (before, after)]
    return Pair(example, math.fsum(before) / len(before), math.fsum(after) / len(after), passes[1] - passes[0])


def _chance(pairs: Sequence[Pair], found: Estimate | None) -> float | None:
    if found is None or found.standard_error is None:
        return None
    if found.standard_error == 0:
        # All differ alike: then only their signs can be tested.
        return 1.0 if found.value == 0 else fair_coin(len(pairs), 0)
    return 1 - t_within(abs(found.value) / found.standard_error, found.clusters - 1)
