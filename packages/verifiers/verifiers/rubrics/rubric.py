"""Rubric: reward functions with weights."""

from __future__ import annotations

import asyncio
import logging
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any

from verifiers.decorators import marked
from verifiers.errors import Error, is_unscored, typed
from verifiers.parsers.parser import Parser
from verifiers.types import State
from verifiers.utils.async_utils import (
    call_all,
    ends_only_its_rollout,
    function_name,
    maybe_await,
    maybe_call_with_named_args,
    parameter_names,
)

GROUP_ARGUMENTS = frozenset({"states", "prompts", "completions", "answers", "tasks", "infos"})


class Rubric:
    """Scores a rollout with functions that name what they want to see.

    A function may take any of prompt, completion, answer, state, info, task, parser, the objects added by
    `add_class_object`, and the dataset's other columns; sync or async. One that takes a plural (states, prompts, …)
    or is annotated to return a list scores all rollouts of an example at once. The reward is the weighted sum; weight
    0.0 makes a metric. A function that raises is logged and counts 0.0, but for what says nothing about the model (a
    lost sandbox, a judge that does not answer: InfraError, ModelError): that rollout stays unscored, with the error.
    """

    def __init__(
        self,
        funcs: Sequence[Callable[..., Any]] | None = None,
        weights: Sequence[float] | None = None,
        parser: Parser | None = None,
    ) -> None:
        self.logger = logging.getLogger(f"verifiers.{type(self).__name__}")
        if callable(funcs):
            name = getattr(funcs, "__name__", "function")
            raise TypeError(
                f"Reward functions are given as a list, also a single one: {type(self).__name__}([{name}])."
            )
        self.funcs = list(funcs or [])
        self.weights = [1.0] * len(self.funcs) if not weights else list(weights)
        if len(self.weights) != len(self.funcs):
            raise ValueError(
                f"Number of weights ({len(self.weights)}) must match number of functions ({len(self.funcs)})"
            )
        self.parser = parser or Parser()
        self.class_objects: dict[str, Any] = {"parser": self.parser}
        self._cleanups: list[Callable[..., Any]] = []

    def add_reward_func(self, func: Callable[..., Any], weight: float = 1.0) -> None:
        """Add a function to the reward."""
        self.funcs.append(func)
        self.weights.append(weight)

    def add_metric(self, func: Callable[..., Any], weight: float = 0.0) -> None:
        """Add a function that is reported but not rewarded."""
        self.add_reward_func(func, weight)

    def add_class_object(self, name: str, obj: Any) -> None:
        """Make `obj` available to functions that take an argument called `name`."""
        self.class_objects[name] = obj

    def add_cleanup_handler(self, handler: Callable[..., Any]) -> None:
        """Call `handler(state)` after a rollout was scored."""
        self._cleanups.append(handler)

    def get_reward_func_names(self) -> list[str]:
        """The names under which the functions appear in the metrics."""
        return [function_name(func) for func in self.funcs]

    def get_reward_weights(self) -> list[float]:
        """The weights, in the functions' order."""
        return self.weights

    def has_group_functions(self) -> bool:
        """Whether some function scores all rollouts of an example at once, so that they must wait for each other."""
        return any(is_group_function(func) for func in self.funcs) or type(self).score_group is not Rubric.score_group

    async def _call(self, func: Callable[..., Any], state: State) -> float:
        row = state["input"]
        available = {
            **{key: value for key, value in row.items() if isinstance(key, str) and key != "rollout_index"},
            "prompt": state["prompt"],
            "completion": state.get("completion"),
            "answer": state.get("answer", ""),
            "state": state,
            "info": state.get("info", {}),
            "task": state.get("task"),
            **self.class_objects,
        }
        try:
            return _finite(await maybe_call_with_named_args(func, **available))
        except BaseException as error:
            if not ends_only_its_rollout(error) or (isinstance(error, Error) and is_unscored(error)):
                raise
            if not isinstance(error, Exception):  # it has left, or waited for what was cancelled: no score at all
                raise typed(error) from error
            self.logger.error("Error calling reward function %s: %s", function_name(func), error)
            note_failure(state, func, error)
            return 0.0

    async def _call_group(self, func: Callable[..., Any], states: list[State]) -> list[float]:
        plurals = {
            "prompts": "prompt",
            "completions": "completion",
            "answers": "answer",
            "tasks": "task",
            "infos": "info",
        }
        available = {
            **{plural: [state.get(single) for state in states] for plural, single in plurals.items()},
            "states": states,
            **self.class_objects,
        }
        try:
            scores = [_finite(score) for score in await maybe_call_with_named_args(func, **available)]
            if len(scores) != len(states):
                raise ValueError(f"it returned {len(scores)} scores for {len(states)} rollouts")
            return scores
        except BaseException as error:
            if not ends_only_its_rollout(error) or (isinstance(error, Error) and is_unscored(error)):
                raise
            if not isinstance(error, Exception):  # it has left, or waited for what was cancelled: no score at all
                raise typed(error) from error
            self.logger.error("Error calling group reward function %s: %s", function_name(func), error)
            for state in states:
                note_failure(state, func, error)
            return [0.0] * len(states)

    async def score_rollout(self, state: State) -> None:
        """Set reward and metrics of one state; a group function sees a group of one."""
        await self._evaluate([state])

    async def score_group(self, states: list[State]) -> None:
        """Set reward, metrics and advantage (reward minus the group's mean) of the rollouts of one example."""
        await self._evaluate(states)
        set_advantages(states)

    async def _evaluate(self, states: list[State]) -> None:
        totals = [0.0] * len(states)
        metrics: list[dict[str, float]] = [{} for _ in states]
        lost: dict[int, Error] = {}
        for func, weight in zip(self.funcs, self.weights, strict=True):
            for index, score in enumerate(await self._scores(func, states, lost)):
                totals[index] += score * weight
                metrics[index][function_name(func)] = score
        for index, (state, total, metric) in enumerate(zip(states, totals, metrics, strict=True)):
            state["reward"], state["metrics"] = total, metric
            if index in lost:
                state["reward"], state["metrics"], state["error"] = None, None, lost[index]

    async def _scores(self, func: Callable[..., Any], states: list[State], lost: dict[int, Error]) -> list[float]:
        """One function's scores; those that cannot be had are 0.0 here, and why is put into `lost` by position."""

        async def one(index: int) -> float:
            if index in lost:
                return 0.0
            try:
                return await self._call(func, states[index])
            except Error as error:
                lost[index] = error
                return 0.0

        if not is_group_function(func):
            if len(states) == 1:
                return [await one(0)]
            return await asyncio.gather(*(one(index) for index in range(len(states))))
        try:
            return await self._call_group(func, states)
        except Error as error:
            lost.update(dict.fromkeys(range(len(states)), error))
            return [0.0] * len(states)

    async def cleanup(self, state: State) -> None:
        """After scoring: the added handlers, then `@vf.cleanup` methods."""
        await call_all(self._cleanups, lambda one: maybe_await(one(state)), "Cleanup", self.logger)
        methods = marked(self, "cleanup")
        await call_all(methods, lambda one: maybe_call_with_named_args(one, state=state), "Cleanup", self.logger)

    async def teardown(self) -> None:
        """At the end of a run: `@vf.teardown` methods."""
        await call_all(marked(self, "teardown"), lambda one: maybe_await(one()), "Teardown", self.logger)


def note_failure(state: State, func: Callable[..., Any], error: BaseException) -> None:
    """Remember in `state["reward_errors"]`, by name, why a function counted 0.0."""
    state.setdefault("reward_errors", {})[function_name(func)] = f"{type(error).__name__}: {error}"


def set_advantages(states: Sequence[State]) -> None:
    """Advantage = reward minus the mean of the scored rollouts; steps inherit reward and advantage where they have
    none. What the steps had before is kept in `state["turn_rewards"]`, empty where that was nothing.
    """
    for state in states:
        given = [step["reward"] for step in state["trajectory"]]
        # Of the first time only: scored again, a step has what it inherited.
        state.setdefault("turn_rewards", given if any(one is not None for one in given) else [])
    scored = [state for state in states if state.get("reward") is not None]
    mean = sum(state["reward"] for state in scored) / len(scored) if scored else 0.0
    for state in scored:
        state["advantage"] = state["reward"] - mean
        for step in state["trajectory"]:
            if step["reward"] is None:
                step["reward"] = state["reward"]
            if step["advantage"] is None:
                step["advantage"] = state["advantage"]


def is_group_function(func: Callable[..., Any]) -> bool:
    """Whether `func` takes a plural argument or is annotated to return a list."""
    if GROUP_ARGUMENTS & set(parameter_names(func)[0]):
        return True
    returned = getattr(func, "__annotations__", {}).get("return")
    if isinstance(returned, str):
        return returned.lower().startswith(("list", "typing.list", "sequence"))
    return (typing.get_origin(returned) or returned) in (list, Sequence)


def _finite(score: Any) -> float:
    """The score as a number that can be averaged. Raises ValueError for nan and infinity."""
    value = float(score)
    if not math.isfinite(value):
        raise ValueError(f"it returned {value}")
    return value
