"""Running many rollouts: how many at once, what is retried, what is scored together, what is written down.

`max_concurrent` counts rollouts. A rollout that fails becomes a row with an error and never disturbs another; only
what would fail every rollout ends a run early: a refused key, the same error again and again, a disk that takes no more.
Rollouts that are scored together are recorded as they end, not yet final, and become final together once scored.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifiers.clients.client import Client
from verifiers.clients.resolve import as_client
from verifiers.errors import Error, ModelAuthError, is_retriable, typed
from verifiers.evaluation.breaker import Breaker
from verifiers.evaluation.limits import Budget, LimitReached, Metered
from verifiers.evaluation.outputs import from_row, state_to_output, to_row
from verifiers.evaluation.tally import Progress
from verifiers.types import GenerateOutputs, RolloutOutput, RolloutTiming, State
from verifiers.utils.activity import ANOTHER_ATTEMPT, Activity, doing, follow
from verifiers.utils.async_utils import ends_only_its_rollout
from verifiers.utils.message_utils import normalize_messages

if TYPE_CHECKING:
    from prime_evals import Attempt, AttemptStore, Brief
    from verifiers.envs.environment import Environment

Key = tuple[Any, int]
LONGEST_WAIT_SECONDS = 60.0
RETRY = ("errored", "unscored")
NOT_HERE = frozenset({"push_to_hf_hub", "hf_hub_dataset_name"})
"""Options of the official library that have no meaning here."""
GROUP_COLUMNS = frozenset({"advantage", "trajectory", "token_steps"})
"""State columns that are known only once all rollouts of an example are scored."""


@dataclass(slots=True, kw_only=True)
class RunOptions:
    """The options of `generate` and `evaluate`.

    max_concurrent: rollouts at once, -1 for all. max_retries: further attempts for a rollout that ended with
    InfraError or InvalidModelResponseError. independent_scoring: score rollouts one by one even where group functions
    exist. state_columns: keys of the state that go into the rows, and `token_steps` (verifiers.training). save_results:
    record into `results_path`, or a new folder under ./outputs; a results_path that holds the same run is continued.
    retry: of a continued run play again what ended with an error ("errored") or without a reward ("unscored"), beside
    what is missing; earlier attempts stay recorded. stop_after_same_errors: end the run when so many rollouts, all from
    the first on, ended with the same error (`verifiers.evaluation.breaker`); 0 for never.
    on_start(total), on_progress(all outputs, new outputs, metadata), on_log(line): callbacks. slots: shared with other runs
    that go on at the same time, so that they play so many rollouts at once together. budget: what may be spent, which
    other runs may share too; when it is used up the run ends with what it has (`stopped`).
    """

    max_concurrent: int = -1
    max_retries: int = 0
    independent_scoring: bool = False
    state_columns: Sequence[str] | None = None
    save_results: bool = False
    results_path: str | Path | None = None
    retry: str | None = None
    stop_after_same_errors: int = 0
    retry_delay_seconds: float = 1.0
    on_start: Callable[[int], Any] | None = None
    on_progress: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None
    on_log: Callable[[str], Any] | None = None
    slots: asyncio.Semaphore | None = None
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if self.retry not in (None, *RETRY):
            raise ValueError(f"retry is 'errored' or 'unscored', not {self.retry!r}.")


@dataclass(slots=True)
class _Group:
    """The rollouts of one example that are still to come, and the finished states when they are scored together."""

    waiting: int = 0
    size: int = 0
    states: list[tuple[State, int]] = field(default_factory=list)


class Runner:
    """One run over `rows`. `outputs` holds what is finished, also when `run` was cancelled or ended early (`stopped`).

    keep_outputs: False keeps a `prime_evals.Brief` of each in memory and not the conversation. listener(progress, new outputs): called in the event loop whenever rollouts finish or are retried.
    """

    def __init__(
        self,
        env: Environment,
        rows: Iterable[Mapping[str, Any]],
        client: Any,
        model: str,
        sampling_args: Mapping[str, Any] | None = None,
        options: RunOptions | None = None,
        store: AttemptStore | None = None,
        listener: Callable[[Progress, list[RolloutOutput]], None] | None = None,
        keep_outputs: bool = True,
    ) -> None:
        self.env = env
        self.model = model
        self.sampling_args = dict(sampling_args or {})
        self.options = options or RunOptions()
        self.store = store
        self.listener = listener
        self.client: Client = as_client(client)
        if self.options.budget is not None:
            self.client = Metered(self.client, self.options.budget)
        self._own_client = not isinstance(client, Client)
        self.rows = number_rows(rows)
        self.keep_outputs = keep_outputs
        self.outputs: dict[Key, RolloutOutput | Brief] = {}
        self.stopped: Error | None = None
        self._breaker = Breaker(self.options.stop_after_same_errors)
        self._finishing = asyncio.Event()
        self.progress = Progress(total=len(self.rows))
        self.activities: dict[Key, Activity] = {}
        """What each rollout that is being played waits for."""
        grouped = env.rubric.has_group_functions() or bool(GROUP_COLUMNS & set(self.options.state_columns or ()))
        self.together = grouped and not self.options.independent_scoring
        self._groups: dict[Any, _Group] = {}
        self._unwritten: deque[list[Attempt]] = deque()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="attempts") if store is not None else None

    async def run(self) -> list[RolloutOutput]:
        """Play everything not recorded yet; the outputs by example, then rollout index.

        Raises RecordingFailed; on cancellation what is finished is recorded and in `outputs`.
        """
        self.progress.started_at = time.monotonic()
        todo = deque(self._still_to_do())
        for row in todo:
            group = self._groups.setdefault(row["example_id"], _Group())
            group.waiting += 1
            group.size += 1
        limit = self.options.max_concurrent
        count = len(todo) if limit < 1 else min(limit, len(todo))
        workers = [asyncio.create_task(self._work(todo)) for _ in range(count)]
        try:
            with self.client.heard_by(self._request_repeated):
                await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            # What is finished gets written also when a second Ctrl-C comes, or a connection does not close well.
            try:
                await asyncio.gather(*workers, return_exceptions=True)
                for group in self._groups.values():  # played, and never to be scored
                    for state, _ in group.states:
                        await self.env._release(state)
                if self._own_client:
                    await self.client.close()
            finally:
                if self._writer is not None:
                    with self._writer:
                        self._writer.submit(self._write).result()
        return self.ordered()

    def finish(self) -> None:
        """Begin no other rollout, and no other attempt: `run` ends with those that are being played."""
        self._finishing.set()

    def ordered(self) -> list[Any]:
        """The finished outputs, in the order of the rows; of what was to be played again and was not, the earlier ones."""
        earlier = {} if self.store is None else self.store.recorded
        found = []
        for row in self.rows:
            key = _key(row)
            if key in self.outputs:
                found.append(self.outputs[key])
            elif key in earlier:
                found.append(self._recorded(key))
        return found

    def _recorded(self, key: Key) -> RolloutOutput | Brief:
        """What the store holds of a rollout."""
        if self.store is None:
            raise KeyError(key)
        return from_row(self.store.read(key)) if self.keep_outputs else self.store.recorded[key]

    def _still_to_do(self) -> list[dict[str, Any]]:
        if self.store is None:
            return self.rows
        recorded = self.store.recorded
        wrong = {"errored": "error", "unscored": "reward"}.get(self.options.retry or "")
        left = set()
        for row in self.rows:
            found = recorded.get(key := _key(row))
            if found is None or (wrong and (found[wrong] is None) == (wrong == "reward")):
                left.add(key)
        # A group function needs all rollouts of its example, so a half-recorded group is played again.
        examples = {example for example, _ in left} if self.together else set()
        todo = []
        for row in self.rows:
            key = _key(row)
            if key in left or row["example_id"] in examples:
                todo.append(row)
                continue
            self.outputs[key] = self._recorded(key)
            self.progress.add(self.outputs[key])
            self.progress.resumed += 1
        return todo

    async def _work(self, todo: deque[dict[str, Any]]) -> None:
        # A slot is kept until nothing is left, so that of several runs the first is finished first.
        async with self.options.slots or nullcontext():
            while todo and self.stopped is None and not self._finishing.is_set():
                if (budget := self.options.budget) is not None and budget.reached:
                    self.stopped = LimitReached(budget.reached)
                    return
                row = todo.popleft()
                self.progress.running += 1
                try:
                    with follow(self.activities, _key(row)):
                        await self._play(row)
                finally:
                    self.progress.running -= 1

    async def _play(self, row: dict[str, Any]) -> None:
        before = 0 if self.store is None else self.store.tried.get(_key(row), 0)
        attempt = before
        while True:
            attempt += 1
            state = await self._rollout(row)
            error = state.get("error")
            if isinstance(error, ModelAuthError | LimitReached):
                self.stopped = self.stopped or error
                await self.env._release(state)
                await self._record([(state, attempt)], final=False)
                return
            if attempt - before > self.options.max_retries or not is_retriable(error):
                break
            self.progress.retries += 1
            delay = min(LONGEST_WAIT_SECONDS, self.options.retry_delay_seconds * 2 ** (attempt - before - 1))
            delay *= random.uniform(0.5, 1)
            self._log(f"Retrying example {row['example_id']} in {delay:.1f} s: {type(error).__name__}: {error}")
            await self.env._release(state)
            await self._record([(state, attempt)], final=False)
            self._tell([])
            with doing(ANOTHER_ATTEMPT, f"{type(error).__name__}: {error}"), suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._finishing.wait()
                    return
        # Episodes of one length end in waves: others are let through before the scoring and before the next beginning.
        try:
            await asyncio.sleep(0)
        finally:  # played, so recorded
            await self._finish(row, state, attempt)
        await asyncio.sleep(0)

    async def _rollout(self, row: dict[str, Any]) -> State:
        try:
            return await self.env.rollout(dict(row), self.client, self.model, self.sampling_args)
        except BaseException as error:
            if not ends_only_its_rollout(error):
                raise
            return failed_state(row, error)

    async def _finish(self, row: dict[str, Any], state: State, attempt: int) -> None:
        if not self.together:
            await self.env.score([state], as_group=False)
            await self._record([(state, attempt)], final=True)
            return
        group = self._groups[row["example_id"]]
        group.states.append((state, attempt))
        group.waiting -= 1
        if group.waiting:
            self.progress.unscored_yet += 1
        if self.store is not None and group.size > 1:  # for whatever happens before the others are there
            await self._record([(state, attempt)], final=False)
        if group.waiting == 0 and group.states:
            group.states.sort(key=lambda item: item[0]["rollout_index"])
            finished, group.states = group.states, []
            await self.env.score([state for state, _ in finished])
            self.progress.unscored_yet -= len(finished) - 1
            await self._record(finished, final=True)

    async def _record(self, finished: list[tuple[State, int]], final: bool) -> None:
        columns = self.options.state_columns or ()
        outputs = [state_to_output(state, columns if final else ()) for state, _ in finished]
        if self.store is not None and self._writer is not None:
            from prime_evals import Attempt

            attempts = [
                Attempt(output["example_id"], output["rollout_index"], to_row(output), attempt, final)
                for output, (_, attempt) in zip(outputs, finished, strict=True)
            ]
            self._unwritten.append(attempts)
            await asyncio.get_running_loop().run_in_executor(self._writer, self._write)
        if final:
            for (state, _), output in zip(finished, outputs, strict=True):
                self.outputs[(output["example_id"], output["rollout_index"])] = self._kept(output)
                self.progress.add(output)
                self.stopped = self.stopped or self._breaker.add(state.get("error"))
            self._tell(outputs)

    def _kept(self, output: RolloutOutput) -> RolloutOutput | Brief:
        if self.keep_outputs:
            return output
        from prime_evals import Brief

        found = None if self.store is None else self.store.recorded.get((output["example_id"], output["rollout_index"]))
        return Brief.of(output) if found is None else found

    def _write(self) -> None:
        """In the writer's one thread: everything that waits, in one append and one fsync."""
        batches: list[list[Attempt]] = []
        while self._unwritten:
            batches.append(self._unwritten.popleft())
        if batches and self.store is not None:
            self.store.append(*batches)

    def _tell(self, new: list[RolloutOutput]) -> None:
        if self.listener is not None:
            self.listener(self.progress, new)

    def _request_repeated(self, reason: str, wait: float) -> None:
        self.progress.request_retries += 1
        self.progress.last_request_retry = f"in {wait:.1f} s: {reason}"
        self._log(f"Asking the model again in {wait:.1f} s: {reason}")
        self._tell([])

    def _log(self, line: str) -> None:
        if self.options.on_log is not None:
            self.options.on_log(line)


def number_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with `example_id` and `rollout_index`: a repeated example counts up, whether or not its rows say so."""
    numbered = []
    seen: dict[Any, int] = {}
    for position, row in enumerate(rows):
        example = row.get("example_id", position)
        index = seen.get(example, 0)
        seen[example] = index + 1
        numbered.append({**row, "example_id": example, "rollout_index": index})
    return numbered


def failed_state(row: Mapping[str, Any], error: BaseException) -> State:
    """The state of a rollout that could not even begin."""
    try:
        prompt = normalize_messages(row.get("prompt"))
    except (TypeError, ValueError):
        prompt = []
    return State(
        input={**row, "prompt": prompt, "info": row.get("info") if isinstance(row.get("info"), dict) else {}},
        rollout_index=row.get("rollout_index", 0),
        trajectory=[],
        completion=[],
        error=typed(error),
        reward=None,
        metrics=None,
        is_completed=True,
        is_truncated=False,
        stop_condition="has_error",
        timing=RolloutTiming(),
    )


def _key(row: Mapping[str, Any]) -> Key:
    return (row["example_id"], row["rollout_index"])


class Reports:
    """Tells on_progress what is finished. Adding that up takes longer and longer in a long run: then several rollouts are
    told at once, so that it is never more than a small share of the run. clock: seconds.
    """

    REST = 20
    """How many times as long as it took nothing is told."""

    def __init__(
        self,
        listeners: Sequence[Callable[..., Any]],
        rollouts: int,
        threshold: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.listeners = list(listeners)
        self._rollouts, self._threshold, self._clock = rollouts, threshold, clock
        self._new: list[RolloutOutput] = []
        self._silent_until = -math.inf

    def add(self, finished: Mapping[Key, Any], new: Sequence[RolloutOutput], last: bool = False) -> None:
        """`new` is finished, too; `last`: nothing else will be."""
        from prime_evals import summarize

        self._new += new
        begun = self._clock()
        if not self._new or (begun < self._silent_until and not last):
            return
        everything, told = list(finished.values()), self._new
        self._new = []
        described = summarize(everything, self._rollouts, self._threshold)
        ended = self._clock()
        self._silent_until = ended + self.REST * (ended - begun)
        for listener in self.listeners:
            listener(everything, told, described)


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those of the official library that ask for nothing. Raises TypeError with a sentence."""
    known = [part.name for part in fields(RunOptions)]
    left = {name: value for name, value in options.items() if name in known or name not in NOT_HERE or value}
    for name in left:
        if name in NOT_HERE:
            raise TypeError(f"The option {name!r} is not here: results stay in files. Upload those of `results_path`.")
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = f", meant is perhaps {near[0]!r}" if near else f"; there are {', '.join(known)}"
            raise TypeError(f"A run has no option {name!r}{meant}.")
    return left


async def generate(
    env: Environment,
    inputs: Any,
    client: Any,
    model: str,
    sampling_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> GenerateOutputs:
    """See `Environment.generate`."""
    from prime_evals import summarize

    chosen = RunOptions(**_known(options))
    rows = number_rows(inputs)
    rollouts = max((row["rollout_index"] + 1 for row in rows), default=1)
    given = chosen.on_progress if isinstance(chosen.on_progress, Sequence) else [chosen.on_progress]
    reports = Reports([one for one in given if one is not None], rollouts, env.pass_threshold)
    store = None
    if chosen.retry and chosen.results_path is None:
        raise TypeError("The option 'retry' needs the results_path of the run that is to be continued.")
    if chosen.save_results or chosen.results_path is not None:
        from verifiers.evaluation.recording import open_store

        store = open_store(env, rows, model, sampling_args, chosen.results_path, chosen.state_columns)

    def report(progress: Progress, new: list[RolloutOutput]) -> None:
        reports.add(runner.outputs, new)

    listener = report if reports.listeners else None
    try:
        runner = Runner(env, rows, client, model, sampling_args, chosen, store, listener)
        if chosen.on_start is not None:
            chosen.on_start(len(rows))
        outputs = await runner.run()
        reports.add(runner.outputs, [], last=True)
    finally:
        if store is not None:
            from verifiers.evaluation.recording import close_store

            close_store(store)
    if runner.stopped is not None and not isinstance(runner.stopped, LimitReached):
        raise runner.stopped
    examples = len({row["example_id"] for row in rows})
    described = {"env_id": env.env_id, "env_args": env.env_args, "model": model, "num_examples": examples}
    described |= {"rollouts_per_example": rollouts, "sampling_args": dict(sampling_args or {})}
    described |= summarize(outputs, rollouts, env.pass_threshold)
    return GenerateOutputs(outputs=outputs, metadata=described)
