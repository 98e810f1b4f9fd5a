"""ReasoningGymEnv: the procedural datasets of reasoning-gym, scored by reasoning-gym."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verifiers.data import RowTable
from verifiers.envs.singleturn_env import SingleTurnEnv
from verifiers.parsers.parser import Parser
from verifiers.parsers.xml_parser import XMLParser
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages
from verifiers.utils.optional import require

REQUIREMENT = ("reasoning_gym", "ReasoningGymEnv", "reasoning-gym>=0.1.20,<0.2", "reasoning-gym")


class ReasoningGymEnv(SingleTurnEnv):
    """One question, one answer. Rows are made when they are first asked for; the same seed makes the same rows.

    gym: a dataset's name; or several, drawn from with equal weight; or mappings with `name` and, where wanted, `weight`
        and `config` (the dataset's own options). A row's `answer` is its number in the dataset, its `info` has
        `source_dataset` and `seed`.
    num_train_examples, num_eval_examples: the first rows are for training, those after them for evaluation.
    system_prompt: default reasoning-gym's, which asks for <answer> tags. parser: finds the answer in the reply.

    Rewards: `check_answer`, what reasoning-gym scores; `format_reward_func` is a metric. Raises ImportError without the
    library, ValueError for a dataset that it does not have.
    """

    def __init__(
        self,
        gym: str | Sequence[str | Mapping[str, Any]],
        num_train_examples: int = 1000,
        num_eval_examples: int = 100,
        system_prompt: str | None = None,
        parser: Parser | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        require(*REQUIREMENT)
        if num_train_examples < 0 or num_eval_examples < 0 or num_train_examples + num_eval_examples == 0:
            raise ValueError(
                "ReasoningGymEnv needs num_train_examples or num_eval_examples above 0, and neither below."
            )
        self.gym, self.seed = gym, seed
        self.rg_dataset = _dataset(gym, num_train_examples + num_eval_examples, seed)
        parser = parser or XMLParser(["answer"])
        rubric = Rubric(funcs=[self.check_answer, parser.get_format_reward_func()], weights=[1.0, 0.0], parser=parser)
        if (given := kwargs.pop("rubric", None)) is not None:
            rubric = given
        end = num_train_examples + num_eval_examples
        super().__init__(
            dataset=(lambda: self._rows(0, num_train_examples)) if num_train_examples else None,
            eval_dataset=(lambda: self._rows(num_train_examples, end)) if num_eval_examples else None,
            system_prompt=_default_prompt() if system_prompt is None else system_prompt,
            parser=parser,
            rubric=rubric,
            **kwargs,
        )

    def _rows(self, start: int, end: int) -> RowTable:
        rows = []
        for number in range(start, end):
            entry = self.rg_dataset[number]
            source = entry.get("metadata", {}).get("source_dataset", self.gym)
            rows.append(
                {
                    "question": entry["question"],
                    "answer": str(number),
                    "info": {"source_dataset": source, "seed": self.seed},
                }
            )
        return RowTable(rows)

    def check_answer(self, completion: Messages, answer: str) -> float:
        """What reasoning-gym scores the reply to row `answer` with, from 0 to 1."""
        found = self.parser.parse_answer(completion)
        return float(self.rg_dataset.score_answer(answer=found, entry=self.rg_dataset[int(answer)]))


def _default_prompt() -> str:
    return str(require("reasoning_gym.utils", *REQUIREMENT[1:]).SYSTEM_PROMPTS["default"])


def _dataset(gym: str | Sequence[str | Mapping[str, Any]], size: int, seed: int) -> Any:
    """The procedural dataset of that many entries. Raises ValueError for a name that is none."""
    factory = require("reasoning_gym.factory", *REQUIREMENT[1:])
    composite = require("reasoning_gym.composite", *REQUIREMENT[1:])
    given = [gym] if isinstance(gym, str) else list(gym)
    wanted = [{"name": item} if isinstance(item, str) else dict(item) for item in given]
    if not wanted:
        raise ValueError("ReasoningGymEnv needs the name of one dataset at least (gym).")
    for item in wanted:
        if (name := item.get("name")) not in factory.DATASETS:
            raise ValueError(f"reasoning-gym has no dataset {name!r}; it has: {', '.join(sorted(factory.DATASETS))}.")
    if isinstance(gym, str):
        return factory.create_dataset(gym, size=size, seed=seed)
    specs = [
        composite.DatasetSpec(
            name=item["name"], weight=float(item.get("weight", 1)), config=dict(item.get("config") or {})
        )
        for item in wanted
    ]
    return factory.create_dataset("composite", size=size, seed=seed, datasets=specs)
