"""EnvGroup: several environments as one, each row played and scored by its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from verifiers.data import RowTable, decode_info
from verifiers.envs.environment import Environment, begun
from verifiers.errors import ScoringTimeoutError
from verifiers.rubrics.rubric import Rubric
from verifiers.types import RolloutInput, State

Route = tuple[str, ...]


class EnvGroup(Environment):
    """A mixture: the rows of all `envs`, one after another, their `example_id` counted anew.

    env_names: default env_0, env_1, …. Each row says in `info["env_id"]` whose it is: a name, or the names from outside
    in where groups are in groups. A row is set up, played, scored and cleaned up by its own environment, whose prompts,
    tools, limits and sampling arguments hold. Evaluation rows are those of the environments that have some.
    set_kwargs and its kin reach all of them. Rows stay a `datasets.Dataset` where all are and have the same columns.
    """

    def __init__(
        self,
        envs: Sequence[Environment],
        env_names: Sequence[str] | None = None,
        map_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not envs:
            raise ValueError("EnvGroup requires at least one environment")
        names = [f"env_{number}" for number in range(len(envs))] if env_names is None else list(env_names)
        if len(names) != len(envs):
            raise ValueError(
                f"Number of env_names must match number of envs: there are {len(names)} names and {len(envs)} envs."
            )
        if len(set(names)) != len(names):
            raise ValueError(f"Each of env_names must be another one: {', '.join(names)}.")
        self.envs = list(envs)
        self.env_names = names
        self.env_map = dict(zip(names, self.envs, strict=True))
        self._given_sampling_args = dict(kwargs.get("sampling_args") or {})
        own = kwargs.pop("rubric", None)
        kwargs.setdefault("scoring_timeout_seconds", None)  # each environment has its own
        has_eval = any(env._eval is not None for env in self.envs)
        has_train = any(env._train is not None for env in self.envs)
        super().__init__(
            dataset=self._train_rows if has_train else None,
            eval_dataset=self._eval_rows if has_eval else None,
            rubric=EnvGroupRubric(self),
            map_kwargs=map_kwargs,
            **kwargs,
        )
        if own is not None:
            self.add_rubric(own)
        for name in ("score_rollouts", "max_seq_len"):
            if name in kwargs:
                self.set_kwargs(**{name: kwargs[name]})

    # Rows

    def _train_rows(self) -> Any:
        there = {name: env for name, env in self.env_map.items() if env._train is not None}
        self._tell_without("training", there)
        return self._joined({name: env.get_dataset() for name, env in there.items()})

    def _eval_rows(self) -> Any:
        there = {name: env for name, env in self.env_map.items() if env._eval is not None}
        self._tell_without("evaluation", there)
        return self._joined({name: env.get_eval_dataset() for name, env in there.items()})

    def _tell_without(self, kind: str, there: Mapping[str, Environment]) -> None:
        left_out = ", ".join(name for name in self.env_names if name not in there)
        if left_out:
            self.logger.warning(
                "These environments of the group have no %s rows and are left out of them: %s", kind, left_out
            )

    def _joined(self, tables: Mapping[str, Any]) -> Any:
        routed = [table.map(_routing(name, self.env_map[name])) for name, table in tables.items()]
        features = [getattr(table, "features", None) for table in routed]
        if features[0] is not None and all(feature == features[0] for feature in features):
            from datasets import concatenate_datasets  # ty: ignore[import-not-found]

            joined = concatenate_datasets(routed)
            return joined.remove_columns(["example_id"]).add_column("example_id", list(range(len(joined))))
        rows = [row for table in routed for row in table]
        return RowTable({**row, "example_id": number} for number, row in enumerate(rows))

    # Routing

    def get_env_for_name(self, name: str) -> Environment:
        """The environment called `name`. Raises ValueError for an unknown one."""
        if name not in self.env_map:
            raise ValueError(
                f"No environment found for info['env_id']={name!r}; there are {', '.join(map(repr, self.env_names))}."
            )
        return self.env_map[name]

    async def rollout(
        self,
        input: RolloutInput | Mapping[str, Any],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
    ) -> State:
        """Have the row played by its environment. Raises ValueError where no environment is its own."""
        route = route_of(input)
        env = self.get_env_for_name(route[0])
        row = {**input, "info": dict(decode_info(input.get("info")))}
        _enter(row["info"], route)
        if len(route) == 1:
            _drop_foreign(row, env)
        with begun() as states:
            try:
                state = await env.rollout(row, client, model, {**self._given_sampling_args, **(sampling_args or {})})
            except BaseException:  # cancelled, as a rule: its environment has cleaned up, and so do we
                for state in states[:1]:
                    state["info"]["env_id"] = _named(route)
                    await self._cleanup(state)
                raise
        state["info"]["env_id"] = _named(route)
        await self._cleanup(state)
        return state

    # Settings

    def set_kwargs(self, **kwargs: Any) -> None:
        """Set attributes here and in every environment."""
        super().set_kwargs(**kwargs)
        for env in self.envs:
            env.set_kwargs(**kwargs)

    def set_score_rollouts(self, score_rollouts: bool) -> None:
        """Whether rollouts are scored, in every environment."""
        self.score_rollouts = score_rollouts
        for env in self.envs:
            env.set_kwargs(score_rollouts=score_rollouts)

    def set_max_seq_len(self, max_seq_len: int | None) -> None:
        """The longest sequence of tokens that is kept for training, in every environment."""
        self.max_seq_len = max_seq_len
        for env in self.envs:
            env.set_kwargs(max_seq_len=max_seq_len)

    async def _teardown(self) -> None:
        await self._all("Teardown of", [*self.envs, super()], lambda one: one._teardown())


class EnvGroupRubric(Rubric):
    """Scores with the rubric of the row's environment; metrics that only others have are 0.0."""

    def __init__(self, group: EnvGroup) -> None:
        super().__init__()
        self.group = group

    def get_reward_func_names(self) -> list[str]:
        names = [name for env in self.group.envs for name in env.rubric.get_reward_func_names()]
        return list(dict.fromkeys(names))

    def has_group_functions(self) -> bool:
        return any(env.rubric.has_group_functions() for env in self.group.envs)

    async def score_rollout(self, state: State) -> None:
        await self._score([state], as_group=False)

    async def score_group(self, states: list[State]) -> None:
        await self._score(states, as_group=True)

    async def _score(self, states: list[State], as_group: bool) -> None:
        members: dict[Route, list[State]] = {}
        for state in states:
            members.setdefault(route_of(state), []).append(state)
        for route, own in members.items():
            env = self.group.get_env_for_name(route[0])
            with inside(own, route):
                try:
                    async with asyncio.timeout(env.scoring_timeout_seconds) as limit:
                        await env._score(own, as_group)
                except TimeoutError:
                    if not limit.expired():
                        raise
                    raise ScoringTimeoutError(
                        f"Scoring in {route[0]!r} took longer than {env.scoring_timeout_seconds:g} seconds "
                        "(scoring_timeout_seconds)."
                    ) from None
        names = self.get_reward_func_names()
        for state in states:
            if state["metrics"] is not None:
                state["metrics"] = {**dict.fromkeys(names, 0.0), **state["metrics"]}

    async def cleanup(self, state: State) -> None:
        route = route_of(state)
        with inside([state], route):
            await self.group.get_env_for_name(route[0]).rubric.cleanup(state)
        await super().cleanup(state)


def route_of(row: Mapping[str, Any]) -> Route:
    """The names from outside in to the environment of a row or state: `info["env_id"]`, or `task` where older rows
    name it there. Raises ValueError where neither says one.
    """
    named = decode_info(row.get("info")).get("env_id")
    if not named and isinstance(row.get("task"), str):
        named = row["task"]
    if not named:
        raise ValueError("This row does not say whose it is: an EnvGroup needs info['env_id'] in every row.")
    return (named,) if isinstance(named, str) else tuple(named)


@contextmanager
def inside(states: Sequence[State], route: Route) -> Generator[None]:
    """Within the block `info` is as the environment at the first step of the route knows it."""
    for state in states:
        _enter(state["info"], route)
    try:
        yield
    finally:
        for state in states:
            state["info"]["env_id"] = _named(route)


def _enter(info: dict[str, Any], route: Route) -> None:
    """Take the first step of the route out of `info`; an environment that is no group sees nothing of it."""
    if len(route) > 1:
        info["env_id"] = _named(route[1:])
    else:
        info.pop("env_id", None)


def _named(route: Sequence[str]) -> str | list[str]:
    return route[0] if len(route) == 1 else list(route)


def _routing(name: str, env: Environment) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def routed(row: Mapping[str, Any]) -> dict[str, Any]:
        inner = route_of(row) if isinstance(env, EnvGroup) else ()
        return {"info": {**decode_info(row.get("info")), "env_id": _named([name, *inner])}}

    return routed


def _drop_foreign(row: dict[str, Any], env: Environment) -> None:
    """Leave out the columns that are empty because only other environments have them."""
    table = env.dataset if env._train is not None else env.eval_dataset
    for name in [name for name, value in row.items() if value is None and name not in table.column_names]:
        del row[name]
