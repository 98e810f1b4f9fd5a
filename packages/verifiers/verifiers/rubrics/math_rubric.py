"""MathRubric: is the boxed answer the same mathematics as the known one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from verifiers.errors import InfraError
from verifiers.parsers.parser import Parser
from verifiers.parsers.think_parser import MaybeThinkParser
from verifiers.rubrics.rubric import Rubric
from verifiers.utils import math_worker
from verifiers.utils.data_utils import extract_boxed_answer
from verifiers.utils.worker_pool import WorkerDied, WorkerNotStarted, WorkerPool, WorkerTimeout


class MathRubric(Rubric):
    """Adds `correct_answer`: 1.0 when math-verify finds the parsed completion equal to `answer`.

    parser: default the last `\\boxed{…}` after any thinking. max_workers: processes that compare, never more than
    there are processors. timeout_seconds: for reading an answer, and for comparing; what takes longer counts 0.0. A
    process that does not keep to it is killed after three times that, and replaced. max_verify_chars: longer answers count 0.0 unread. Needs the extra `verifiers[math]`.
    """

    HARD_TIMEOUT_SECONDS = 120.0
    """How long a process may take to start."""
    MAX_VERIFY_CHARS = 50_000

    def __init__(
        self,
        funcs: Sequence[Callable[..., Any]] | None = None,
        weights: Sequence[float] | None = None,
        parser: Parser | None = None,
        max_workers: int = 8,
        timeout_seconds: float = 5,
        max_verify_chars: int = MAX_VERIFY_CHARS,
    ) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise ImportError("MathRubric needs the package math-verify: pip install 'verifiers[math]'")
        if timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds must be more than 0, not {timeout_seconds}.")
        super().__init__(funcs, weights, parser or MaybeThinkParser(_boxed))
        self.timeout_seconds = timeout_seconds
        self.max_verify_chars = max_verify_chars
        workers = min(max_workers, os.cpu_count() or 1)
        self._pool = WorkerPool(Path(math_worker.__file__), workers, self.HARD_TIMEOUT_SECONDS)
        self.add_reward_func(self.correct_answer)

    async def correct_answer(self, parser: Parser, completion: Any, answer: Any) -> float:
        """1.0 for an equal answer, else 0.0. Raises InfraError, which leaves the rollout unscored, when no process
        can be started to compare.
        """
        said = str(parser.parse_answer(completion) or "")
        gold = str(answer)
        if not said:
            return 0.0
        if max(len(said), len(gold)) > self.max_verify_chars:
            self.logger.warning("An answer of %d characters is not compared; max_verify_chars is %d.", len(said),
                                self.max_verify_chars)  # fmt: skip
            return 0.0
        question = {"gold": gold, "said": said, "seconds": self.timeout_seconds}
        try:
            # Two to read, one to compare.
            return float((await self._pool.ask(question, 3 * self.timeout_seconds + 1))["equal"])
        except (WorkerTimeout, WorkerDied) as error:
            self.logger.warning("Comparing %.80r with %.80r: %s", said, gold, error)
            return 0.0
        except WorkerNotStarted as error:
            raise InfraError(f"No process for comparing mathematics: {error}") from error

    async def teardown(self) -> None:
        """End the processes; they are started again when they are needed."""
        self._pool.close()
        await super().teardown()


def _boxed(text: str) -> str:
    return extract_boxed_answer(text, strict=True)
