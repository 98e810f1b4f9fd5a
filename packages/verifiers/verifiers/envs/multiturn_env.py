"""MultiTurnEnv: the model and the environment take turns until a stop condition holds."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from verifiers.decorators import cleanup, stop, stop_conditions
from verifiers.envs.environment import Environment
from verifiers.errors import Error, InfraError, ModelError, OverlongPromptError, typed
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages, MessagesLike, Response, RolloutInput, State, TimeSpan, TrajectoryStep
from verifiers.utils.activity import ENVIRONMENT, SETTING_UP, doing
from verifiers.utils.async_utils import ends_only_its_rollout, maybe_await, maybe_call_with_named_args
from verifiers.utils.message_utils import normalize_messages
from verifiers.utils.token_utils import step_tokens

LONGEST_HOLD_SECONDS = 0.01
"""So long at most a rollout keeps the event loop to itself."""


def num_turns(state: State) -> int:
    """How many times the model was asked."""
    return len(state["trajectory"])


class MultiTurnEnv(Environment):
    """Base of environments with more than one turn; subclasses write `env_response`.

    max_turns: model calls at most; -1 for no limit. timeout_seconds: for setting up and playing one rollout; when it
    is over the rollout ends (`stop_condition` "timeout_reached") and is scored as it stands, if the model has answered at
    all; else it ends with an error and is unscored.
    max_total_completion_tokens: sum over the turns.
    """

    def __init__(
        self,
        max_turns: int = -1,
        timeout_seconds: float | None = None,
        max_total_completion_tokens: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_turns = max_turns
        self.timeout_seconds = timeout_seconds
        self.max_total_completion_tokens = max_total_completion_tokens
        self.add_rubric(Rubric(funcs=[num_turns], weights=[0.0]))

    # What a subclass writes or overrides

    async def setup_state(self, state: State, **kwargs: Any) -> State | None:
        """Prepare the state before the first turn, in place; a returned state replaces it."""
        return state

    @abstractmethod
    async def env_response(self, messages: Messages, state: State, **kwargs: Any) -> MessagesLike:
        """What the environment answers to the conversation so far; called before every model turn but the first."""

    async def get_prompt_messages(self, state: State) -> MessagesLike:
        """What the model is shown next."""
        trajectory = state["trajectory"]
        if not trajectory:
            return normalize_messages(state["prompt"])
        # Steps of ours hold messages; those that a subclass has made itself may hold dicts.
        said = normalize_messages(trajectory[-1]["prompt"]) + normalize_messages(trajectory[-1]["completion"])
        length = len(said)
        span = TimeSpan(start=time.time())
        state["timing"].env.spans.append(span)
        try:
            with doing(ENVIRONMENT):
                answer = await maybe_await(self.env_response(said, state))
        finally:
            span.end = time.time()
        # What stood there is not looked through again, so that a turn costs the same however long the conversation is.
        return (said if len(said) == length else normalize_messages(said)) + normalize_messages(answer)

    async def add_model_response(self, state: State, prompt_messages: Messages, response: Response) -> None:
        """Take up the model's answer. An environment that acts on it at once overrides this and calls it first."""
        tokens = None if response.tokens is None else step_tokens(response.tokens, self.max_seq_len)
        step = TrajectoryStep(
            prompt=prompt_messages,
            completion=[response.message],
            response=response,
            tokens=tokens,
            reward=None,
            advantage=None,
            is_truncated=response.is_truncated or (tokens is not None and tokens["is_truncated"]),
            trajectory_id=state["trajectory_id"],
            extras={},
        )
        await self.add_trajectory_step(state, step)

    async def add_trajectory_step(self, state: State, trajectory_step: TrajectoryStep) -> None:
        """Append one step."""
        state["trajectory"].append(trajectory_step)

    # When to stop

    @stop(priority=100)
    async def has_error(self, state: State) -> bool:
        """Something went wrong."""
        return state["error"] is not None

    @stop
    async def prompt_too_long(self, state: State) -> bool:
        """The conversation outgrew the model."""
        return bool(state["prompt_too_long"])

    @stop
    async def max_turns_reached(self, state: State) -> bool:
        """The model has had its turns."""
        return len(state["trajectory"]) >= self.max_turns > 0

    @stop
    async def max_total_completion_tokens_reached(self, state: State) -> bool:
        """The model has used up its tokens."""
        return state["usage"]["output_tokens"] >= self.max_total_completion_tokens > 0

    @stop
    async def has_final_env_response(self, state: State) -> bool:
        """The environment has said its last word."""
        return state["final_env_response"] is not None

    async def is_completed(self, state: State) -> bool:
        """Ask the stop conditions in order; the first that holds completes the rollout."""
        for name, plain in stop_conditions(type(self)):
            condition = getattr(self, name)
            if plain:
                holds = await condition(state)
            else:
                holds = await maybe_call_with_named_args(condition, state=state, env=self)
            if holds:
                self._complete(state, name)
                return True
        return False

    def _complete(self, state: State, condition: str) -> None:
        state["is_completed"] = True
        state["stop_condition"] = condition
        state["is_truncated"] = state["is_truncated"] or any(step["is_truncated"] for step in state["trajectory"])

    @cleanup(priority=100)
    async def render_state(self, state: State) -> None:
        """The whole conversation minus the prompt becomes `state["completion"]`."""
        state["timing"].generation.end = time.time()
        trajectory = state["trajectory"]
        completion: Messages = []
        if trajectory:
            last = trajectory[-1]
            shown = normalize_messages(last["prompt"]) + normalize_messages(last["completion"])
            completion = shown[len(state["prompt"]) :]
        state["completion"] = completion + normalize_messages(state.get("final_env_response"))

    # The loop

    async def rollout(
        self,
        input: RolloutInput | Mapping[str, Any],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
    ) -> State:
        """Set up, take turns, clean up. An exception ends in `state["error"]`, typed; cancellation alone is raised."""
        state = await self.init_state(input, client, model, sampling_args)
        state["timing"].generation.start = time.time()
        try:
            async with asyncio.timeout(self.timeout_seconds) as limit:
                state = await self._set_up(state)
                await self._take_turns(state)
        except TimeoutError:
            if not limit.expired():
                raise
            state["timed_out"] = True
            self._complete(state, "timeout_reached")
            if not state["trajectory"] and state["error"] is None:
                state["error"] = self._nothing_in_time(state)
        finally:
            await self._cleanup(state)
        return state

    def _nothing_in_time(self, state: State) -> Error:
        """Without a single answer there is nothing of the model's to score."""
        limit = f"within the rollout's {self.timeout_seconds:g} seconds (timeout_seconds)"
        if not state["timing"].setup.end:
            return InfraError(f"The environment was not set up {limit}.")
        return ModelError(f"The model gave no answer {limit}.")

    async def _set_up(self, state: State) -> State:
        state["timing"].setup.start = time.time()
        try:
            with doing(SETTING_UP):
                prepared = await maybe_await(self.setup_state(state))
            if isinstance(prepared, State):
                state = prepared
            state["prompt"] = normalize_messages(state["prompt"])
        except BaseException as error:
            self._record(state, error)
        state["timing"].setup.end = time.time()
        return state

    async def _take_turns(self, state: State) -> None:
        own = type(self).get_prompt_messages is MultiTurnEnv.get_prompt_messages
        loop = asyncio.get_running_loop()
        turn_of_others = loop.time() + LONGEST_HOLD_SECONDS
        while not await self._stopped(state):
            # Where neither model nor environment waits for anything, nobody else would ever run: no time limit, no Ctrl-C.
            if loop.time() > turn_of_others:
                await asyncio.sleep(0)
                turn_of_others = loop.time() + LONGEST_HOLD_SECONDS
            try:
                given = await self.get_prompt_messages(state)
                messages: Messages = given if own else normalize_messages(given)  # ty: ignore[invalid-assignment]
                if state["final_env_response"] is not None:
                    continue
                if not messages:
                    columns = ", ".join(key for key in state["input"] if key != "prompt")
                    raise ValueError(
                        f"There is nothing to ask the model: the row has neither prompt nor question (its columns: {columns}), "
                        "and setup_state has put no messages into state['prompt']."
                    )
                response = await self.get_model_response(state, messages)
                await self.add_model_response(state, messages, response)
            except BaseException as error:
                self._record(state, error)

    async def _stopped(self, state: State) -> bool:
        try:
            completed = await self.is_completed(state)
            if completed and not state["is_completed"]:  # a subclass has an `is_completed` of its own
                self._complete(state, "is_completed")
            return completed
        except BaseException as error:
            self._record(state, error)
            self._complete(state, "has_error")
            return True

    def _record(self, state: State, error: BaseException) -> None:
        if not ends_only_its_rollout(error):
            raise error
        if isinstance(error, OverlongPromptError):  # how the rollout ends, as with max_turns, and no failure
            state["prompt_too_long"] = state["is_truncated"] = True
        else:
            state["error"] = typed(error)
