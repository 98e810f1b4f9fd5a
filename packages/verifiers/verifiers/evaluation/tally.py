"""Where a run stands, added up as it goes: each finished rollout costs the same, however many there are."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

CONFIDENCE = 0.95


@lru_cache(1024)
def _quantile(freedom: int) -> float:
    from prime_evals.distributions import t_quantile

    return t_quantile(CONFIDENCE, freedom)


@dataclass(slots=True)
class ClusteredMean:
    """A running mean and its standard error where several values belong to one example.

    Rollouts of one example resemble each other, so examples count, not rollouts: with n_g values of sum s_g in each of G
    examples and the mean m over all N, variance = G/(G-1) · Σ(s_g - m·n_g)² / N². (Cameron & Miller, "A Practitioner's
    Guide to Cluster-Robust Inference", 2015.)
    """

    count: int = 0
    total: float = 0.0
    _groups: dict[Any, tuple[int, float]] = field(default_factory=dict)
    _sums: tuple[float, float, float] = (0.0, 0.0, 0.0)  # Σ s², Σ s·n, Σ n²

    def add(self, group: Any, value: float) -> None:
        """One value of an example."""
        n, s = self._groups.get(group, (0, 0.0))
        self._groups[group] = (n + 1, s + value)
        ss, sn, nn = self._sums
        m, t = n + 1, s + value
        self._sums = (ss + t * t - s * s, sn + t * m - s * n, nn + m * m - n * n)
        self.count += 1
        self.total += value

    @property
    def mean(self) -> float | None:
        """None of nothing."""
        return self.total / self.count if self.count else None

    @property
    def half_interval(self) -> float | None:
        """Half of the 95 % interval: Student's t for as many examples, times the standard error."""
        error = self.standard_error
        return None if error is None else _quantile(len(self._groups) - 1) * error

    @property
    def standard_error(self) -> float | None:
        """None where fewer than two examples have a value."""
        groups = len(self._groups)
        if groups < 2:
            return None
        ss, sn, nn = self._sums
        m = self.total / self.count
        spread = max(0.0, ss - 2 * m * sn + m * m * nn)
        return math.sqrt(groups / (groups - 1) * spread) / self.count


@dataclass(slots=True)
class Progress:
    """Where a run stands. `finished` counts the `resumed` ones too; `retries` attempts of whole rollouts,
    `request_retries` requests to the model; `unscored_yet` rollouts that are played and wait for the others of their
    example. Tokens and `cost` (USD) are of finished rollouts; `cost` is None where no price is known.
    """

    total: int
    finished: int = 0
    resumed: int = 0
    running: int = 0
    unscored_yet: int = 0
    retries: int = 0
    request_retries: int = 0
    last_request_retry: str = ""
    errors: int = 0
    errors_by_type: Counter[str] = field(default_factory=Counter)
    rewards: ClusteredMean = field(default_factory=ClusteredMean)
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    started_at: float = field(default_factory=time.monotonic)

    @property
    def scored(self) -> int:
        """Rollouts with a reward."""
        return self.rewards.count

    @property
    def waiting(self) -> int:
        """Rollouts that have not begun."""
        return max(0, self.total - self.finished - self.running - self.unscored_yet)

    def add(self, output: Mapping[str, Any]) -> None:
        """Count one finished rollout."""
        self.finished += 1
        if (error := output.get("error")) is not None:
            self.errors += 1
            self.errors_by_type[str(error.get("error", "Error"))] += 1
        if (reward := output.get("reward")) is not None:
            self.rewards.add(output.get("example_id"), float(reward))
        usage = output.get("token_usage") or {}
        self.input_tokens += int(usage.get("input_tokens", 0))
        self.output_tokens += int(usage.get("output_tokens", 0))
        if (cost := usage.get("cost")) is not None:
            self.cost = (self.cost or 0.0) + float(cost)

    def rate(self, clock: Callable[[], float] = time.monotonic) -> float | None:
        """Rollouts of this session a second; None before the first has finished."""
        played, seconds = self.finished - self.resumed, clock() - self.started_at
        return played / seconds if played and seconds > 0 else None
