"""RubricGroup: several rubrics as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from verifiers.rubrics.rubric import Rubric, set_advantages
from verifiers.types import State
from verifiers.utils.async_utils import call_all


class RubricGroup(Rubric):
    """Rewards add up, and so do metrics of the same name."""

    def __init__(self, rubrics: Sequence[Rubric], **kwargs: Any) -> None:
        if not rubrics:
            raise ValueError("RubricGroup must have at least one rubric")
        super().__init__(**kwargs)
        self.rubrics = list(rubrics)

    def get_reward_func_names(self) -> list[str]:
        return [name for rubric in self.rubrics for name in rubric.get_reward_func_names()]

    def get_reward_weights(self) -> list[float]:
        return [weight for rubric in self.rubrics for weight in rubric.get_reward_weights()]

    def has_group_functions(self) -> bool:
        return any(rubric.has_group_functions() for rubric in self.rubrics)

    def add_reward_func(self, func: Callable[..., Any], weight: float = 1.0) -> None:
        self.rubrics[0].add_reward_func(func, weight)

    def add_class_object(self, name: str, obj: Any) -> None:
        for rubric in self.rubrics:
            rubric.add_class_object(name, obj)

    async def score_rollout(self, state: State) -> None:
        async def one(rubric: Rubric, states: list[State]) -> None:
            await rubric.score_rollout(states[0])

        await self._sum([state], one)

    async def score_group(self, states: list[State]) -> None:
        async def one(rubric: Rubric, members: list[State]) -> None:
            await rubric.score_group(members)

        untouched = [[(step["reward"], step["advantage"]) for step in state["trajectory"]] for state in states]
        await self._sum(states, one)
        # A child fills step rewards with its own share; the steps get the group's total.
        for state, steps in zip(states, untouched, strict=True):
            for step, (reward, advantage) in zip(state["trajectory"], steps, strict=True):
                step["reward"], step["advantage"] = reward, advantage
        set_advantages(states)

    async def _sum(self, states: list[State], score: Callable[[Rubric, list[State]], Awaitable[None]]) -> None:
        totals = [0.0] * len(states)
        metrics: list[dict[str, float]] = [{} for _ in states]
        before = [(state.get("reward"), state.get("metrics")) for state in states]
        errors = [state.get("error") for state in states]
        for rubric in self.rubrics:
            for state, (reward, metric) in zip(states, before, strict=True):
                state["reward"], state["metrics"] = reward, metric
            await score(rubric, states)
            for index, state in enumerate(states):
                totals[index] += state["reward"] or 0.0
                for name, value in (state["metrics"] or {}).items():
                    metrics[index][name] = metrics[index].get(name, 0.0) + value
        for state, total, metric, error in zip(states, totals, metrics, errors, strict=True):
            state["reward"], state["metrics"] = total, metric
            if state.get("error") is not error:  # what one child could not score has no sum
                state["reward"], state["metrics"] = None, None
                state.pop("advantage", None)

    async def cleanup(self, state: State) -> None:
        everyone = [*self.rubrics, super()]
        await call_all(everyone, lambda one: one.cleanup(state), "Cleanup of", self.logger)

    async def teardown(self) -> None:
        everyone = [*self.rubrics, super()]
        await call_all(everyone, lambda one: one.teardown(), "Teardown of", self.logger)
