"""Playing one or several evaluations in one event loop: their slots, their limits, their end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prime_evals import AttemptStore, EvalsError, derive
from verifiers.cli.eval_arguments import Command
from verifiers.cli.eval_plan import Plan
from verifiers.errors import Error, RepeatedError
from verifiers.evaluation.ending import Ending, finish
from verifiers.evaluation.limits import Budget, LimitReached
from verifiers.evaluation.outputs import StateColumnError
from verifiers.evaluation.overview import told_apart
from verifiers.evaluation.progress import PlainView, view
from verifiers.evaluation.report import scored_in_vain
from verifiers.evaluation.runner import Runner, RunOptions
from verifiers.evaluation.standing import Watched
from verifiers.utils.loop import run
from verifiers.utils.urls import shown_url

SECONDS_BETWEEN_BEATS = 60.0


@dataclass(slots=True)
class Game:
    """A plan that is played: `failure` is what ended it, where it did not end by itself."""

    plan: Plan
    runner: Runner
    store: AttemptStore | None
    failure: Exception | None = None
    summary: dict[str, Any] | None = None
    """`prime_evals.summarize` of what was played, once that is over."""

    @property
    def results(self) -> Path | None:
        """The folder of what is recorded."""
        return None if self.store is None else self.store.directory

    @property
    def limit(self) -> LimitReached | None:
        """The limit that ended it, if one did."""
        return self.runner.stopped if isinstance(self.runner.stopped, LimitReached) else None

    @property
    def trouble(self) -> str:
        """Why it is no good run, in a sentence; "" for a good one, and for one that a limit has ended."""
        failure = self.failure or (self.runner.stopped if self.limit is None else None)
        if failure is not None:
            return f"{str(failure) or type(failure).__name__}{self._go_on(failure)}"
        if self.runner.outputs and not self.runner.progress.scored:
            return "No rollout could be scored; the errors above say why."
        return scored_in_vain(list(self.runner.outputs.values()))

    def _go_on(self, failure: Exception) -> str:
        """How a run goes on that was ended because it was in vain."""
        if not isinstance(failure, RepeatedError):
            return ""
        again = "" if self.results is None else f", and then continue with --resume {self.results} --retry errored"
        return f" Mend that{again}; --stop-after 0 plays on all the same."


def new_game(
    plan: Plan, store: AttemptStore | None, command: Command, slots: asyncio.Semaphore | None, budget: Budget
) -> Game:
    """The plan, ready to be played."""
    arguments = plan.arguments
    limits = [one for one in (arguments.max_concurrent, command.max_concurrent) if one > 0]
    limited = command.max_cost is not None or command.max_tokens_total is not None
    options = RunOptions(
        max_concurrent=min(limits, default=-1),
        max_retries=arguments.max_retries,
        independent_scoring=arguments.independent_scoring,
        state_columns=arguments.state_columns,
        retry=arguments.retry,
        stop_after_same_errors=arguments.stop_after,
        on_log=lambda text: print(text, file=sys.stderr) if command.verbose else None,
        slots=slots,
        budget=budget if limited else None,
    )
    runner = Runner(
        plan.env,
        plan.rows,
        plan.model.client,
        plan.model.model,
        arguments.sampling_args,
        options,
        store,
        keep_outputs=False,
    )
    return Game(plan, runner, store)


def play(games: Sequence[Game], command: Command, ending: Ending) -> None:
    """Play all to their end, or to that of a signal; what is finished is recorded, and the official files are written."""
    threads = max(game.plan.env.max_workers for game in games)
    with contextlib.suppress(KeyboardInterrupt):  # counted in `ending`
        run(_play_all(games, command, ending), threads)
    ending.ends(None)
    for game in games:
        if game.store is None:
            continue
        game.store.close()
        try:
            derive(game.store.directory)
        except EvalsError as error:
            game.failure = game.failure or error


async def _play_all(games: Sequence[Game], command: Command, ending: Ending) -> None:
    ending.ends(asyncio.current_task(), lambda: finish([game.runner for game in games]))
    watched = [Watched(name, game.runner.progress, game.runner.activities) for name, game in _named(games)]
    plain = command.disable_tui or command.output == "plain"
    async with _beating(command.heartbeat_url):
        with PlainView(watched, sys.stderr) if plain else view(watched):
            left = {asyncio.create_task(_play(game)) for game in games}
            while left:
                try:
                    _, left = await asyncio.wait(left)
                except asyncio.CancelledError:  # each further one cuts short what they do at their end
                    for task in left:
                        task.cancel()


def _named(games: Sequence[Game]) -> Iterator[tuple[str, Game]]:
    """Each under the name of its environment, with the arguments in which several of one differ, else a number."""
    told = told_apart([game.plan.identity.to_dict() for game in games])
    names = Counter(told)
    seen: Counter[str] = Counter()
    for name, game in zip(told, games, strict=True):
        seen[name] += 1
        yield (f"{name} {seen[name]}" if names[name] > 1 else name), game


async def _play(game: Game) -> None:
    try:
        await game.runner.run()
    except Exception as error:  # the others go on
        if not isinstance(error, EvalsError | StateColumnError | Error):
            logging.getLogger("verifiers").error("The run of %s failed.", game.plan.origin.name, exc_info=error)
        game.failure = error
    finally:
        await game.plan.env._teardown()


@asynccontextmanager
async def _beating(url: str | None) -> AsyncGenerator[None]:
    """Meanwhile GET `url` every minute, so that somebody else notices when this stops."""
    if url is None:
        yield
        return
    task = asyncio.create_task(_beat(url))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _beat(url: str) -> None:
    import httpx

    told = False
    async with httpx.AsyncClient(timeout=10, follow_redirects=True) as client:
        while True:
            try:
                (await client.get(url)).raise_for_status()
            except httpx.HTTPError as error:
                if not told:
                    reason = str(error) or type(error).__name__
                    print(f"Note: no heartbeat reached {shown_url(url)}: {reason.splitlines()[0]}", file=sys.stderr)
                told = True
            await asyncio.sleep(SECONDS_BETWEEN_BEATS)
