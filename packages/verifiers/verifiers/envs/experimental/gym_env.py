"""GymEnv: an environment of the Gymnasium API, or of the older Gym, played in words.

The constructor is the one of the official documentation (API, GymEnv); `max_action_errors` is ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from verifiers.data import RowTable
from verifiers.decorators import cleanup, stop
from verifiers.envs.multiturn_env import MultiTurnEnv
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages, Response, State, TimeSpan, UserMessage
from verifiers.utils.async_utils import maybe_await
from verifiers.utils.optional import require


class StepResetEnv(Protocol):
    """What is played: `reset(seed=…)` and `step(action)`; `close()` where there is one. Sync or async."""

    def reset(self, *, seed: int) -> Any:
        """(observation, info), or the observation alone."""

    def step(self, action: Any) -> Any:
        """(observation, reward, terminated, truncated, info), or Gym's older (observation, reward, done, info)."""


def sum_step_rewards(state: State) -> float:
    """The rewards of all steps of the episode, added up."""
    return float(sum(step.get("reward") or 0.0 for step in state.get("trajectory", [])))


def gym_action_errors(state: State) -> float:
    """How many replies were no action."""
    return float(state.get("gym_action_errors", 0))


class EpisodicSumRubric(Rubric):
    """The default: the sum of the step rewards, as metric `sum_step_rewards` too."""

    def __init__(self, weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(funcs=[sum_step_rewards], weights=[weight], **kwargs)


def observation_text(observation: Any) -> str:
    """Text as it is; arrays, numbers and what is made of them as JSON; all else as `str` shows it."""
    if isinstance(observation, str):
        return observation
    try:
        return json.dumps(observation, default=lambda value: value.tolist(), ensure_ascii=False)
    except (AttributeError, TypeError, ValueError):
        return str(observation)


class GymEnv(MultiTurnEnv):
    """Each reply is an action, stepped at once, so that the last one counts like every other; nothing is asked of the
    model after the end of the episode. The step's reward is the trajectory step's, its `info` is in the step's extras.

    env_cls: makes the environment of each rollout, with env_kwargs; a text is an id for `gymnasium.make`.
    action_parser: turns what `parser` (default: the whole reply) has found into an action; default: the text itself. When
        it raises, or the environment's `action_space` has no such action, the model is told, and after `max_action_errors`
        times in a row the episode ends.
    obs_to_text: what the model sees of an observation; default `observation_text`.
    num_train_episodes, num_eval_episodes, seed: rows hold the seeds seed, seed+1, …: first train, then eval.
    max_episode_steps: the same as max_turns; None for no limit.
    rubric: default EpisodicSumRubric.
    """

    def __init__(
        self,
        env_cls: Callable[..., Any] | str,
        env_kwargs: Mapping[str, Any] | None = None,
        action_parser: Callable[[str], Any] | None = None,
        obs_to_text: Callable[[Any], str] | None = None,
        num_train_episodes: int = 1000,
        num_eval_episodes: int = 20,
        max_episode_steps: int | None = None,
        seed: int = 0,
        rubric: Rubric | None = None,
        max_action_errors: int = 10,
        **kwargs: Any,
    ) -> None:
        if num_train_episodes < 0 or num_eval_episodes < 0 or num_train_episodes + num_eval_episodes == 0:
            raise ValueError("GymEnv needs num_train_episodes or num_eval_episodes above 0, and neither below.")
        self.env_cls = _maker(env_cls) if isinstance(env_cls, str) else env_cls
        self.env_kwargs = dict(env_kwargs or {})
        self.action_parser = action_parser or str
        self.obs_to_text = obs_to_text or observation_text
        self.max_action_errors = max_action_errors
        train, held_out = seed + num_train_episodes, seed + num_train_episodes + num_eval_episodes
        if max_episode_steps is not None:
            kwargs["max_turns"] = max_episode_steps
        super().__init__(
            dataset=(lambda: _rows(seed, train)) if num_train_episodes else None,
            eval_dataset=(lambda: _rows(train, held_out)) if num_eval_episodes else None,
            rubric=rubric or EpisodicSumRubric(),
            **kwargs,
        )
        self.add_rubric(Rubric(funcs=[gym_action_errors], weights=[0.0]))

    async def setup_state(self, state: State, **kwargs: Any) -> State:
        """Make the rollout's environment, reset it with the row's seed, show the first observation."""
        await super().setup_state(state)
        state["gym_done"] = False
        state["gym_action_errors"] = state["gym_errors_in_a_row"] = 0
        state["gym_env"] = env = self.env_cls(**self.env_kwargs)
        answer = await maybe_await(env.reset(seed=state["info"].get("seed", state["example_id"])))
        first = answer[0] if isinstance(answer, tuple) and len(answer) == 2 else answer
        state["prompt"] = [*state["prompt"], UserMessage(self.obs_to_text(first))]
        return state

    async def add_model_response(self, state: State, prompt_messages: Messages, response: Response) -> None:
        """Step at once."""
        await super().add_model_response(state, prompt_messages, response)
        step = state["trajectory"][-1]
        step["reward"] = 0.0
        try:
            action = self._action(state["gym_env"], self.parser.parse_answer([response.message]) or "")
        except Exception as error:
            state["gym_action_errors"] += 1
            state["gym_errors_in_a_row"] += 1
            state["gym_next"] = [UserMessage(f"Error: {error}")]
            return
        state["gym_errors_in_a_row"] = 0
        span = TimeSpan(start=time.time())
        state["timing"].env.spans.append(span)
        try:
            observation, reward, *ended, info = await maybe_await(state["gym_env"].step(action))
        finally:
            span.end = time.time()
        step["reward"] = float(reward or 0.0)
        step["extras"]["gym"] = {"ended": [bool(flag) for flag in ended], "info": info}
        state["gym_done"] = any(ended)
        state["gym_next"] = [UserMessage(self.obs_to_text(observation))]

    def _action(self, env: Any, text: str) -> Any:
        action = self.action_parser(text)
        space = getattr(env, "action_space", None)
        if space is not None and not space.contains(action):
            raise ValueError(f"{action!r} is no action of {space}.")
        return action

    async def env_response(self, messages: Messages, state: State, **kwargs: Any) -> Messages:
        """What the step that was already taken has shown."""
        return state.pop("gym_next", [])

    @stop(priority=10)
    async def gym_done(self, state: State) -> bool:
        """The episode is over."""
        return bool(state.get("gym_done", False))

    @stop
    async def too_many_action_errors(self, state: State) -> bool:
        """The model does not find back to valid actions."""
        return state.get("gym_errors_in_a_row", 0) >= self.max_action_errors > 0

    @cleanup(priority=200)
    async def keep_last_observation(self, state: State) -> None:
        """What the last step has shown belongs to the conversation although no model call follows."""
        shown = state.pop("gym_next", None)
        if shown and state.get("final_env_response") is None:
            state["final_env_response"] = shown

    @cleanup(priority=-100)
    async def close_env(self, state: State) -> None:
        """Close the rollout's environment; after every other cleanup of the rollout."""
        close = getattr(state.pop("gym_env", None), "close", None)
        if close is not None:
            await maybe_await(close())


def _maker(name: str) -> Callable[..., Any]:
    gymnasium = require("gymnasium", "GymEnv with a name for env_cls", "gymnasium>=1.2,<2", "gym")
    return lambda **options: gymnasium.make(name, **options)


def _rows(start: int, end: int) -> RowTable:
    return RowTable({"info": {"seed": seed}} for seed in range(start, end))
