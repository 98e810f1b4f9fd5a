"""Rewards: numbers, in their range, and worth learning from. Of the server's steps, or of the rubric where there is none."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from prime_core.checks.report import Verdict, failed, passed, skipped
from verifiers.checking import loading
from verifiers.checking.case import Case
from verifiers.checking.package import openenv_yaml, settings
from verifiers.checking.playing import Policy

SEEDS = (1, 2, 3, 4)
POLICIES: tuple[Policy, ...] = ("first", "random")
RUBRIC = "the rubric"


async def _rewards(case: Case) -> dict[str, list[list[float]]]:
    """The rewards of each step of each episode, by policy; of a rubric there is one a rollout."""
    if case.target.source is None and case.target.prepare is None:
        played = await loading.rollouts(case)
        return {
            policy: [[reward] for reward in played.rewards(policy) if reward is not None] for policy in played.policies
        }
    return {policy: [(await case.episode(seed, policy)).rewards for seed in SEEDS] for policy in POLICIES}


def _where(case: Case) -> str:
    return RUBRIC if case.target.source is None else f"{case.where}, step"


async def reward_not_finite(case: Case) -> Verdict:
    """A server's reward that is no number is blamed on this id wherever it is met."""
    rewards = [reward for episodes in (await _rewards(case)).values() for episode in episodes for reward in episode]
    if case.target.source is None and (wrong := loading.unusable(await loading.rollouts(case))):
        return failed(
            "reward-not-finite",
            f"A reward cannot be averaged or learnt from. {wrong[0]}",
            RUBRIC,
            "Give a finite number; look for divisions by zero and logarithms of 0.",
        )
    return passed() if rewards else skipped("No step gave a reward.")


async def reward_out_of_range(case: Case) -> Verdict:
    declared = _range(case)
    if declared is None:
        return skipped("No range is declared (reward_range in [tool.verifiers.check], or openenv.yaml's validation).")
    low, high, where = declared
    rewards = [reward for episodes in (await _rewards(case)).values() for episode in episodes for reward in episode]
    outside = [reward for reward in rewards if not low <= reward <= high]
    if not outside:
        return passed(reward_range=[low, high])
    return failed(
        "reward-out-of-range",
        f"A reward of {outside[0]:g} lies outside the declared range from {low:g} to {high:g}.",
        _where(case),
        f"Keep rewards within it, or correct the range in {where}.",
        reward_range=[low, high],
    )


def _range(case: Case) -> tuple[float, float, str] | None:
    folder = case.target.folder
    if folder is None:
        return None
    validation = openenv_yaml(folder).get("validation")
    reward = validation.get("reward") if isinstance(validation, dict) else None
    for value, where in (
        (settings(folder).get("reward_range"), "pyproject.toml, [tool.verifiers.check]"),
        (reward.get("range") if isinstance(reward, dict) else None, "proj/openenv.yaml, validation.reward.range"),
    ):
        if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
            return float(value[0]), float(value[1]), where
    return None


async def reward_constant(case: Case) -> Verdict:
    by_policy = await _rewards(case)
    sums = {policy: [math.fsum(episode) for episode in episodes if episode] for policy, episodes in by_policy.items()}
    everything = [value for values in sums.values() for value in values if math.isfinite(value)]
    facts = _facts(sums)
    if not everything:
        return skipped("No step gave a reward.", **facts)
    if max(everything) > min(everything):
        return passed(**facts)
    if len(everything) < 2:
        return skipped("Only one episode was rewarded, so there is nothing to compare.", **facts)
    if everything[0] == 0:
        return skipped("Every episode was worth 0, as at random in a hard task or in a broken one.", **facts)
    return failed(
        "reward-constant",
        f"All {len(everything)} episodes were worth {everything[0]:g}, whatever was done in them.",
        _where(case),
        "Let the reward depend on the actions; a constant one teaches nothing.",
        **facts,
    )


def _facts(sums: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The floor (what always doing the first thing is worth), and how random play spreads."""
    facts: dict[str, Any] = {}
    first, chance = sums.get("first", ()), sums.get("random", ())
    if first:
        facts["reward_floor"] = round(fmean(first), 6)
    if chance:
        facts["reward_random_mean"] = round(fmean(chance), 6)
        facts["reward_random_spread"] = round(pstdev(chance), 6)
    values = [value for some in sums.values() for value in some]
    if values:
        facts["reward_lowest"], facts["reward_highest"] = round(min(values), 6), round(max(values), 6)
    return {name: value for name, value in facts.items() if math.isfinite(value)}


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "reward-not-finite": reward_not_finite,
    "reward-out-of-range": reward_out_of_range,
    "reward-constant": reward_constant,
}
