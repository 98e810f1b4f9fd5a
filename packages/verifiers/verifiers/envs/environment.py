"""Environment: a dataset, a way to roll out, a rubric to score with."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from types import MappingProxyType
from typing import Any, Self

from verifiers.data import as_table, decode_info, format_dataset
from verifiers.decorators import marked
from verifiers.errors import ScoringTimeoutError, is_unscored, typed
from verifiers.parsers.parser import Parser
from verifiers.rubrics.rubric import Rubric
from verifiers.rubrics.rubric_group import RubricGroup
from verifiers.types import (
    GenerateOutputs,
    Messages,
    Response,
    RolloutInput,
    RolloutOutput,
    RolloutTiming,
    State,
    TimeSpan,
)
from verifiers.utils.activity import MODEL, SCORING, doing
from verifiers.utils.async_utils import (
    call_all,
    ends_only_its_rollout,
    maybe_await,
    maybe_call_with_named_args,
)
from verifiers.utils.message_utils import normalize_messages, normalize_tool
from verifiers.utils.usage import count_usage

DEFAULT_SCORING_TIMEOUT_SECONDS = 600.0
_begun: ContextVar[list[State] | None] = ContextVar("begun", default=None)


@contextmanager
def begun() -> Generator[list[State]]:
    """The states that rollouts of this task begin with within the block, for whoever has to clean up after a cancelled one."""
    states: list[State] = []
    outer = _begun.get()
    token = _begun.set(states)
    try:
        yield states
    finally:
        _begun.reset(token)
        if outer is not None:
            outer += states


class Environment(ABC):
    """Base of all environments. Constructing one starts nothing, reads nothing and works in any thread.

    dataset, eval_dataset: a list of dicts, a RowTable, a `datasets.Dataset`, or a function without arguments that
    returns one (called when first needed). system_prompt, few_shot: put in front of the prompts. rubric: scores a
    rollout. sampling_args: defaults for the model call. tool_defs: tools shown to the model. max_workers: threads for
    `asyncio.to_thread` in runs that have their own event loop. max_seq_len: the tokens of a
    step, prompt and completion, are cut to so many. score_rollouts: False gives reward 0.0 without scoring. pass_threshold: a reward from which a rollout counts as passed.
    scoring_timeout_seconds: limit for scoring one rollout or group. Other keyword arguments become attributes.
    """

    def __init__(
        self,
        dataset: Any = None,
        eval_dataset: Any = None,
        system_prompt: str | None = None,
        few_shot: list[Any] | None = None,
        parser: Parser | None = None,
        rubric: Rubric | None = None,
        sampling_args: Mapping[str, Any] | None = None,
        tool_defs: Sequence[Any] | None = None,
        max_workers: int = 512,
        env_id: str | None = None,
        env_args: Mapping[str, Any] | None = None,
        map_kwargs: Mapping[str, Any] | None = None,
        max_seq_len: int | None = None,
        score_rollouts: bool = True,
        pass_threshold: float = 0.5,
        scoring_timeout_seconds: float | None = DEFAULT_SCORING_TIMEOUT_SECONDS,
        **kwargs: Any,
    ) -> None:
        if dataset is None and eval_dataset is None:
            raise ValueError("Either dataset or eval_dataset must be provided")
        self.logger = logging.getLogger(f"verifiers.{type(self).__name__}")
        self.system_prompt = system_prompt
        self.few_shot = few_shot
        self.parser = parser or Parser()
        self.rubric = rubric or Rubric(parser=self.parser)
        if isinstance(rubric, RubricGroup):  # to which `add_rubric` adds: other environments may have the same group
            self.rubric = copy(rubric)
            self.rubric.rubrics = list(rubric.rubrics)
        given = dict(sampling_args or {})
        self.sampling_args = {"n": 1, **given, "extra_body": dict(given.get("extra_body") or {})}
        older_tools = kwargs.pop("oai_tools", None)
        self.tool_defs = [normalize_tool(tool) for tool in tool_defs or older_tools or ()]
        self.max_workers = max_workers
        self.env_id = env_id or ""
        self.env_args = dict(env_args or {})
        self.map_kwargs = dict(map_kwargs or {})
        self.max_seq_len = max_seq_len
        self.score_rollouts = score_rollouts
        self.pass_threshold = pass_threshold
        self.scoring_timeout_seconds = scoring_timeout_seconds
        self.set_kwargs(**kwargs)
        self._train = self._prepared(dataset)
        self._eval = self._prepared(eval_dataset)

    def set_kwargs(self, **kwargs: Any) -> None:
        """Set attributes, through `set_<name>` where the class has such a method."""
        for name, value in kwargs.items():
            setter = getattr(self, f"set_{name}", None)
            if callable(setter):
                setter(value)
            else:
                setattr(self, name, value)

    def set_max_seq_len(self, max_seq_len: int | None) -> None:
        """Cut the tokens of a step to so many from now on; None for no limit."""
        self.max_seq_len = max_seq_len

    def set_score_rollouts(self, score_rollouts: bool) -> None:
        """Whether rollouts are scored from now on."""
        self.score_rollouts = score_rollouts

    def add_rubric(self, rubric: Rubric) -> None:
        """Score with `rubric` as well; rewards add up."""
        if isinstance(self.rubric, RubricGroup):
            self.rubric.rubrics.append(rubric)
        else:
            self.rubric = RubricGroup(rubrics=[self.rubric, rubric])

    # Datasets

    def _prepared(self, dataset: Any) -> Any:
        if dataset is None or callable(dataset):
            return dataset
        return format_dataset(as_table(dataset), self.system_prompt, self.few_shot, self.map_kwargs)

    @property
    def dataset(self) -> Any:
        """The training rows, formatted; None when there are only evaluation rows."""
        if callable(self._train):
            self._train = self._prepared(self._train())
        return self._train

    @dataset.setter
    def dataset(self, dataset: Any) -> None:
        self._train = self._prepared(dataset)

    @property
    def eval_dataset(self) -> Any:
        """The evaluation rows, formatted; None when there are only training rows."""
        if callable(self._eval):
            self._eval = self._prepared(self._eval())
        return self._eval

    @eval_dataset.setter
    def eval_dataset(self, dataset: Any) -> None:
        self._eval = self._prepared(dataset)

    def get_dataset(self, n: int = -1, seed: int | None = None) -> Any:
        """Training rows: shuffled by `seed` (and kept so) when given, the first `n` when n > 0."""
        if self.dataset is None:
            raise ValueError("This environment has no training dataset, only an eval_dataset.")
        if seed is not None:
            self._train = self.dataset.shuffle(seed=seed)
        return _first(self.dataset, n)

    def get_eval_dataset(self, n: int = -1, seed: int | None = None) -> Any:
        """Evaluation rows, as get_dataset; the training rows where there are none."""
        if self.eval_dataset is None:
            self.logger.info("eval_dataset is not set, falling back to train dataset")
            return self.get_dataset(n, seed)
        if seed is not None:
            self._eval = self.eval_dataset.shuffle(seed=seed)
        return _first(self.eval_dataset, n)

    # One rollout

    async def init_state(
        self,
        input: RolloutInput | Mapping[str, Any],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
    ) -> State:
        """A fresh state for one row of the dataset."""
        from verifiers.clients.resolve import as_client

        row = dict(input)
        if row.get("prompt") is None:  # of nobody's dataset yet
            row["prompt"] = self._prepared([row])[0]["prompt"]
        # The rollout's own: what it writes into them must not reach the others of this row.
        row["prompt"] = [message.model_copy() for message in normalize_messages(row.get("prompt"))]
        row["info"] = _own(decode_info(row.get("info")))
        row.setdefault("example_id", 0)
        row.setdefault("answer", "")
        tools = row["info"].get("tool_defs") or row["info"].get("oai_tools") or self.tool_defs
        usage = {"input_tokens": 0, "output_tokens": 0, "final_input_tokens": 0, "final_output_tokens": 0}
        state = State(
            input=row,
            task=row.get("task") or {key: value for key, value in row.items() if key != "prompt"},
            rollout_index=row.get("rollout_index", 0),
            client=as_client(client),
            model=model,
            sampling_args={**self.sampling_args, **(sampling_args or {})},
            is_completed=False,
            is_truncated=False,
            tool_defs=[normalize_tool(tool) for tool in tools],
            trajectory=[],
            completion=None,
            usage_tracker=usage,
            usage=MappingProxyType(usage),
            trajectory_id=uuid.uuid4().hex,
            reward=None,
            metrics=None,
            error=None,
            final_env_response=None,
            prompt_too_long=False,
            timing=RolloutTiming(),
        )
        if (states := _begun.get()) is not None:
            states.append(state)
        return state

    @abstractmethod
    async def rollout(
        self,
        input: RolloutInput | Mapping[str, Any],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
    ) -> State:
        """Play one row to its end. Failures are in `state["error"]`, never raised."""

    async def get_model_response(
        self,
        state: State,
        prompt: Messages,
        client: Any = None,
        model: str | None = None,
        tool_defs: Sequence[Any] | None = None,
        sampling_args: Mapping[str, Any] | None = None,
        **older: Any,
    ) -> Response:
        """Ask the model; None for what is the rollout's own. `oai_tools` is another name of tool_defs.

        Raises what `Client.get_response` raises.
        """
        if unknown := sorted(older.keys() - {"oai_tools", "message_type"}):
            raise TypeError(f"get_model_response() has no argument {unknown[0]!r}.")
        if client is not None:
            from verifiers.clients.resolve import as_client

            client = as_client(client)
        given = older.get("oai_tools") if tool_defs is None else tool_defs
        tools = state["tool_defs"] if given is None else [normalize_tool(tool) for tool in given]
        span = TimeSpan(start=time.time())
        state["timing"].model.spans.append(span)
        try:
            with doing(MODEL):
                response: Response = await (client or state["client"]).get_response(
                    prompt=prompt,
                    model=state["model"] if model is None else model,
                    sampling_args=state["sampling_args"] if sampling_args is None else sampling_args,
                    tools=tools or None,
                    state=state,
                )
        finally:
            span.end = time.time()
        count_usage(state["usage_tracker"], response)
        return response

    async def _cleanup(self, state: State) -> None:
        handlers = marked(self, "cleanup")
        await self._all("Cleanup", handlers, lambda one: maybe_call_with_named_args(one, state=state, env=self))

    async def _teardown(self) -> None:
        """Let go of everything the environment holds: the rubric's teardown first, then `@vf.teardown` methods."""
        handlers = [self.rubric.teardown, *marked(self, "teardown")]
        await self._all("Teardown", handlers, lambda one: maybe_await(one()))

    async def _release(self, state: State) -> None:
        """The rubric lets go of what it holds for a rollout: after scoring, or instead of it."""
        await self._all("Cleanup", [self.rubric.cleanup], lambda one: one(state))

    async def _all(self, what: str, handlers: Sequence[Any], call: Callable[[Any], Awaitable[Any]]) -> None:
        await call_all(handlers, call, what, self.logger)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._teardown()

    # Scoring

    async def score(self, states: list[State], as_group: bool = True) -> None:
        """Score finished rollouts of one example; those that say nothing about the model keep reward None.

        as_group: together, with group reward functions and advantages; otherwise one by one.
        """
        scorable = []
        for state in states:
            state["reward"], state["metrics"] = None, None
            if not is_unscored(state.get("error")):
                scorable.append(state)
        started = time.time()
        try:
            with doing(SCORING):
                async with asyncio.timeout(self.scoring_timeout_seconds) as limit:
                    await self._score(scorable, as_group)
        except BaseException as error:
            if not ends_only_its_rollout(error):
                raise
            # A rubric's own call may time out too, long before ours.
            if isinstance(error, TimeoutError) and limit.expired():
                seconds = f"{self.scoring_timeout_seconds:g} seconds (scoring_timeout_seconds)"
                error = ScoringTimeoutError(f"Scoring took longer than {seconds}.")
            self._spoil(scorable, error)
        finally:
            ended = time.time()
            for state in states:
                state["timing"].scoring.start, state["timing"].scoring.end = started, ended
            await self._all("Cleanup", states, self._release)

    async def _score(self, states: list[State], as_group: bool) -> None:
        if not self.score_rollouts:
            for state in states:
                state["reward"], state["metrics"] = 0.0, {}
        elif not as_group:
            for state in states:
                await self.rubric.score_rollout(state)
        elif states:
            await self.rubric.score_group(states)

    def _spoil(self, states: list[State], error: BaseException) -> None:
        for state in states:
            state["reward"], state["metrics"], state["error"] = None, None, typed(error)

    # Runs

    async def run_rollout(
        self,
        input: RolloutInput | Mapping[str, Any],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        max_retries: int = 0,
        state_columns: Sequence[str] | None = None,
    ) -> RolloutOutput:
        """One scored rollout as an output row."""
        options = {"max_retries": max_retries, "state_columns": state_columns, "independent_scoring": True}
        return (await self.generate([input], client, model, sampling_args, **options))["outputs"][0]

    async def run_group(
        self,
        group_inputs: Sequence[RolloutInput | Mapping[str, Any]],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        max_retries: int = 0,
        state_columns: Sequence[str] | None = None,
    ) -> list[RolloutOutput]:
        """The rollouts of one example, scored as a group."""
        options = {"max_retries": max_retries, "state_columns": state_columns}
        return (await self.generate(list(group_inputs), client, model, sampling_args, **options))["outputs"]

    async def generate(
        self, inputs: Any, client: Any, model: str, sampling_args: Mapping[str, Any] | None = None, **options: Any
    ) -> GenerateOutputs:
        """Roll out and score rows; options: the fields of `verifiers.evaluation.runner.RunOptions`.

        Failing rollouts are rows with an `error`. Raises ModelAuthError when the endpoint refuses the key, and
        RepeatedError where `stop_after_same_errors` asks for it. What the
        environment holds (servers, sandboxes) stays for the next call; `async with env:` or `await env._teardown()`
        lets go of it.
        """
        from verifiers.evaluation.runner import generate

        return await generate(self, inputs, client, model, sampling_args, **options)

    async def evaluate(
        self,
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        num_examples: int = -1,
        rollouts_per_example: int = 1,
        **options: Any,
    ) -> GenerateOutputs:
        """`generate` over the first `num_examples` evaluation rows, `rollouts_per_example` times each."""
        rows = [
            {**row, "rollout_index": i}
            for row in self.get_eval_dataset(num_examples)
            for i in range(rollouts_per_example)
        ]
        return await self.generate(rows, client, model, sampling_args, **options)

    def generate_sync(self, *args: Any, **kwargs: Any) -> GenerateOutputs:
        """`generate` for code without an event loop; tears down at the end."""
        return _run_sync(self, self.generate, args, kwargs)

    def evaluate_sync(self, *args: Any, **kwargs: Any) -> GenerateOutputs:
        """`evaluate` for code without an event loop; tears down at the end."""
        return _run_sync(self, self.evaluate, args, kwargs)


def _own(value: Any) -> Any:
    """A copy of the dicts and lists in `value`; everything else as it is."""
    if type(value) is dict:
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if type(value) is list else value


def _first(dataset: Any, n: int) -> Any:
    return dataset.select(range(min(n, len(dataset)))) if n > 0 else dataset


def _run_sync(env: Environment, function: Callable[..., Any], args: Any, kwargs: Any) -> GenerateOutputs:
    from verifiers.utils.loop import run as run_loop

    async def run() -> GenerateOutputs:
        async with env:
            return await function(*args, **kwargs)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_loop(run(), env.max_workers)
    # Inside a notebook's loop: a thread with a loop of its own.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: run_loop(run(), env.max_workers)).result()
